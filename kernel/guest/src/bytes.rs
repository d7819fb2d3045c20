//! Bytes from a seed.

/// Bytes that look random, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(len);
    bytes
}

/// A vector of floats between -1 and 1, as bytes.
pub fn floats(seed: u64, dimensions: usize) -> Vec<u8> {
    let whole = noise(seed, dimensions * 2);
    let pairs = whole.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
    pairs.flat_map(|value| (f32::from(value) / 32768.0).to_le_bytes()).collect()
}
