//! The integer arithmetic against the floats of this machine.

use std::vec::Vec;

use super::single::Single;
use super::*;

extern crate std;

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Bits that look random: splitmix64 (Steele, Lea, Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Vectors of many sizes of numbers, with zeros, denormal numbers and ties among them.
    fn vector(&mut self, dimensions: usize) -> Vec<f32> {
        let size = 2_f32.powi((self.next() % 200) as i32 - 98);
        let value = |bits: u64| match bits % 16 {
            0 => 0.0,
            1 => -0.0,
            2 => f32::from_bits(bits as u32 >> 20),
            3 => size * (bits >> 32 & 0xff) as f32,
            _ => size * ((bits >> 40) as f32 / 8_388_608.0 - 1.0),
        };
        (0..dimensions).map(|_| value(self.next())).collect()
    }
}

fn stored(codec: Codec, value: &[u8]) -> (Vec<u8>, u32) {
    let mut row = std::vec![0xaa; stored_len(codec, Element::F32, value.len() as u32 / 4).unwrap() as usize];
    let scale = encode(codec, Element::F32, value, &mut row).unwrap();
    (row, scale)
}

fn read(codec: Codec, row: &[u8], scale: u32, dimensions: usize) -> Vec<u8> {
    let mut value = std::vec![0xaa; dimensions * 4];
    decode(codec, Element::F32, row, scale, &mut value).unwrap();
    value
}

#[test]
fn codes_and_values_are_those_of_single_precision() {
    let mut random = Random(1);
    for _ in 0..20_000 {
        let values = random.vector(24);
        let value = bytes(&values);
        let (codes, scale) = stored(Codec::Sq8, &value);
        let scale_8 = f32::from_bits(scale);
        let reciprocal = 1.0 / scale_8;
        if scale != 0 {
            let expected: Vec<u8> =
                values.iter().map(|value| (value * reciprocal).round_ties_even() as i8 as u8).collect();
            assert_eq!(codes, expected, "{values:?}");
        }
        let back: Vec<f32> = codes.iter().map(|code| f32::from(*code as i8) * scale_8).collect();
        assert_eq!(floats(&read(Codec::Sq8, &codes, scale, 24)), back);

        let (codes, scale) = stored(Codec::Sq4, &value);
        let scale_4 = f32::from_bits(scale);
        let reciprocal = 1.0 / scale_4;
        let code = |index: usize| codes[index / 2] >> (4 * (index % 2)) & 15;
        for (index, value) in values.iter().enumerate().filter(|_| scale != 0) {
            assert_eq!(f32::from(code(index)), ((value * reciprocal).floor() + 8.0).min(15.0));
        }
        let back: Vec<f32> = (0..24).map(|index| (f32::from(code(index)) - 7.5) * scale_4).collect();
        assert_eq!(floats(&read(Codec::Sq4, &codes, scale, 24)), back);
    }
}

#[test]
fn reading_and_setting_again_changes_nothing() {
    let mut random = Random(2);
    for codec in [Codec::F16, Codec::Sq8, Codec::Sq4, Codec::Binary] {
        for dimensions in [1, 7, 8, 33, 384] {
            for _ in 0..500 {
                let mut values = random.vector(dimensions);
                if codec == Codec::F16 {
                    values.iter_mut().for_each(|value| *value = value.clamp(-65504.0, 65504.0));
                }
                let (row, scale) = stored(codec, &bytes(&values));
                let back = read(codec, &row, scale, dimensions);
                assert_eq!(stored(codec, &back), (row, scale), "{codec:?} {values:?}");
            }
        }
    }
}

#[test]
fn errors_are_at_most_half_a_step() {
    let mut random = Random(3);
    for _ in 0..2_000 {
        let values = random.vector(50);
        for (codec, steps) in [(Codec::Sq8, 127.0), (Codec::Sq4, 7.5)] {
            let (row, scale) = stored(codec, &bytes(&values));
            let largest = values.iter().fold(0_f32, |a, b| a.max(b.abs()));
            let scale = f32::from_bits(scale);
            assert!(scale == 0.0 || scale >= largest / steps && scale <= largest / steps * 1.0001);
            let back = floats(&read(codec, &row, scale.to_bits(), 50));
            for (value, back) in values.iter().zip(back) {
                // A tie is decided after a rounding of its own.
                assert!((value - back).abs() <= scale * 0.50001 || scale == 0.0, "{codec:?} {value} {back}");
            }
        }
    }
}

#[test]
fn a_bit_is_a_sign_and_the_scale_the_mean_magnitude() {
    let values = [0.5_f32, -1.5, 2.0, 0.0, -0.0, 4.0, -3.0, 1.0, -4.0];
    let (row, scale) = stored(Codec::Binary, &bytes(&values));
    assert_eq!(row, [0b1010_0101, 0]);
    assert!((f32::from_bits(scale) - 16.0 / 9.0).abs() < 1e-4);
    let back = floats(&read(Codec::Binary, &row, scale, 9));
    let signs: Vec<bool> = back.iter().map(|value| *value > 0.0).collect();
    assert_eq!(signs, values.map(|value| value > 0.0));
}

#[test]
fn every_half_is_widened_and_found_again() {
    for bits in 0..=u16::MAX {
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
        let wide = f32::from_bits(half::widen(bits));
        if exponent == 31 {
            assert!(if fraction == 0.0 { wide.is_infinite() } else { wide.is_nan() });
            continue;
        }
        let magnitude = match exponent {
            0 => fraction * 2_f32.powi(-24),
            _ => (1.0 + fraction / 1024.0) * 2_f32.powi(exponent - 15),
        };
        assert_eq!(wide.abs(), magnitude);
        assert_eq!(wide.is_sign_negative(), bits >> 15 == 1);
        assert_eq!(half::narrow(wide.to_bits()), bits);
        // Between two neighbours the nearer one, and in the middle the even one.
        if bits & 0x7fff < 0x7bff {
            let next = f32::from_bits(half::widen(bits + 1));
            let middle = (wide + next) / 2.0;
            assert_eq!(half::narrow(middle.to_bits()), bits + (bits & 1));
            assert_eq!(half::narrow(middle.to_bits() - 1), bits);
            assert_eq!(half::narrow(middle.to_bits() + 1), bits + 1);
        }
    }
    assert_eq!(half::narrow(65520_f32.to_bits()), 0x7c00);
    assert_eq!(half::narrow(65519_f32.to_bits()), 0x7bff);
    assert_eq!(half::narrow(1e-30_f32.to_bits()), 0);
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let refused = |codec, value: f32| {
        let mut row = [0; 4];
        let len = stored_len(codec, Element::F32, 1).unwrap() as usize;
        encode(codec, Element::F32, &value.to_le_bytes(), &mut row[..len]).is_err()
    };
    assert!(refused(Codec::F16, 65520.0) && refused(Codec::F16, -1e9) && !refused(Codec::F16, 65519.0));
    for codec in [Codec::Sq8, Codec::Sq4, Codec::Binary] {
        assert!(refused(codec, f32::MAX) && refused(codec, -2_f32.powi(127)) && !refused(codec, 1.7e38));
        let mut value = [0; 4];
        for scale in [f32::NAN, f32::INFINITY, -1.0] {
            assert!(decode(codec, Element::F32, &[1], scale.to_bits(), &mut value).is_err());
        }
    }
    assert!(stored_len(Codec::Sq8, Element::I8, 8).is_none());
    assert!(stored_len(Codec::F16, Element::F16, 8).is_none());
    assert_eq!(stored_len(Codec::None, Element::Bit, 12), None);
}

#[test]
fn halves_are_quantised_as_the_floats_that_they_are() {
    let mut random = Random(4);
    for codec in [Codec::Sq8, Codec::Sq4, Codec::Binary] {
        let values: Vec<f32> = random.vector(64).iter().map(|value| value.clamp(-1000.0, 1000.0)).collect();
        let narrow: Vec<u16> = values.iter().map(|value| half::narrow(value.to_bits())).collect();
        let wide: Vec<u8> = narrow.iter().flat_map(|half| half::widen(*half).to_le_bytes()).collect();
        let bytes: Vec<u8> = narrow.iter().flat_map(|half| half.to_le_bytes()).collect();
        let mut row = std::vec![0; stored_len(codec, Element::F16, 64).unwrap() as usize];
        let scale = encode(codec, Element::F16, &bytes, &mut row).unwrap();
        assert_eq!((row.clone(), scale), stored(codec, &wide));
        let mut back = std::vec![0; 128];
        decode(codec, Element::F16, &row, scale, &mut back).unwrap();
        let expected: Vec<u8> = floats(&read(codec, &row, scale, 64))
            .iter()
            .flat_map(|value| half::narrow(value.to_bits()).to_le_bytes())
            .collect();
        assert_eq!(back, expected);
    }
}

#[test]
fn hostile_scales_and_codes_read_as_something_finite() {
    for scale in [1, 0x7f7f_ffff, 0x0080_0000, 0x007f_ffff] {
        for codec in [Codec::Sq8, Codec::Sq4, Codec::Binary] {
            for code in [0, 0x7f, 0x80, 0xff] {
                let mut value = [0; 4];
                decode(codec, Element::F32, &[code], scale, &mut value).unwrap();
                assert!(f32::from_le_bytes(value).is_finite());
            }
        }
    }
    assert_eq!(Single::from_bits(1).multiple(3), 3);
}
