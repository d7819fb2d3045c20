//! For any CPU: sixteen sums side by side, added up in a fixed order, which compilers turn into vector instructions.

use super::panel::{Products, ROWS, WIDTH};
use crate::half;

/// An entry that has a value.
pub(crate) trait Value: Copy + Send + Sync + 'static {
    /// The value, exact.
    fn value(self) -> f32;
}

impl Value for f32 {
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

impl Value for i8 {
    #[inline(always)]
    fn value(self) -> f32 {
        f32::from(self)
    }
}

impl Value for i16 {
    #[inline(always)]
    fn value(self) -> f32 {
        f32::from(self)
    }
}

/// The bits of a 16-bit float.
impl Value for u16 {
    #[inline(always)]
    fn value(self) -> f32 {
        half::to_f32(self)
    }
}

const LANES: usize = 16;

/// The sums of the terms of every pair, `N` sums at a time.
#[inline(always)]
pub(crate) fn sums<T: Value, const N: usize>(
    row: &[T],
    query: &[f32],
    terms: impl Fn(f32, f32) -> [f32; N],
) -> [f32; N] {
    let len = row.len().min(query.len());
    let (row, query) = (&row[..len], &query[..len]);
    let mut lanes = [[0.0_f32; LANES]; N];
    let mut add = |lane: usize, terms: [f32; N]| {
        for (sum, term) in lanes.iter_mut().zip(terms) {
            sum[lane] += term;
        }
    };
    let (mut rows, mut queries) = (row.chunks_exact(LANES), query.chunks_exact(LANES));
    for (a, b) in (&mut rows).zip(&mut queries) {
        for lane in 0..LANES {
            add(lane, terms(a[lane].value(), b[lane]));
        }
    }
    for (lane, (a, b)) in rows.remainder().iter().zip(queries.remainder()).enumerate() {
        add(lane, terms(a.value(), *b));
    }
    lanes.map(fold)
}

fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Sums of `row * query` and of `row * row`, exact.
#[inline(always)]
pub(crate) fn whole<T: Copy + Into<i64>>(row: &[T], query: &[T]) -> [i64; 2] {
    row.iter().zip(query).fold([0; 2], |[product, square], (a, b)| {
        let (a, b): (i64, i64) = ((*a).into(), (*b).into());
        [product + a * b, square + a * a]
    })
}

/// How many bits `of` leaves set, a word of both at a time.
#[inline(always)]
pub(crate) fn ones(row: &[u8], query: &[u8], of: impl Fn(u64, u64) -> u64) -> u64 {
    let len = row.len().min(query.len());
    let (mut rows, mut queries) = (row[..len].chunks_exact(8), query[..len].chunks_exact(8));
    let mut count = 0;
    for (a, b) in (&mut rows).zip(&mut queries) {
        count += u64::from(of(word(a), word(b)).count_ones());
    }
    count + u64::from(of(word(rows.remainder()), word(queries.remainder())).count_ones())
}

// Up to eight bytes, the first lowest.
#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The products of eight rows with the vectors of a panel.
#[inline(always)]
pub(crate) fn panel(rows: [&[f32]; ROWS], packed: &[f32], lanes: usize) -> Products {
    let mut products = [[0.0; WIDTH]; ROWS];
    for (products, row) in products.iter_mut().zip(rows) {
        for (value, entry) in row.iter().zip(packed.chunks_exact(lanes)) {
            products.iter_mut().zip(entry).for_each(|(product, vector)| *product += value * vector);
        }
    }
    products
}

/// The entries as floats.
#[inline(always)]
pub(crate) fn widen<T: Value>(row: &[T], values: &mut [f32]) {
    values.iter_mut().zip(row).for_each(|(value, entry)| *value = entry.value());
}

/// Adds up table entries for 64 codes.
#[inline(always)]
pub(crate) fn lookup(codes: &[u8], tables: &[u8]) -> [u16; 64] {
    let mut sums = [0_u16; 64];
    for (codes, table) in codes.chunks_exact(64).zip(tables.chunks_exact(32)) {
        for (sum, code) in sums.iter_mut().zip(codes) {
            let (lower, upper) = (usize::from(code & 15), usize::from(code >> 4));
            *sum = sum.wrapping_add(u16::from(table[lower]) + u16::from(table[16 + upper]));
        }
    }
    sums
}

/// Sum of the codes' lower halves times `even` and of their upper halves times `odd`.
#[inline(always)]
pub(crate) fn nibbles(codes: &[u8], even: &[i8], odd: &[i8]) -> i32 {
    let both = |((code, even), odd): ((&u8, &i8), &i8)| {
        i32::from(code & 15) * i32::from(*even) + i32::from(code >> 4) * i32::from(*odd)
    };
    codes.iter().zip(even).zip(odd).map(both).sum()
}
