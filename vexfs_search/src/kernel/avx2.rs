//! AVX2 with FMA and F16C: eight floats, or 32 bytes, at a time; ends by way of a small array of zeros.

use std::arch::x86_64::*;

use super::panel::{Products, ROWS, WIDTH};
use super::{DIFFERENCE, LOOKUP_AHEAD, PRODUCT, PRODUCT_SQUARE, portable};

const LANES: usize = 8;

/// Eight entries as floats.
pub(crate) trait Load: Copy + Default {
    /// # Safety
    /// `LANES` entries can be read at `at`, and the CPU has AVX2 and F16C.
    // SAFETY: the caller's part is told above.
    unsafe fn load(at: *const Self) -> __m256;
}

macro_rules! load {
    ($entry:ty, $at:ident, $all:expr, $to_floats:expr) => {
        impl Load for $entry {
            #[inline]
            #[target_feature(enable = "avx2,fma,f16c")]
            // SAFETY: the caller's part is the trait's.
            unsafe fn load($at: *const Self) -> __m256 {
                // SAFETY: the caller's promise: eight entries can be read.
                let entries = unsafe { $all };
                $to_floats(entries)
            }
        }
    };
}

load!(f32, at, _mm256_loadu_ps(at), |entries| entries);
load!(u16, at, _mm_loadu_si128(at.cast()), |entries| _mm256_cvtph_ps(entries));
load!(i16, at, _mm_loadu_si128(at.cast()), |entries| _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(entries)));
load!(i8, at, _mm_loadl_epi64(at.cast()), |entries| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(entries)));

/// The sums that `SUMS` names, the second 0 unless there are two.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn sums<T: Load, const SUMS: u8>(row: &[T], query: &[f32]) -> [f32; 2] {
    let len = row.len().min(query.len());
    let (a, b) = (row.as_ptr(), query.as_ptr());
    let mut first = [_mm256_setzero_ps(); 4];
    let mut second = [_mm256_setzero_ps(); 4];
    let mut at = 0;
    while at + 4 * LANES <= len {
        for lane in 0..4 {
            // SAFETY: `at + 32 <= len`, and both slices have `len` entries.
            let (a, b) =
                unsafe { (T::load(a.add(at + lane * LANES)), _mm256_loadu_ps(b.add(at + lane * LANES))) };
            step::<SUMS>(&mut first[lane], &mut second[lane], a, b);
        }
        at += 4 * LANES;
    }
    while at < len {
        let (a, b) = (eight(&row[at..len]), eight(&query[at..len]));
        // SAFETY: both arrays have eight entries.
        let (a, b) = unsafe { (T::load(a.as_ptr()), _mm256_loadu_ps(b.as_ptr())) };
        step::<SUMS>(&mut first[0], &mut second[0], a, b);
        at += LANES;
    }
    [first, second]
        .map(|sums| total(_mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]))))
}

// The first eight of a slice, zeros behind.
#[inline(always)]
fn eight<T: Copy + Default>(slice: &[T]) -> [T; LANES] {
    let mut array = [T::default(); LANES];
    let count = slice.len().min(LANES);
    array[..count].copy_from_slice(&slice[..count]);
    array
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn step<const SUMS: u8>(first: &mut __m256, second: &mut __m256, a: __m256, b: __m256) {
    if SUMS == DIFFERENCE {
        let difference = _mm256_sub_ps(a, b);
        *first = _mm256_fmadd_ps(difference, difference, *first);
    } else {
        debug_assert!(SUMS == PRODUCT || SUMS == PRODUCT_SQUARE);
        *first = _mm256_fmadd_ps(a, b, *first);
        if SUMS == PRODUCT_SQUARE {
            *second = _mm256_fmadd_ps(a, a, *second);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn total(sums: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps::<1>(sums));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

/// The products of eight rows with the vectors of a panel, sixteen lanes of four rows at a time: eight sums stay in
/// registers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn panel(rows: [&[f32]; ROWS], packed: &[f32], lanes: usize) -> Products {
    let mut products = [[0.0; WIDTH]; ROWS];
    for (products, rows) in products.chunks_exact_mut(4).zip(rows.chunks_exact(4)) {
        for first in (0..lanes).step_by(2 * LANES) {
            four_rows(rows, packed, lanes, first, products);
        }
    }
    products
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn four_rows(rows: &[&[f32]], packed: &[f32], lanes: usize, first: usize, products: &mut [[f32; WIDTH]]) {
    let rows: [&[f32]; 4] = [rows[0], rows[1], rows[2], rows[3]];
    let len = rows.iter().map(|row| row.len()).min().unwrap_or(0);
    let mut sums = [[_mm256_setzero_ps(); 2]; 4];
    for (at, entry) in packed.chunks_exact(lanes).enumerate().take(len) {
        let entry = &entry[first..first + 2 * LANES];
        // SAFETY: the slice has sixteen values.
        let vectors =
            unsafe { [_mm256_loadu_ps(entry.as_ptr()), _mm256_loadu_ps(entry.as_ptr().add(LANES))] };
        for (sums, row) in sums.iter_mut().zip(rows) {
            // SAFETY: `at < len`, and every row has `len` entries or more.
            let value = _mm256_set1_ps(unsafe { *row.as_ptr().add(at) });
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = _mm256_fmadd_ps(value, vector, *sum);
            }
        }
    }
    for (products, sums) in products.iter_mut().zip(sums) {
        for (products, sum) in products[first..].chunks_exact_mut(LANES).zip(sums) {
            // SAFETY: the chunk has eight values.
            unsafe { _mm256_storeu_ps(products.as_mut_ptr(), sum) };
        }
    }
}

/// The entries as floats.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn widen<T: Load>(row: &[T], values: &mut [f32]) {
    for (row, values) in row.chunks(LANES).zip(values.chunks_mut(LANES)) {
        let mut all = [0.0; LANES];
        // SAFETY: both arrays have eight entries.
        unsafe { _mm256_storeu_ps(all.as_mut_ptr(), T::load(eight(row).as_ptr())) };
        let count = row.len().min(values.len());
        values[..count].copy_from_slice(&all[..count]);
    }
}

/// Sums of `row * query` and of `row * row`, exact.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn bytes(row: &[i8], query: &[i8]) -> [i64; 2] {
    // A pair of products is at most 2^15, so a lane overflows after 2^16 steps: a million entries.
    let len = row.len().min(query.len()).min(1 << 19);
    let whole = len - len % 16;
    let mut sums = [_mm256_setzero_si256(); 2];
    let mut at = 0;
    while at < whole {
        // SAFETY: `at + 16 <= len`.
        let (a, b) = unsafe {
            (_mm_loadu_si128(row.as_ptr().add(at).cast()), _mm_loadu_si128(query.as_ptr().add(at).cast()))
        };
        let (a, b) = (_mm256_cvtepi8_epi16(a), _mm256_cvtepi8_epi16(b));
        sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(a, b));
        sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(a, a));
        at += 16;
    }
    let here = sums.map(|sums| {
        let halves = (_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        total64(_mm256_add_epi64(_mm256_cvtepi32_epi64(halves.0), _mm256_cvtepi32_epi64(halves.1)))
    });
    let rest = portable::whole(&row[whole..], &query[whole..]);
    [here[0] + rest[0], here[1] + rest[1]]
}

/// Sums of `row * query` and of `row * row`, exact.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn shorts(row: &[i16], query: &[i16]) -> [i64; 2] {
    let len = row.len().min(query.len());
    let whole = len - len % 8;
    let mut sums = [_mm256_setzero_si256(); 2];
    let mut at = 0;
    while at < whole {
        // SAFETY: `at + 8 <= len`.
        let (a, b) = unsafe {
            (_mm_loadu_si128(row.as_ptr().add(at).cast()), _mm_loadu_si128(query.as_ptr().add(at).cast()))
        };
        let (a, b) = (_mm256_cvtepi16_epi32(a), _mm256_cvtepi16_epi32(b));
        let (a_odd, b_odd) = (_mm256_srli_epi64::<32>(a), _mm256_srli_epi64::<32>(b));
        sums[0] = _mm256_add_epi64(
            sums[0],
            _mm256_add_epi64(_mm256_mul_epi32(a, b), _mm256_mul_epi32(a_odd, b_odd)),
        );
        sums[1] = _mm256_add_epi64(
            sums[1],
            _mm256_add_epi64(_mm256_mul_epi32(a, a), _mm256_mul_epi32(a_odd, a_odd)),
        );
        at += 8;
    }
    let here = sums.map(|sums| total64(sums));
    let rest = portable::whole(&row[whole..len], &query[whole..len]);
    [here[0] + rest[0], here[1] + rest[1]]
}

#[inline]
#[target_feature(enable = "avx2")]
fn total64(sums: __m256i) -> i64 {
    let two = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    _mm_extract_epi64::<0>(two) + _mm_extract_epi64::<1>(two)
}

/// How many bits are set in both, and how many in `row`.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
pub(crate) fn bits_common(row: &[u8], query: &[u8]) -> [u64; 2] {
    [ones(row, query, |a, b| a & b, |a, b| _mm256_and_si256(a, b)), ones(row, query, |a, _| a, |a, _| a)]
}

/// How many bits differ.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
pub(crate) fn bits_different(row: &[u8], query: &[u8]) -> u64 {
    ones(row, query, |a, b| a ^ b, |a, b| _mm256_xor_si256(a, b))
}

// Set bits by a table of sixteen for either half of a byte; the end by words.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn ones(
    row: &[u8],
    query: &[u8],
    of_words: impl Fn(u64, u64) -> u64,
    of: impl Fn(__m256i, __m256i) -> __m256i,
) -> u64 {
    let len = row.len().min(query.len());
    let whole = len - len % 32;
    let table = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    let low = _mm256_set1_epi8(15);
    let mut sums = _mm256_setzero_si256();
    let mut at = 0;
    while at < whole {
        // SAFETY: `at + 32 <= len`.
        let (a, b) = unsafe {
            (
                _mm256_loadu_si256(row.as_ptr().add(at).cast()),
                _mm256_loadu_si256(query.as_ptr().add(at).cast()),
            )
        };
        let bits = of(a, b);
        let lower = _mm256_shuffle_epi8(table, _mm256_and_si256(bits, low));
        let upper = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(bits), low));
        sums = _mm256_add_epi64(sums, _mm256_sad_epu8(_mm256_add_epi8(lower, upper), _mm256_setzero_si256()));
        at += 32;
    }
    total64(sums) as u64 + portable::ones(&row[whole..len], &query[whole..len], of_words)
}

/// Adds up table entries for 64 codes, 32 at a time.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn lookup(codes: &[u8], tables: &[u8]) -> [u16; 64] {
    let (low, byte) = (_mm256_set1_epi8(15), _mm256_set1_epi16(255));
    let mut sums = [_mm256_setzero_si256(); 4];
    for (codes, table) in codes.chunks_exact(64).zip(tables.chunks_exact(32)) {
        // SAFETY: the chunk has 32 bytes; a prefetch is a hint that reads nothing.
        let (lower, upper) = unsafe {
            _mm_prefetch::<_MM_HINT_T0>(codes.as_ptr().wrapping_add(LOOKUP_AHEAD).cast());
            (
                _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())),
                _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().add(16).cast())),
            )
        };
        for half in 0..2 {
            // SAFETY: the chunk has 64 bytes.
            let codes = unsafe { _mm256_loadu_si256(codes.as_ptr().add(32 * half).cast()) };
            let lower = _mm256_shuffle_epi8(lower, _mm256_and_si256(codes, low));
            let upper = _mm256_shuffle_epi8(upper, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low));
            let both = _mm256_add_epi8(lower, upper);
            sums[2 * half] = _mm256_add_epi16(sums[2 * half], _mm256_and_si256(both, byte));
            sums[2 * half + 1] = _mm256_add_epi16(sums[2 * half + 1], _mm256_srli_epi16::<8>(both));
        }
    }
    let mut parts = [[0_u16; 16]; 4];
    for (part, sums) in parts.iter_mut().zip(sums) {
        // SAFETY: the array has 32 bytes.
        unsafe { _mm256_storeu_si256(part.as_mut_ptr().cast(), sums) };
    }
    std::array::from_fn(|index| parts[index / 32 * 2 + index % 2][index % 32 / 2])
}

/// Sum of the codes' lower halves times `even` and of their upper halves times `odd`, 32 codes at a time.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
pub(crate) fn nibbles(codes: &[u8], even: &[i8], odd: &[i8]) -> i32 {
    let len = codes.len().min(even.len()).min(odd.len());
    let whole = len - len % 32;
    let (low, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    let mut sums = _mm256_setzero_si256();
    let mut at = 0;
    while at < whole {
        // SAFETY: `at + 32 <= len`, which is no more than any of the three lengths.
        let (codes, even, odd) = unsafe {
            (
                _mm256_loadu_si256(codes.as_ptr().add(at).cast()),
                _mm256_loadu_si256(even.as_ptr().add(at).cast()),
                _mm256_loadu_si256(odd.as_ptr().add(at).cast()),
            )
        };
        // Four products of at most 15 * 128 fit 16 bits.
        let lower = _mm256_maddubs_epi16(_mm256_and_si256(codes, low), even);
        let upper = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<4>(codes), low), odd);
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_add_epi16(lower, upper), ones));
        at += 32;
    }
    let four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    let one = _mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
    _mm_cvtsi128_si32(one) + portable::nibbles(&codes[whole..len], &even[whole..len], &odd[whole..len])
}
