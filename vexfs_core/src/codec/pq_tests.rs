//! Product quantisation against what it is by definition.

use std::vec::Vec;

use super::super::{decode, encode, half, stored_len};
use super::{Codebook, check};
use crate::format::{Codec, Element, Quantizer};

extern crate std;

const SHAPES: [(u16, u16, u16); 6] = [(4, 3, 8), (5, 2, 4), (1, 33, 8), (7, 1, 4), (3, 8, 8), (2, 500, 4)];

fn quantizer((subvectors, sub_dimensions, bits): (u16, u16, u16)) -> Quantizer {
    Quantizer { subvectors, sub_dimensions, bits }
}

/// Numbers from -1 to 1: splitmix64 (Steele, Lea, Flood, 2014).
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let number = |_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(number).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn halves(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| half::narrow(value.to_bits()).to_le_bytes()).collect()
}

#[test]
fn the_nearest_entry_stands_for_each_part() {
    for shape in SHAPES.map(quantizer) {
        let entries = numbers(1, shape.codebook_len() / 4);
        let codebook = Codebook::new(shape, Element::F32, bytes(&entries)).unwrap();
        let (length, count) = (usize::from(shape.sub_dimensions), shape.entries());
        for seed in 2..40 {
            let vector = numbers(seed, shape.dimensions() as usize);
            let mut row = std::vec![0xaa; shape.code_len() as usize];
            codebook.encode(&bytes(&vector), &mut row);
            let mut value = std::vec![0xaa; vector.len() * 4];
            codebook.decode(&row, &mut value);
            for (part, x) in vector.chunks(length).enumerate() {
                let distance = |entry: &[f32]| -> f64 {
                    entry.iter().zip(x).map(|(e, x)| f64::from(e - x).powi(2)).sum()
                };
                let of_part = &entries[part * count * length..][..count * length];
                let least = of_part.chunks(length).map(distance).fold(f64::MAX, f64::min);
                let code = match shape.bits {
                    4 => usize::from(row[part / 2] >> (4 * (part % 2)) & 15),
                    _ => usize::from(row[part]),
                };
                let chosen = &of_part[code * length..][..length];
                // A unit is 2^-7 at most for parts of 500 dimensions, and 2^-12 for those of 8.
                assert!(distance(chosen).sqrt() <= least.sqrt() + 0.01 * (length as f64).sqrt(), "{shape:?}");
                assert_eq!(value[part * length * 4..][..length * 4], bytes(chosen));
            }
            if shape.bits == 4 && shape.subvectors % 2 == 1 {
                assert_eq!(row.last().unwrap() >> 4, 0, "the unused half of the last byte");
            }
            // What was read and is set again is the same row: copies of copies do not drift.
            let mut again = row.clone();
            codebook.encode(&value, &mut again);
            assert_eq!(again, row);
        }
    }
}

#[test]
fn halves_are_read_as_halves_and_do_not_drift() {
    for shape in SHAPES.map(quantizer) {
        // Not numbers that f16 can hold.
        let codebook =
            Codebook::new(shape, Element::F16, bytes(&numbers(5, shape.codebook_len() / 4))).unwrap();
        for seed in 2..20 {
            let vector = halves(&numbers(seed, shape.dimensions() as usize));
            let mut row = std::vec![0; shape.code_len() as usize];
            codebook.encode(&vector, &mut row);
            let mut value = std::vec![0xaa; vector.len()];
            codebook.decode(&row, &mut value);
            let mut again = row.clone();
            codebook.encode(&value, &mut again);
            let mut second = std::vec![0xaa; vector.len()];
            codebook.decode(&again, &mut second);
            assert_eq!(second, value);
        }
    }
}

#[test]
fn whatever_the_sizes_no_sum_overflows() {
    for shape in SHAPES.map(quantizer) {
        for size in [f32::from_bits(1), 1e-38, 1e-29, 1.0, 8e37, 1.7e38] {
            let entries: Vec<f32> =
                (0..shape.codebook_len() / 4).map(|at| if at % 2 == 0 { size } else { -size }).collect();
            let codebook = Codebook::new(shape, Element::F32, bytes(&entries)).unwrap();
            for value in [0.0, -0.0, f32::from_bits(1), size, -size * 0.9, f32::MAX, -f32::MAX] {
                let mut row = std::vec![0; shape.code_len() as usize];
                codebook.encode(&bytes(&std::vec![value; shape.dimensions() as usize]), &mut row);
            }
        }
    }
    let zeros = Codebook::new(quantizer((4, 3, 4)), Element::F32, std::vec![0; 16 * 12 * 4]).unwrap();
    let mut row = [0xaa; 2];
    zeros.encode(&bytes(&[1.0; 12]), &mut row);
    assert_eq!(row, [0; 2]);
}

#[test]
fn what_is_no_codebook_is_refused() {
    let shape = quantizer((2, 3, 4));
    let with = |value: f32| bytes(&[[0.5; 95].as_slice(), &[value]].concat());
    assert!(check(shape, Element::F32, &with(1e38)).is_ok());
    assert!(check(shape, Element::F32, &with(1e38)[4..]).is_err(), "too short");
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        assert!(check(shape, Element::F32, &with(value)).is_err(), "{value}");
    }
    assert!(check(shape, Element::F16, &with(65_504.0)).is_ok());
    assert!(check(shape, Element::F16, &with(65_520.0)).is_err());
    assert!(check(Quantizer { bits: 5, ..shape }, Element::F32, &[0; 2 * 32 * 3 * 4]).is_err());
    let codec = Codec::Pq(shape);
    assert_eq!(stored_len(codec, Element::F32, 6), Some(1));
    assert_eq!(stored_len(codec, Element::F32, 7), None, "of another dimension");
    assert_eq!(stored_len(codec, Element::I8, 6), None);
    assert!(encode(codec, Element::F32, &[0; 24], &mut [0]).is_err());
    assert!(decode(codec, Element::F32, &[0], 0, &mut [0; 24]).is_err());
    assert_eq!(Quantizer::cutting(384, 48, 8).map(|shape| shape.code_len()), Some(48));
    for (dimensions, parts, bits) in [(384, 0, 8), (384, 5, 8), (384, 48, 6), (0, 1, 8)] {
        assert_eq!(Quantizer::cutting(dimensions, parts, bits), None);
    }
}
