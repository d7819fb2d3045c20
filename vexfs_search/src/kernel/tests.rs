//! Every kernel at every length and misalignment, on every level that this CPU has, against plain sums in double
//! precision or whole numbers.

use std::array::from_fn;

use crate::cpu::{Cpu, Job, Portable};
use crate::half;
use crate::kernel::Entry;
use crate::kernel::panel::{HALF, Panel, ROWS, WIDTH};

#[cfg(target_arch = "x86_64")]
use crate::cpu::{Avx2, Avx512};

/// Runs the job on every level that this CPU has.
fn on_all<J: Job + Copy>(job: J) {
    Portable.run(job);
    #[cfg(target_arch = "x86_64")]
    {
        Avx2::detect().map(|cpu| cpu.run(job));
        if let Some(cpu) = Avx512::detect() {
            cpu.run(job);
            cpu.without_popcount().run(job);
        }
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn value(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn many<T>(&mut self, of: impl Fn(u64) -> T) -> Vec<T> {
        (0..LEN_MAX + 64).map(|_| of(self.next())).collect()
    }
}

const LEN_MAX: usize = 257;

/// Every length, and starts that are aligned to nothing but an entry.
fn places() -> impl Iterator<Item = (usize, usize, usize)> {
    (0..=LEN_MAX).flat_map(|len| [(0, 0), (1, 0), (0, 3), (7, 5), (31, 17)].map(|(a, b)| (len, a, b)))
}

#[derive(Clone, Copy)]
struct Floats<'a, T> {
    rows: &'a [T],
    queries: &'a [f32],
}

impl<T: Entry> Job for Floats<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) {
        for (len, a, b) in places() {
            let (row, query) = (&self.rows[a..a + len], &self.queries[b..b + len]);
            let pairs = || row.iter().zip(query).map(|(a, b)| (f64::from(a.value()), f64::from(*b)));
            let product: f64 = pairs().map(|(a, b)| a * b).sum();
            let square: f64 = pairs().map(|(a, _)| a * a).sum();
            let difference: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
            // Relative to the terms' size: of a sum with both signs nothing else is small.
            let size: f64 = pairs().map(|(a, b)| (a * b).abs() + a * a + b * b).sum();
            let near = |got: f32, expected: f64| {
                let error = (f64::from(got) - expected).abs();
                assert!(error <= 1e-6 * size, "{} {len} {a} {b}: {got}, not {expected}", cpu.name());
            };
            near(cpu.product(row, query), product);
            let both = cpu.product_square(row, query);
            near(both[0], product);
            near(both[1], square);
            near(cpu.difference(row, query), difference);
            let mut values = vec![f32::NAN; len + 1];
            cpu.widen(row, &mut values);
            assert!(
                values[len].is_nan() && values.iter().zip(row).all(|(value, entry)| *value == entry.value())
            );
            self.panel(cpu, a, b, len);
        }
    }
}

impl<T: Entry> Floats<'_, T> {
    // Panels of one lane, of half and of all, and rows one entry apart.
    #[inline(always)]
    fn panel<C: Cpu>(&self, cpu: C, a: usize, b: usize, len: usize) {
        let values: Vec<f32> = self.rows.iter().map(|entry| entry.value()).collect();
        let rows: [&[f32]; ROWS] = from_fn(|shift| &values[a + shift..a + shift + len]);
        for count in [1, HALF, HALF + 1, WIDTH] {
            let queries: Vec<&[f32]> =
                (0..count).map(|shift| &self.queries[b + shift..b + shift + len]).collect();
            let products = cpu.panel(rows, &Panel::new(&queries));
            for (row, products) in rows.iter().zip(products) {
                for (query, got) in queries.iter().zip(products) {
                    let terms = || row.iter().zip(*query).map(|(a, b)| f64::from(*a) * f64::from(*b));
                    let size: f64 = terms().map(f64::abs).sum();
                    // The worst of any order of sums, as what relies on them takes it.
                    let most = len as f64 * f64::from(f32::EPSILON) * size;
                    assert!((f64::from(got) - terms().sum::<f64>()).abs() <= most, "{} {len}", cpu.name());
                }
            }
        }
    }
}

#[test]
fn floats_equal_a_reference_in_double_precision() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let queries: Vec<f32> = (0..LEN_MAX + 64).map(|_| random.value()).collect();
    let rows: Vec<f32> = (0..LEN_MAX + 64).map(|_| random.value()).collect();
    let halves: Vec<u16> = rows.iter().map(|value| half::from_f32(*value)).collect();
    on_all(Floats { rows: &rows, queries: &queries });
    on_all(Floats { rows: &halves, queries: &queries });
    on_all(Floats { rows: &random.many(|word| word as i8), queries: &queries });
    on_all(Floats { rows: &random.many(|word| word as i16), queries: &queries });
}

#[derive(Clone, Copy)]
struct Whole<'a> {
    bytes: [&'a [i8]; 2],
    shorts: [&'a [i16]; 2],
    bits: [&'a [u8]; 2],
}

impl Job for Whole<'_> {
    type Output = ();

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) {
        for (len, a, b) in places() {
            let at = format!("{} {len} {a} {b}", cpu.name());
            let (row, query) = (&self.bytes[0][a..a + len], &self.bytes[1][b..b + len]);
            let sum = |of: fn(i64, i64) -> i64| {
                row.iter().zip(query).map(|(a, b)| of((*a).into(), (*b).into())).sum::<i64>()
            };
            assert_eq!(cpu.bytes(row, query), [sum(|a, b| a * b), sum(|a, _| a * a)], "bytes, {at}");
            let (row, query) = (&self.shorts[0][a..a + len], &self.shorts[1][b..b + len]);
            let sum = |of: fn(i64, i64) -> i64| {
                row.iter().zip(query).map(|(a, b)| of((*a).into(), (*b).into())).sum::<i64>()
            };
            assert_eq!(cpu.shorts(row, query), [sum(|a, b| a * b), sum(|a, _| a * a)], "shorts, {at}");
            let (row, query) = (&self.bits[0][a..a + len], &self.bits[1][b..b + len]);
            let ones = |of: fn(u8, u8) -> u8| {
                row.iter()
                    .zip(query)
                    .map(|(a, b)| (0..8).filter(|bit| of(*a, *b) >> bit & 1 == 1).count() as u64)
                    .sum::<u64>()
            };
            assert_eq!(cpu.bits_common(row, query), [ones(|a, b| a & b), ones(|a, _| a)], "bits, {at}");
            assert_eq!(cpu.bits_different(row, query), ones(|a, b| a ^ b), "bits, {at}");
        }
    }
}

#[test]
fn integers_and_bits_are_exact() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let bytes = [random.many(|word| word as i8), random.many(|word| word as i8)];
    let shorts = [random.many(|word| word as i16), random.many(|word| word as i16)];
    let bits = [random.many(|word| word as u8), random.many(|word| word as u8)];
    on_all(Whole {
        bytes: bytes.each_ref().map(|side| &side[..]),
        shorts: shorts.each_ref().map(|side| &side[..]),
        bits: bits.each_ref().map(|side| &side[..]),
    });
}

#[test]
fn the_largest_integers_do_not_overflow() {
    let lengths = [LEN_MAX + 64, 65_536, 65_537, 200_000];
    for len in lengths {
        for (row, query) in [(i8::MIN, i8::MIN), (i8::MIN, i8::MAX), (i8::MAX, i8::MAX)] {
            let short = |side: i8| if side == i8::MIN { i16::MIN } else { i16::MAX };
            on_all(Extremes { row, query, len, row_short: short(row), query_short: short(query) });
        }
    }
}

#[derive(Clone, Copy)]
struct Extremes {
    row: i8,
    query: i8,
    row_short: i16,
    query_short: i16,
    len: usize,
}

impl Job for Extremes {
    type Output = ();

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) {
        let of = |row: i64, query: i64| [row * query * self.len as i64, row * row * self.len as i64];
        let got = cpu.bytes(&vec![self.row; self.len], &vec![self.query; self.len]);
        assert_eq!(got, of(self.row.into(), self.query.into()), "{}", cpu.name());
        let got = cpu.shorts(&vec![self.row_short; self.len], &vec![self.query_short; self.len]);
        assert_eq!(got, of(self.row_short.into(), self.query_short.into()), "{}", cpu.name());
    }
}

#[derive(Clone, Copy)]
struct Lookup<'a>(&'a [u8], &'a [u8]);

impl Job for Lookup<'_> {
    type Output = ();

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) {
        for bytes in [0, 1, 2, 7, 48] {
            let got = cpu.lookup(&self.0[..64 * bytes], &self.1[..32 * bytes]);
            for (code, got) in got.into_iter().enumerate() {
                let entry = |byte: usize| {
                    let halves = self.0[64 * byte + code];
                    let (lower, upper) = (usize::from(halves & 15), usize::from(halves >> 4));
                    u16::from(self.1[32 * byte + lower]) + u16::from(self.1[32 * byte + 16 + upper])
                };
                assert_eq!(got, (0..bytes).map(entry).sum::<u16>(), "{} {bytes} {code}", cpu.name());
            }
        }
    }
}

#[test]
fn tables_are_looked_up() {
    let mut random = Random(77);
    let codes: Vec<u8> = (0..64 * 48).map(|_| random.next() as u8).collect();
    let tables: Vec<u8> = (0..32 * 48).map(|_| random.next() as u8 & 127).collect();
    on_all(Lookup(&codes, &tables));
}

#[derive(Clone, Copy)]
struct Nibbles<'a>(&'a [u8], [&'a [i8]; 2]);

impl Job for Nibbles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) {
        for (len, a, b) in places() {
            let (codes, even, odd) = (&self.0[a..a + len], &self.1[0][b..b + len], &self.1[1][a..a + len]);
            let term = |index: usize| {
                let (lower, upper) = (codes[index] & 15, codes[index] >> 4);
                i32::from(lower) * i32::from(even[index]) + i32::from(upper) * i32::from(odd[index])
            };
            let expected: i32 = (0..len).map(term).sum();
            assert_eq!(cpu.nibbles(codes, even, odd), expected, "{} {len} {a} {b}", cpu.name());
        }
        let (codes, query) = (vec![255; 1 << 16], vec![i8::MIN; 1 << 16]);
        assert_eq!(cpu.nibbles(&codes, &query, &query), -15 * 128 * (1 << 17), "{}", cpu.name());
    }
}

#[test]
fn products_of_halves_are_exact() {
    let mut random = Random(0x4b1d);
    let codes = random.many(|word| word as u8);
    let queries = [random.many(|word| word as i8), random.many(|word| (word >> 8) as i8)];
    on_all(Nibbles(&codes, queries.each_ref().map(|side| &side[..])));
}
