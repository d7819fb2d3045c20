//! UUIDs: as text, drawn at random, and the hash seed that follows from one.

use std::fs::File;
use std::io::{self, Read};

/// The sixteen bytes that `text` (8-4-4-4-12 hexadecimal digits) means.
pub fn parse(text: &str) -> Result<[u8; 16], String> {
    let wrong = || format!("`{text}` is no UUID: give 8-4-4-4-12 hexadecimal digits, or `random`");
    let groups: Vec<&str> = text.split('-').collect();
    if !groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) {
        return Err(wrong());
    }
    let digits: Option<Vec<u8>> =
        groups.concat().chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect();
    let digits = digits.ok_or_else(wrong)?;
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks(2)) {
        *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
    }
    Ok(uuid)
}

/// As text.
pub fn display(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A random one, version 4 of RFC 9562.
pub fn random() -> io::Result<[u8; 16]> {
    let mut uuid = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut uuid)?;
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(uuid)
}

/// The key of a volume's name hashes: a function of its UUID, so that the same UUID gives the same bytes.
pub fn hash_seed(uuid: &[u8; 16]) -> [u8; 16] {
    let (mut state, mut seed) = (0_u64, [0; 16]);
    for half in uuid.chunks_exact(8) {
        state = splitmix(state ^ half.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }
    for half in seed.chunks_exact_mut(8) {
        state = splitmix(state);
        half.copy_from_slice(&state.to_le_bytes());
    }
    seed
}

// One step of splitmix64 (Steele, Lea and Flood, 2014).
fn splitmix(state: u64) -> u64 {
    let mut word = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let text = "01234567-89ab-cdef-0123-456789abcdef";
        assert_eq!(display(&parse(text).unwrap()), text);
        assert_eq!(parse(&text.to_uppercase()).unwrap(), parse(text).unwrap());
        for wrong in ["", "0123", &text[1..], &text.replace('a', "g"), &text.replace('-', "")] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn random_ones_differ_and_say_their_version() {
        let (one, two) = (random().unwrap(), random().unwrap());
        assert_ne!(one, two);
        assert_eq!((one[6] >> 4, one[8] >> 6), (4, 2));
    }

    #[test]
    fn seeds_follow_from_every_byte() {
        let seed = hash_seed(&[0; 16]);
        assert_eq!(seed, hash_seed(&[0; 16]));
        for index in 0..16 {
            let mut uuid = [0; 16];
            uuid[index] = 1;
            assert_ne!(hash_seed(&uuid), seed);
        }
    }
}
