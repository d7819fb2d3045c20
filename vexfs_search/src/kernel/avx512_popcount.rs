//! AVX-512 with VPOPCNTDQ: set bits counted by an instruction.

use std::arch::x86_64::*;

use super::avx512::load_bits;

/// How many bits are set in both, and how many in `row`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vpopcntdq")]
pub(crate) fn bits_common(row: &[u8], query: &[u8]) -> [u64; 2] {
    let len = row.len().min(query.len());
    let (mut both, mut ones) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    let mut at = 0;
    while at < len {
        let (a, b) = load_bits(row, query, at, len);
        both = _mm512_add_epi64(both, _mm512_popcnt_epi64(_mm512_and_si512(a, b)));
        ones = _mm512_add_epi64(ones, _mm512_popcnt_epi64(a));
        at += 64;
    }
    [both, ones].map(|sums| _mm512_reduce_add_epi64(sums) as u64)
}

/// How many bits differ.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vpopcntdq")]
pub(crate) fn bits_different(row: &[u8], query: &[u8]) -> u64 {
    let len = row.len().min(query.len());
    let mut different = _mm512_setzero_si512();
    let mut at = 0;
    while at < len {
        let (a, b) = load_bits(row, query, at, len);
        different = _mm512_add_epi64(different, _mm512_popcnt_epi64(_mm512_xor_si512(a, b)));
        at += 64;
    }
    _mm512_reduce_add_epi64(different) as u64
}
