//! AVX-512 (F, BW, DQ, VL): sixteen floats, or 64 bytes, at a time; ends by masked loads, which read nothing beyond.

use std::arch::x86_64::*;

use super::panel::{HALF, Products, ROWS, WIDTH};
use super::{DIFFERENCE, LOOKUP_AHEAD, PRODUCT, PRODUCT_SQUARE};

const LANES: usize = 16;

/// Sixteen entries as floats.
pub(crate) trait Load: Copy {
    /// All sixteen.
    ///
    /// # Safety
    /// `LANES` entries can be read at `at`, and the CPU has AVX-512 F, BW and VL.
    // SAFETY: the caller's part is told above.
    unsafe fn load(at: *const Self) -> __m512;

    /// The first `count < LANES` of them, zeros behind.
    ///
    /// # Safety
    /// `count` entries can be read at `at`, and the CPU has AVX-512 F, BW and VL.
    // SAFETY: the caller's part is told above.
    unsafe fn load_first(at: *const Self, count: usize) -> __m512;
}

macro_rules! load {
    ($entry:ty, $at:ident, $mask:ident, $all:expr, $first:expr, $to_floats:expr) => {
        impl Load for $entry {
            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
            // SAFETY: the caller's part is the trait's.
            unsafe fn load($at: *const Self) -> __m512 {
                // SAFETY: the caller's promise: sixteen entries can be read.
                let entries = unsafe { $all };
                $to_floats(entries)
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
            // SAFETY: the caller's part is the trait's.
            unsafe fn load_first($at: *const Self, count: usize) -> __m512 {
                let $mask = first16(count);
                // SAFETY: the caller's promise: `count` entries can be read, and the mask leaves the others alone.
                let entries = unsafe { $first };
                $to_floats(entries)
            }
        }
    };
}

load!(f32, at, mask, _mm512_loadu_ps(at), _mm512_maskz_loadu_ps(mask, at), |entries| entries);
load!(u16, at, mask, _mm256_loadu_si256(at.cast()), _mm256_maskz_loadu_epi16(mask, at.cast()), |entries| {
    _mm512_cvtph_ps(entries)
});
load!(i16, at, mask, _mm256_loadu_si256(at.cast()), _mm256_maskz_loadu_epi16(mask, at), |entries| {
    _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(entries))
});
load!(i8, at, mask, _mm_loadu_si128(at.cast()), _mm_maskz_loadu_epi8(mask, at), |entries| {
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(entries))
});

// The lowest `count` of 16, 32 or 64 bits.
fn first16(count: usize) -> u16 {
    ((1_u32 << count) - 1) as u16
}

fn first32(count: usize) -> u32 {
    ((1_u64 << count) - 1) as u32
}

pub(super) fn first64(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

/// The sums that `SUMS` names, the second 0 unless there are two.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(crate) fn sums<T: Load, const SUMS: u8>(row: &[T], query: &[f32]) -> [f32; 2] {
    let len = row.len().min(query.len());
    let (a, b) = (row.as_ptr(), query.as_ptr());
    let mut first = [_mm512_setzero_ps(); 4];
    let mut second = [_mm512_setzero_ps(); 4];
    let mut at = 0;
    while at + 4 * LANES <= len {
        for lane in 0..4 {
            // SAFETY: `at + 64 <= len`, and both slices have `len` entries.
            let (a, b) =
                unsafe { (T::load(a.add(at + lane * LANES)), _mm512_loadu_ps(b.add(at + lane * LANES))) };
            step::<SUMS>(&mut first[lane], &mut second[lane], a, b);
        }
        at += 4 * LANES;
    }
    while at + LANES <= len {
        // SAFETY: `at + 16 <= len`.
        let (a, b) = unsafe { (T::load(a.add(at)), _mm512_loadu_ps(b.add(at))) };
        step::<SUMS>(&mut first[0], &mut second[0], a, b);
        at += LANES;
    }
    if at < len {
        let count = len - at;
        // SAFETY: `count` entries are left in both.
        let (a, b) = unsafe { (T::load_first(a.add(at), count), f32::load_first(b.add(at), count)) };
        step::<SUMS>(&mut first[1], &mut second[1], a, b);
    }
    let [first, second] = [first, second].map(|sums| {
        _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])))
    });
    [first, second]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn step<const SUMS: u8>(first: &mut __m512, second: &mut __m512, a: __m512, b: __m512) {
    if SUMS == DIFFERENCE {
        let difference = _mm512_sub_ps(a, b);
        *first = _mm512_fmadd_ps(difference, difference, *first);
    } else {
        debug_assert!(SUMS == PRODUCT || SUMS == PRODUCT_SQUARE);
        *first = _mm512_fmadd_ps(a, b, *first);
        if SUMS == PRODUCT_SQUARE {
            *second = _mm512_fmadd_ps(a, a, *second);
        }
    }
}

/// The products of eight rows with the vectors of a panel.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(crate) fn panel(rows: [&[f32]; ROWS], packed: &[f32], lanes: usize) -> Products {
    if lanes == HALF { parts::<1>(rows, packed) } else { parts::<2>(rows, packed) }
}

// The same of a panel of `PARTS` times 16 lanes: all sums stay in registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn parts<const PARTS: usize>(rows: [&[f32]; ROWS], packed: &[f32]) -> Products {
    let entries = packed.chunks_exact(PARTS * LANES);
    let len = rows.iter().map(|row| row.len()).min().unwrap_or(0);
    let mut sums = [[_mm512_setzero_ps(); PARTS]; ROWS];
    for (at, entry) in entries.enumerate().take(len) {
        let mut vectors = [_mm512_setzero_ps(); PARTS];
        for (part, vector) in vectors.iter_mut().enumerate() {
            // SAFETY: the chunk has `PARTS` times 16 values.
            *vector = unsafe { _mm512_loadu_ps(entry.as_ptr().add(part * LANES)) };
        }
        for (sums, row) in sums.iter_mut().zip(rows) {
            // SAFETY: `at < len`, and every row has `len` entries or more.
            let value = _mm512_set1_ps(unsafe { *row.as_ptr().add(at) });
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = _mm512_fmadd_ps(value, vector, *sum);
            }
        }
    }
    let mut products = [[0.0; WIDTH]; ROWS];
    for (products, sums) in products.iter_mut().zip(sums) {
        for (products, sum) in products.chunks_exact_mut(LANES).zip(sums) {
            // SAFETY: the chunk has 16 values.
            unsafe { _mm512_storeu_ps(products.as_mut_ptr(), sum) };
        }
    }
    products
}

/// The entries as floats.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(crate) fn widen<T: Load>(row: &[T], values: &mut [f32]) {
    for (row, values) in row.chunks(LANES).zip(values.chunks_mut(LANES)) {
        let count = row.len().min(values.len());
        // SAFETY: both chunks have `count` entries or more; the masks leave the others alone.
        unsafe {
            let entries =
                if count == LANES { T::load(row.as_ptr()) } else { T::load_first(row.as_ptr(), count) };
            _mm512_mask_storeu_ps(values.as_mut_ptr(), ((1_u32 << count) - 1) as u16, entries);
        }
    }
}

/// Sums of `row * query` and of `row * row`, exact.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(crate) fn shorts(row: &[i16], query: &[i16]) -> [i64; 2] {
    let len = row.len().min(query.len());
    let mut product = _mm512_setzero_si512();
    let mut square = product;
    let one = _mm512_set1_epi32(1);
    let mut at = 0;
    while at < len {
        let mask = first32((len - at).min(32));
        // SAFETY: the mask has at most `len - at` bits.
        let (a, b) = unsafe {
            (
                _mm512_maskz_loadu_epi16(mask, row.as_ptr().add(at)),
                _mm512_maskz_loadu_epi16(mask, query.as_ptr().add(at)),
            )
        };
        // A pair's sum lies in -2^31 + 2^16 ..= 2^31: less one it fits 32 bits.
        let pairs = _mm512_sub_epi32(_mm512_madd_epi16(a, b), one);
        product = _mm512_add_epi64(product, _mm512_srai_epi64::<32>(pairs));
        product = _mm512_add_epi64(product, _mm512_srai_epi64::<32>(_mm512_slli_epi64::<32>(pairs)));
        // A pair of squares is at most 2^31: it fits 32 bits without a sign.
        let pairs = _mm512_madd_epi16(a, a);
        square = _mm512_add_epi64(square, _mm512_srli_epi64::<32>(pairs));
        square = _mm512_add_epi64(square, _mm512_srli_epi64::<32>(_mm512_slli_epi64::<32>(pairs)));
        at += 32;
    }
    // Sixteen pairs a step, each less one.
    let taken = (len.div_ceil(32) * 16) as i64;
    [_mm512_reduce_add_epi64(product) + taken, _mm512_reduce_add_epi64(square)]
}

/// How many bits are set in both, and how many in `row`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(crate) fn bits_common(row: &[u8], query: &[u8]) -> [u64; 2] {
    let len = row.len().min(query.len());
    let (mut both, mut ones) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    let mut at = 0;
    while at < len {
        let (a, b) = load_bits(row, query, at, len);
        both = _mm512_add_epi64(both, ones_of(_mm512_and_si512(a, b)));
        ones = _mm512_add_epi64(ones, ones_of(a));
        at += 64;
    }
    [both, ones].map(|sums| _mm512_reduce_add_epi64(sums) as u64)
}

/// How many bits differ.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(crate) fn bits_different(row: &[u8], query: &[u8]) -> u64 {
    let len = row.len().min(query.len());
    let mut different = _mm512_setzero_si512();
    let mut at = 0;
    while at < len {
        let (a, b) = load_bits(row, query, at, len);
        different = _mm512_add_epi64(different, ones_of(_mm512_xor_si512(a, b)));
        at += 64;
    }
    _mm512_reduce_add_epi64(different) as u64
}

/// Up to 64 bytes of both from `at`, zeros behind `len`, which is no more than either's length.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn load_bits(row: &[u8], query: &[u8], at: usize, len: usize) -> (__m512i, __m512i) {
    debug_assert!(len <= row.len().min(query.len()));
    let mask = first64(len - at);
    // SAFETY: the mask has at most `len - at` bits, and both slices have `len` bytes.
    unsafe {
        (
            _mm512_maskz_loadu_epi8(mask, row.as_ptr().add(at).cast()),
            _mm512_maskz_loadu_epi8(mask, query.as_ptr().add(at).cast()),
        )
    }
}

// Set bits by a table of sixteen for either half of a byte, summed over eight bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn ones_of(bits: __m512i) -> __m512i {
    let table = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    let low = _mm512_set1_epi8(15);
    let lower = _mm512_shuffle_epi8(table, _mm512_and_si512(bits, low));
    let upper = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16::<4>(bits), low));
    _mm512_sad_epu8(_mm512_add_epi8(lower, upper), _mm512_setzero_si512())
}

/// Adds up table entries for 64 codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(crate) fn lookup(codes: &[u8], tables: &[u8]) -> [u16; 64] {
    let (low, byte) = (_mm512_set1_epi8(15), _mm512_set1_epi16(255));
    let (mut even, mut odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for (codes, table) in codes.chunks_exact(64).zip(tables.chunks_exact(32)) {
        // SAFETY: the chunks have 64 and 32 bytes; a prefetch is a hint that reads nothing.
        let (codes, lower, upper) = unsafe {
            _mm_prefetch::<_MM_HINT_T0>(codes.as_ptr().wrapping_add(LOOKUP_AHEAD).cast());
            (
                _mm512_loadu_si512(codes.as_ptr().cast()),
                _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())),
                _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().add(16).cast())),
            )
        };
        let lower = _mm512_shuffle_epi8(lower, _mm512_and_si512(codes, low));
        let upper = _mm512_shuffle_epi8(upper, _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low));
        let both = _mm512_add_epi8(lower, upper);
        even = _mm512_add_epi16(even, _mm512_and_si512(both, byte));
        odd = _mm512_add_epi16(odd, _mm512_srli_epi16::<8>(both));
    }
    // Even and odd in turn, and the quarters that this leaves behind each other in their order.
    let (lower, upper) = (_mm512_unpacklo_epi16(even, odd), _mm512_unpackhi_epi16(even, odd));
    let first = _mm512_permutex2var_epi64(lower, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), upper);
    let second = _mm512_permutex2var_epi64(lower, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), upper);
    let mut sums = [0_u16; 64];
    // SAFETY: the array has 128 bytes.
    unsafe {
        _mm512_storeu_si512(sums.as_mut_ptr().cast(), first);
        _mm512_storeu_si512(sums.as_mut_ptr().add(32).cast(), second);
    }
    sums
}

/// Up to 64 bytes of each from `at`, zeros behind `len`, which is no more than any length.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn load_nibbles(
    codes: &[u8],
    even: &[i8],
    odd: &[i8],
    at: usize,
    len: usize,
) -> (__m512i, __m512i, __m512i) {
    debug_assert!(len <= codes.len().min(even.len()).min(odd.len()));
    let mask = first64(len - at);
    // SAFETY: the mask has at most `len - at` bits, and all three slices have `len` bytes.
    unsafe {
        (
            _mm512_maskz_loadu_epi8(mask, codes.as_ptr().add(at).cast()),
            _mm512_maskz_loadu_epi8(mask, even.as_ptr().add(at)),
            _mm512_maskz_loadu_epi8(mask, odd.as_ptr().add(at)),
        )
    }
}
