//! One row at a time, without vector instructions of any particular CPU; also the last elements of the other paths.
//!
//! The loops have no branches, so that a compiler makes vectors of what the target has.

use zerocopy::IntoBytes;

use super::pq::Entries;
use crate::half;

/// What the magnitude's bits are.
const MAGNITUDE: u32 = 0x7fff_ffff;
/// 1.5 x 2^23: a number near 0 that is added to it is rounded to an integer, to nearest even, and stands in the lowest
/// bits of the sum.
const ROUNDING: f32 = 12_582_912.0;

pub(super) fn encode_none(vector: &[f32], row: &mut [u8]) {
    if cfg!(target_endian = "little") {
        row.copy_from_slice(vector.as_bytes());
        return;
    }
    for (value, four) in vector.iter().zip(row.chunks_exact_mut(4)) {
        four.copy_from_slice(&value.to_le_bytes());
    }
}

pub(super) fn decode_none(row: &[u8], vector: &mut [f32]) {
    if cfg!(target_endian = "little") {
        vector.as_mut_bytes().copy_from_slice(row);
        return;
    }
    for (four, value) in row.chunks_exact(4).zip(vector) {
        *value = f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    }
}

pub(super) fn largest(vector: &[f32]) -> u32 {
    vector.iter().fold(0, |largest, value| largest.max(value.to_bits() & MAGNITUDE))
}

pub(super) fn encode_f16(vector: &[f32], row: &mut [u8]) {
    for (value, two) in vector.iter().zip(row.chunks_exact_mut(2)) {
        two.copy_from_slice(&half::from_f32(*value).to_le_bytes());
    }
}

pub(super) fn decode_f16(row: &[u8], vector: &mut [f32]) {
    for (two, value) in row.chunks_exact(2).zip(vector) {
        let bits = u16::from_le_bytes([two[0], two[1]]);
        let quiet = u16::from(bits & 0x7fff > 0x7c00) << 9;
        *value = half::to_f32(bits | quiet);
    }
}

pub(super) fn encode_sq8(vector: &[f32], reciprocal: f32, row: &mut [u8]) {
    for (value, code) in vector.iter().zip(row) {
        *code = (value * reciprocal + ROUNDING).to_bits() as u8;
    }
}

pub(super) fn decode_sq8(row: &[u8], scale: f32, vector: &mut [f32]) {
    for (code, value) in row.iter().zip(vector) {
        *value = f32::from(code.cast_signed()) * scale;
    }
}

pub(super) fn encode_sq4(vector: &[f32], reciprocal: f32, row: &mut [u8]) {
    let code = |value: f32| {
        let product = value * reciprocal;
        let sum = product + ROUNDING;
        // The floor: one less where the nearest integer lies above. A negative number counts as below zero even if its
        // product is too small for an f32.
        let below = (sum - ROUNDING > product) | ((product == 0.0) & (value < 0.0));
        (sum.to_bits() as u8).wrapping_add(8).wrapping_sub(u8::from(below)).min(15)
    };
    let mut pairs = vector.chunks_exact(2);
    let mut bytes = row.iter_mut();
    for (pair, byte) in pairs.by_ref().zip(bytes.by_ref()) {
        *byte = code(pair[0]) | code(pair[1]) << 4;
    }
    if let ([last], Some(byte)) = (pairs.remainder(), bytes.next()) {
        *byte = code(*last);
    }
}

pub(super) fn decode_sq4(row: &[u8], scale: f32, vector: &mut [f32]) {
    let value = |code: u8| (f32::from(code & 15) - 7.5) * scale;
    let mut pairs = vector.chunks_exact_mut(2);
    for (pair, byte) in pairs.by_ref().zip(row) {
        pair[0] = value(*byte);
        pair[1] = value(*byte >> 4);
    }
    if let ([last], Some(byte)) = (pairs.into_remainder(), row.last()) {
        *last = value(*byte);
    }
}

pub(super) fn encode_binary(vector: &[f32], exponent: u32, row: &mut [u8]) -> u64 {
    for (eight, byte) in vector.chunks(8).zip(row) {
        *byte = eight.iter().rev().fold(0, |byte, value| byte << 1 | u8::from(*value > 0.0));
    }
    let magnitude = |value: &f32| {
        let bits = value.to_bits();
        let (biased, fraction) = (bits >> 23 & 0xff, bits & 0x7f_ffff);
        let mantissa = fraction | u32::from(biased != 0) << 23;
        (u64::from(mantissa) << 16) >> (exponent - biased.max(1)).min(63)
    };
    vector.iter().map(magnitude).sum()
}

pub(super) fn decode_binary(row: &[u8], scale: f32, vector: &mut [f32]) {
    let negative = if scale == 0.0 { 0.0 } else { -scale };
    for (eight, byte) in vector.chunks_mut(8).zip(row) {
        for (bit, value) in eight.iter_mut().enumerate() {
            *value = if byte >> bit & 1 == 1 { scale } else { negative };
        }
    }
}

pub(super) fn nearest(entries: &Entries, points: &[i16], codes: &mut [u8]) {
    let count = entries.squares.len();
    let mut products = vec![0_i32; count];
    for (point, code) in points.chunks_exact(2 * entries.pairs).zip(codes) {
        products.fill(0);
        for (pair, column) in point.chunks_exact(2).zip(entries.table.chunks_exact(2 * count)) {
            let (one, other) = (i32::from(pair[0]), i32::from(pair[1]));
            for (product, entry) in products.iter_mut().zip(column.chunks_exact(2)) {
                *product += i32::from(entry[0]) * one + i32::from(entry[1]) * other;
            }
        }
        let mut least = i32::MAX;
        for (index, (product, square)) in products.iter().zip(&entries.squares).enumerate() {
            if square - 2 * product < least {
                (*code, least) = (index as u8, square - 2 * product);
            }
        }
    }
}
