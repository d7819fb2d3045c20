//! One row at a time with AVX-512, sixteen elements a step; the rest of a row is the portable path's.

use std::arch::x86_64::*;

use super::portable;
use super::pq::Entries;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn largest(vector: &[f32]) -> u32 {
    let (sixteens, rest) = vector.as_chunks::<16>();
    let magnitude = _mm512_set1_epi32(0x7fff_ffff);
    let mut largest = _mm512_setzero_si512();
    for sixteen in sixteens {
        largest = _mm512_max_epi32(largest, _mm512_and_si512(_mm512_castps_si512(load(sixteen)), magnitude));
    }
    _mm512_reduce_max_epi32(largest).cast_unsigned().max(portable::largest(rest))
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn encode_f16(vector: &[f32], row: &mut [u8]) {
    let (sixteens, rest) = vector.as_chunks::<16>();
    let (codes, rest_codes) = row.as_chunks_mut::<32>();
    for (sixteen, to) in sixteens.iter().zip(&mut *codes) {
        let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(load(sixteen));
        // SAFETY: there is room for 32 bytes.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), halves) }
    }
    portable::encode_f16(rest, rest_codes);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn decode_f16(row: &[u8], vector: &mut [f32]) {
    let (sixteens, rest) = vector.as_chunks_mut::<16>();
    let (codes, rest_codes) = row.as_chunks::<32>();
    for (from, sixteen) in codes.iter().zip(sixteens) {
        // SAFETY: there are 32 bytes.
        let halves = unsafe { _mm256_loadu_si256(from.as_ptr().cast()) };
        save(sixteen, _mm512_cvtph_ps(halves));
    }
    portable::decode_f16(rest_codes, rest);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn encode_sq8(vector: &[f32], reciprocal: f32, row: &mut [u8]) {
    let (sixteens, rest) = vector.as_chunks::<16>();
    let (codes, rest_codes) = row.as_chunks_mut::<16>();
    let factor = _mm512_set1_ps(reciprocal);
    for (sixteen, to) in sixteens.iter().zip(&mut *codes) {
        let numbers = _mm512_cvtps_epi32(_mm512_mul_ps(load(sixteen), factor));
        // SAFETY: there is room for 16 bytes.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtsepi32_epi8(numbers)) }
    }
    portable::encode_sq8(rest, reciprocal, rest_codes);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn decode_sq8(row: &[u8], scale: f32, vector: &mut [f32]) {
    let (sixteens, rest) = vector.as_chunks_mut::<16>();
    let (codes, rest_codes) = row.as_chunks::<16>();
    let factor = _mm512_set1_ps(scale);
    for (from, sixteen) in codes.iter().zip(sixteens) {
        // SAFETY: there are 16 bytes.
        let codes = _mm512_cvtepi8_epi32(unsafe { _mm_loadu_si128(from.as_ptr().cast()) });
        save(sixteen, _mm512_mul_ps(_mm512_cvtepi32_ps(codes), factor));
    }
    portable::decode_sq8(rest_codes, scale, rest);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn encode_sq4(vector: &[f32], reciprocal: f32, row: &mut [u8]) {
    let (sixteens, rest) = vector.as_chunks::<16>();
    let (codes, rest_codes) = row.split_at_mut(sixteens.len() * 8);
    let (factor, zero) = (_mm512_set1_ps(reciprocal), _mm512_setzero_ps());
    let (minus, middle, last) = (_mm512_set1_epi32(-1), _mm512_set1_epi32(8), _mm512_set1_epi32(15));
    for (sixteen, to) in sixteens.iter().zip(codes.as_chunks_mut::<8>().0) {
        let values = load(sixteen);
        let product = _mm512_mul_ps(values, factor);
        let floor = _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(product);
        // A negative number is below zero even if its product is too small for an f32.
        let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(values, zero);
        let floor = _mm512_mask_min_epi32(floor, negative, floor, minus);
        let code = _mm512_min_epi32(_mm512_add_epi32(floor, middle), last);
        // The second code of each pair comes to stand behind the first.
        let pairs = _mm512_or_si512(code, _mm512_srli_epi64::<28>(code));
        *to = _mm_cvtsi128_si64(_mm512_cvtepi64_epi8(pairs)).to_le_bytes();
    }
    portable::encode_sq4(rest, reciprocal, rest_codes);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn decode_sq4(row: &[u8], scale: f32, vector: &mut [f32]) {
    let (sixteens, rest) = vector.as_chunks_mut::<16>();
    let (codes, rest_codes) = row.split_at(sixteens.len() * 8);
    let numbers = _mm512_setr_ps(
        -7.5, -6.5, -5.5, -4.5, -3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5,
    );
    let levels = _mm512_mul_ps(numbers, _mm512_set1_ps(scale));
    for (from, sixteen) in codes.as_chunks::<8>().0.iter().zip(sixteens) {
        let bytes = _mm512_cvtepu8_epi64(_mm_cvtsi64_si128(i64::from_le_bytes(*from)));
        // The upper half goes to the upper double word; of an index only the lowest four bits count.
        let codes = _mm512_or_si512(bytes, _mm512_slli_epi64::<28>(bytes));
        save(sixteen, _mm512_permutexvar_ps(codes, levels));
    }
    portable::decode_sq4(rest_codes, scale, rest);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn encode_binary(vector: &[f32], exponent: u32, row: &mut [u8]) -> u64 {
    let (sixteens, rest) = vector.as_chunks::<16>();
    let (signs, rest_signs) = row.split_at_mut(sixteens.len() * 2);
    let zero = _mm512_setzero_ps();
    // A magnitude in units of 2^(exponent - 166) is exact in double precision, and its integer part has 40 bits.
    let units = _mm512_set1_pd(f64::from_bits((1023 + 166 - u64::from(exponent)) << 52));
    let mut sums = [_mm512_setzero_si512(); 2];
    for (sixteen, sign) in sixteens.iter().zip(signs.as_chunks_mut::<2>().0) {
        let values = load(sixteen);
        *sign = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(values, zero).to_le_bytes();
        let magnitudes = _mm512_abs_ps(values);
        let halves = [_mm512_castps512_ps256(magnitudes), _mm512_extractf32x8_ps::<1>(magnitudes)];
        for (sum, half) in sums.iter_mut().zip(halves) {
            let whole = _mm512_cvttpd_epi64(_mm512_mul_pd(_mm512_cvtps_pd(half), units));
            *sum = _mm512_add_epi64(*sum, whole);
        }
    }
    let sum = _mm512_reduce_add_epi64(_mm512_add_epi64(sums[0], sums[1])).cast_unsigned();
    sum + portable::encode_binary(rest, exponent, rest_signs)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn decode_binary(row: &[u8], scale: f32, vector: &mut [f32]) {
    let (sixteens, rest) = vector.as_chunks_mut::<16>();
    let (signs, rest_signs) = row.split_at(sixteens.len() * 2);
    let positive = _mm512_set1_ps(scale);
    let negative = _mm512_set1_ps(if scale == 0.0 { 0.0 } else { -scale });
    for (sign, sixteen) in signs.as_chunks::<2>().0.iter().zip(sixteens) {
        save(sixteen, _mm512_mask_blend_ps(u16::from_le_bytes(*sign), negative, positive));
    }
    portable::decode_binary(rest_signs, scale, rest);
}

/// Four points at a time, so that an entry is loaded once for all of them.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn nearest(entries: &Entries, points: &[i16], codes: &mut [u8]) {
    let width = 2 * entries.pairs;
    let (fours, rest) = codes.as_chunks_mut::<4>();
    let (points, rest_points) = points.split_at(fours.len() * 4 * width);
    for (four, to) in points.chunks_exact(4 * width).zip(fours) {
        let (mut least, mut code) = ([_mm512_set1_epi32(i32::MAX); 4], [_mm512_setzero_si512(); 4]);
        let mut index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        for (group, squares) in entries.squares.as_chunks::<16>().0.iter().enumerate() {
            let mut products = [_mm512_setzero_si512(); 4];
            for pair in 0..entries.pairs {
                let column = numbers(&entries.table[(pair * entries.squares.len() + group * 16) * 2..]);
                for (product, point) in products.iter_mut().zip(four.chunks_exact(width)) {
                    let both = two(&point[2 * pair..]);
                    *product = _mm512_add_epi32(*product, _mm512_madd_epi16(column, both));
                }
            }
            let squares = whole(squares);
            for ((product, least), code) in products.into_iter().zip(&mut least).zip(&mut code) {
                let distance = _mm512_sub_epi32(squares, _mm512_add_epi32(product, product));
                let nearer = _mm512_cmplt_epi32_mask(distance, *least);
                *least = _mm512_min_epi32(*least, distance);
                *code = _mm512_mask_mov_epi32(*code, nearer, index);
            }
            index = _mm512_add_epi32(index, _mm512_set1_epi32(16));
        }
        for ((least, code), to) in least.into_iter().zip(code).zip(to) {
            let all = _mm512_set1_epi32(_mm512_reduce_min_epi32(least));
            let nearest = _mm512_cmpeq_epi32_mask(least, all);
            // The lowest of equally near ones.
            *to = _mm512_mask_reduce_min_epi32(nearest, code) as u8;
        }
    }
    portable::nearest(entries, rest_points, rest);
}

// Two numbers of a point in every place.
#[inline]
#[target_feature(enable = "avx512f")]
fn two(point: &[i16]) -> __m512i {
    let (one, other) = (point[0].cast_unsigned(), point[1].cast_unsigned());
    _mm512_set1_epi32((u32::from(one) | u32::from(other) << 16).cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn numbers(from: &[i16]) -> __m512i {
    let from = &from[..32];
    // SAFETY: there are 32 numbers.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn whole(from: &[i32; 16]) -> __m512i {
    // SAFETY: there are sixteen numbers.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(from: &[f32; 16]) -> __m512 {
    // SAFETY: there are sixteen floats.
    unsafe { _mm512_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn save(to: &mut [f32; 16], values: __m512) {
    // SAFETY: there is room for sixteen floats.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), values) }
}
