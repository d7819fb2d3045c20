//! The two functions that turn bytes into a number: CRC-32 for integrity, SipHash-2-4 for names.

/// CRC-32 (IEEE 802.3, as zlib's `crc32`) of `bytes`.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes);
    hasher.finalize()
}

/// CRC-32 of several slices, as if they were one.
pub fn crc32_parts(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// SipHash-2-4 of `bytes` under a 16-byte key (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012).
pub fn siphash(key: &[u8; 16], bytes: &[u8]) -> u64 {
    let word = |chunk: &[u8]| {
        let mut buffer = [0u8; 8];
        for (to, from) in buffer.iter_mut().zip(chunk) {
            *to = *from;
        }
        u64::from_le_bytes(buffer)
    };
    let (k0, k1) = (word(&key[..8]), word(&key[8..]));
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let chunks = bytes.chunks_exact(8);
    let last = word(chunks.remainder()) | ((bytes.len() as u64) << 56);
    for m in chunks.map(word).chain(core::iter::once(last)) {
        v[3] ^= m;
        round(&mut v);
        round(&mut v);
        v[0] ^= m;
    }
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_has_the_standard_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32_parts(&[b"1234", b"", b"56789"]), 0xcbf4_3926);
    }

    #[test]
    fn siphash_equals_the_paper_and_the_reference_vectors() {
        let key: [u8; 16] = core::array::from_fn(|i| i as u8);
        let input: [u8; 15] = core::array::from_fn(|i| i as u8);
        assert_eq!(siphash(&key, &input), 0xa129_ca61_49be_45e5);
        assert_eq!(siphash(&key, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(siphash(&key, &input[..8]), 0x93f5_f579_9a93_2462);
    }
}
