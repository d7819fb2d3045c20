//! One row at a time with AVX2 and F16C, eight elements a step; the rest of a row is the portable path's.

use std::arch::x86_64::*;

use super::portable;
use super::pq::Entries;

#[target_feature(enable = "avx2,f16c")]
pub(super) fn largest(vector: &[f32]) -> u32 {
    let (eights, rest) = vector.as_chunks::<8>();
    let magnitude = _mm256_set1_epi32(0x7fff_ffff);
    let mut largest = _mm256_setzero_si256();
    for eight in eights {
        largest = _mm256_max_epi32(largest, _mm256_and_si256(_mm256_castps_si256(load(eight)), magnitude));
    }
    let half = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256::<1>(largest));
    let quarter = _mm_max_epi32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
    let one = _mm_max_epi32(quarter, _mm_shuffle_epi32::<0b10_11_00_01>(quarter));
    _mm_cvtsi128_si32(one).cast_unsigned().max(portable::largest(rest))
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn encode_f16(vector: &[f32], row: &mut [u8]) {
    let (eights, rest) = vector.as_chunks::<8>();
    let (codes, rest_codes) = row.as_chunks_mut::<16>();
    for (eight, to) in eights.iter().zip(&mut *codes) {
        store(to, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(load(eight)));
    }
    portable::encode_f16(rest, rest_codes);
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn decode_f16(row: &[u8], vector: &mut [f32]) {
    let (eights, rest) = vector.as_chunks_mut::<8>();
    let (codes, rest_codes) = row.as_chunks::<16>();
    for (from, eight) in codes.iter().zip(eights) {
        // SAFETY: there are 16 bytes.
        let halves = unsafe { _mm_loadu_si128(from.as_ptr().cast()) };
        save(eight, _mm256_cvtph_ps(halves));
    }
    portable::decode_f16(rest_codes, rest);
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn encode_sq8(vector: &[f32], reciprocal: f32, row: &mut [u8]) {
    let (eights, rest) = vector.as_chunks::<8>();
    let (codes, rest_codes) = row.as_chunks_mut::<8>();
    let factor = _mm256_set1_ps(reciprocal);
    for (eight, to) in eights.iter().zip(&mut *codes) {
        let shorts = to_shorts(_mm256_cvtps_epi32(_mm256_mul_ps(load(eight), factor)));
        *to = _mm_cvtsi128_si64(_mm_packs_epi16(shorts, shorts)).to_le_bytes();
    }
    portable::encode_sq8(rest, reciprocal, rest_codes);
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn decode_sq8(row: &[u8], scale: f32, vector: &mut [f32]) {
    let (eights, rest) = vector.as_chunks_mut::<8>();
    let (codes, rest_codes) = row.as_chunks::<8>();
    let factor = _mm256_set1_ps(scale);
    for (from, eight) in codes.iter().zip(eights) {
        let codes = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*from)));
        save(eight, _mm256_mul_ps(_mm256_cvtepi32_ps(codes), factor));
    }
    portable::decode_sq8(rest_codes, scale, rest);
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn encode_sq4(vector: &[f32], reciprocal: f32, row: &mut [u8]) {
    let (eights, rest) = vector.as_chunks::<8>();
    let (codes, rest_codes) = row.split_at_mut(eights.len() * 4);
    let (factor, zero) = (_mm256_set1_ps(reciprocal), _mm256_setzero_ps());
    let (middle, last) = (_mm256_set1_epi32(8), _mm256_set1_epi32(15));
    let places = _mm_set1_epi16(0x1001);
    for (eight, to) in eights.iter().zip(codes.as_chunks_mut::<4>().0) {
        let values = load(eight);
        let floor = _mm256_cvtps_epi32(_mm256_floor_ps(_mm256_mul_ps(values, factor)));
        // A negative number is below zero even if its product is too small for an f32.
        let negative = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_LT_OQ>(values, zero));
        let below = _mm256_and_si256(negative, _mm256_cmpeq_epi32(floor, _mm256_castps_si256(zero)));
        let code = _mm256_min_epi32(_mm256_add_epi32(_mm256_add_epi32(floor, below), middle), last);
        let shorts = to_shorts(code);
        let pairs = _mm_maddubs_epi16(_mm_packus_epi16(shorts, shorts), places);
        *to = _mm_cvtsi128_si32(_mm_packus_epi16(pairs, pairs)).to_le_bytes();
    }
    portable::encode_sq4(rest, reciprocal, rest_codes);
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn decode_sq4(row: &[u8], scale: f32, vector: &mut [f32]) {
    let (eights, rest) = vector.as_chunks_mut::<8>();
    let (codes, rest_codes) = row.split_at(eights.len() * 4);
    let (factor, middle) = (_mm256_set1_ps(scale), _mm256_set1_ps(7.5));
    let (shifts, lowest) = (_mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28), _mm256_set1_epi32(15));
    for (from, eight) in codes.as_chunks::<4>().0.iter().zip(eights) {
        let all = _mm256_set1_epi32(i32::from_le_bytes(*from));
        let codes = _mm256_and_si256(_mm256_srlv_epi32(all, shifts), lowest);
        save(eight, _mm256_mul_ps(_mm256_sub_ps(_mm256_cvtepi32_ps(codes), middle), factor));
    }
    portable::decode_sq4(rest_codes, scale, rest);
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn encode_binary(vector: &[f32], exponent: u32, row: &mut [u8]) -> u64 {
    let (eights, rest) = vector.as_chunks::<8>();
    let (signs, rest_signs) = row.split_at_mut(eights.len());
    let (zero, one) = (_mm256_setzero_ps(), _mm256_set1_epi32(1));
    let largest = _mm256_set1_epi32(exponent.cast_signed());
    let mut sums = [_mm256_setzero_si256(); 2];
    for (eight, sign) in eights.iter().zip(signs) {
        let values = load(eight);
        *sign = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(values, zero)) as u8;
        let bits = _mm256_castps_si256(values);
        let biased = _mm256_and_si256(_mm256_srli_epi32::<23>(bits), _mm256_set1_epi32(0xff));
        // The hidden bit, of all but denormal numbers: their exponent is that of the smallest normal ones.
        let normal = _mm256_min_epi32(biased, one);
        let fraction = _mm256_and_si256(bits, _mm256_set1_epi32(0x7f_ffff));
        let mantissa = _mm256_or_si256(fraction, _mm256_slli_epi32::<23>(normal));
        let drop = _mm256_sub_epi32(largest, _mm256_max_epi32(biased, one));
        for (half, sum) in sums.iter_mut().enumerate() {
            let (mantissa, drop) = match half {
                0 => (_mm256_castsi256_si128(mantissa), _mm256_castsi256_si128(drop)),
                _ => (_mm256_extracti128_si256::<1>(mantissa), _mm256_extracti128_si256::<1>(drop)),
            };
            let long = _mm256_slli_epi64::<16>(_mm256_cvtepu32_epi64(mantissa));
            *sum = _mm256_add_epi64(*sum, _mm256_srlv_epi64(long, _mm256_cvtepu32_epi64(drop)));
        }
    }
    let sum = _mm256_add_epi64(sums[0], sums[1]);
    let half = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let sum = _mm_cvtsi128_si64(half).wrapping_add(_mm_extract_epi64::<1>(half)).cast_unsigned();
    sum + portable::encode_binary(rest, exponent, rest_signs)
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn decode_binary(row: &[u8], scale: f32, vector: &mut [f32]) {
    let (eights, rest) = vector.as_chunks_mut::<8>();
    let (signs, rest_signs) = row.split_at(eights.len());
    let positive = _mm256_set1_ps(scale);
    let negative = _mm256_set1_ps(if scale == 0.0 { 0.0 } else { -scale });
    let places = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    for (sign, eight) in signs.iter().zip(eights) {
        let set = _mm256_and_si256(_mm256_set1_epi32(i32::from(*sign)), places);
        let set = _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, places));
        save(eight, _mm256_blendv_ps(negative, positive, set));
    }
    portable::decode_binary(rest_signs, scale, rest);
}

/// Four points at a time, so that an entry is loaded once for all of them.
#[target_feature(enable = "avx2,f16c")]
pub(super) fn nearest(entries: &Entries, points: &[i16], codes: &mut [u8]) {
    let width = 2 * entries.pairs;
    let (fours, rest) = codes.as_chunks_mut::<4>();
    let (points, rest_points) = points.split_at(fours.len() * 4 * width);
    for (four, to) in points.chunks_exact(4 * width).zip(fours) {
        let (mut least, mut code) = ([_mm256_set1_epi32(i32::MAX); 4], [_mm256_setzero_si256(); 4]);
        let mut index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        for (group, squares) in entries.squares.as_chunks::<8>().0.iter().enumerate() {
            let mut products = [_mm256_setzero_si256(); 4];
            for pair in 0..entries.pairs {
                let column = &entries.table[(pair * entries.squares.len() + group * 8) * 2..];
                let column = numbers(column);
                for (product, point) in products.iter_mut().zip(four.chunks_exact(width)) {
                    let both = two(&point[2 * pair..]);
                    *product = _mm256_add_epi32(*product, _mm256_madd_epi16(column, both));
                }
            }
            let squares = whole(squares);
            for ((product, least), code) in products.into_iter().zip(&mut least).zip(&mut code) {
                let distance = _mm256_sub_epi32(squares, _mm256_add_epi32(product, product));
                let nearer = _mm256_cmpgt_epi32(*least, distance);
                *least = _mm256_min_epi32(*least, distance);
                *code = _mm256_blendv_epi8(*code, index, nearer);
            }
            index = _mm256_add_epi32(index, _mm256_set1_epi32(8));
        }
        for ((least, code), to) in least.into_iter().zip(code).zip(to) {
            *to = first_of_least(least, code);
        }
    }
    portable::nearest(entries, rest_points, rest);
}

// The lowest code of those with the least distance.
#[inline]
#[target_feature(enable = "avx2")]
fn first_of_least(least: __m256i, code: __m256i) -> u8 {
    let all = smallest(least);
    let others = _mm256_cmpgt_epi32(least, _mm256_set1_epi32(all));
    smallest(_mm256_or_si256(code, _mm256_and_si256(others, _mm256_set1_epi32(i32::MAX)))) as u8
}

#[inline]
#[target_feature(enable = "avx2")]
fn smallest(of: __m256i) -> i32 {
    let half = _mm_min_epi32(_mm256_castsi256_si128(of), _mm256_extracti128_si256::<1>(of));
    let quarter = _mm_min_epi32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
    _mm_cvtsi128_si32(_mm_min_epi32(quarter, _mm_shuffle_epi32::<0b10_11_00_01>(quarter)))
}

// Two numbers of a point in every place.
#[inline]
#[target_feature(enable = "avx2")]
fn two(point: &[i16]) -> __m256i {
    let (one, other) = (point[0].cast_unsigned(), point[1].cast_unsigned());
    _mm256_set1_epi32((u32::from(one) | u32::from(other) << 16).cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
fn numbers(from: &[i16]) -> __m256i {
    let from = &from[..16];
    // SAFETY: there are sixteen numbers.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn whole(from: &[i32; 8]) -> __m256i {
    // SAFETY: there are eight numbers.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(from: &[f32; 8]) -> __m256 {
    // SAFETY: there are eight floats.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn save(to: &mut [f32; 8], values: __m256) {
    // SAFETY: there is room for eight floats.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), values) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut [u8; 16], bytes: __m128i) {
    // SAFETY: there is room for 16 bytes.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), bytes) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn to_shorts(numbers: __m256i) -> __m128i {
    _mm_packs_epi32(_mm256_castsi256_si128(numbers), _mm256_extracti128_si256::<1>(numbers))
}
