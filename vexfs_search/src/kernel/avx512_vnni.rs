//! AVX-512 with VNNI: 64 products of bytes an instruction.

use std::arch::x86_64::*;

use super::avx512::{first64, load_nibbles};

/// Sums of `row * query` and of `row * row`, exact.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn bytes(row: &[i8], query: &[i8]) -> [i64; 2] {
    // A product is at most 2^14: all of so many fit 32 bits. What is 128 times too much wraps, and wraps back.
    let len = row.len().min(query.len()).min(1 << 16);
    let zero = _mm512_setzero_si512();
    let (mut product, mut square, mut query_sum, mut row_sum) = (zero, zero, zero, zero);
    let (shift, ones) = (_mm512_set1_epi8(-128), _mm512_set1_epi8(1));
    let mut at = 0;
    while at < len {
        let mask = first64(len - at);
        // SAFETY: the mask has at most `len - at` bits.
        let (a, b) = unsafe {
            (
                _mm512_maskz_loadu_epi8(mask, row.as_ptr().add(at)),
                _mm512_maskz_loadu_epi8(mask, query.as_ptr().add(at)),
            )
        };
        // The instruction wants one side without a sign: 128 more, taken off again at the end.
        let shifted = _mm512_xor_si512(a, shift);
        product = _mm512_dpbusd_epi32(product, shifted, b);
        square = _mm512_dpbusd_epi32(square, shifted, a);
        query_sum = _mm512_dpbusd_epi32(query_sum, ones, b);
        row_sum = _mm512_dpbusd_epi32(row_sum, ones, a);
        at += 64;
    }
    let [product, square, query_sum, row_sum] =
        [product, square, query_sum, row_sum].map(|sums| _mm512_reduce_add_epi32(sums));
    let here = [(product, query_sum), (square, row_sum)]
        .map(|(sum, entries)| i64::from(sum.wrapping_sub(entries.wrapping_mul(128))));
    let rest = if len == 1 << 16 { bytes(&row[len..], &query[len..]) } else { [0; 2] };
    [here[0] + rest[0], here[1] + rest[1]]
}

/// Sum of the codes' lower halves times `even` and of their upper halves times `odd`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) fn nibbles(codes: &[u8], even: &[i8], odd: &[i8]) -> i32 {
    let low = _mm512_set1_epi8(15);
    let len = codes.len().min(even.len()).min(odd.len());
    let (mut lower, mut upper) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    let mut at = 0;
    while at < len {
        let (codes, even, odd) = load_nibbles(codes, even, odd, at, len);
        lower = _mm512_dpbusd_epi32(lower, _mm512_and_si512(codes, low), even);
        upper = _mm512_dpbusd_epi32(upper, _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low), odd);
        at += 64;
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(lower, upper))
}
