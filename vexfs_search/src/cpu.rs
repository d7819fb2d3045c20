//! Which vector instructions this CPU has, as values that prove it.
//!
//! INVARIANT: a value of [`Avx2`], [`Avx512`] ... exists only where `detect` found the instructions, so its kernels
//! are safe to call. Work that should run with one level's instructions is a [`Job`]: [`Cpu::run`] compiles it once
//! a level, kernels inlined, and the level is chosen once a scan, not once a row.

use crate::kernel::panel::{Panel, Products, ROWS};
use crate::kernel::{Entry, portable};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// A level of instructions, and the kernels written for it. Slices of unequal length are compared as far as the
/// shorter one goes.
pub(crate) trait Cpu: Copy + Send + Sync {
    /// Its name, for people.
    fn name(self) -> &'static str;

    /// Runs a job compiled for this level.
    fn run<J: Job>(self, job: J) -> J::Output;

    /// Sum of `row * query`.
    fn product<T: Entry>(self, row: &[T], query: &[f32]) -> f32;

    /// Sums of `row * query` and of `row * row`.
    fn product_square<T: Entry>(self, row: &[T], query: &[f32]) -> [f32; 2];

    /// Sum of the squares of `row - query`.
    fn difference<T: Entry>(self, row: &[T], query: &[f32]) -> f32;

    /// The products of eight rows with the vectors of a panel, added up in the order of the entries.
    fn panel(self, rows: [&[f32]; ROWS], panel: &Panel) -> Products;

    /// The entries of a row as floats, exact.
    fn widen<T: Entry>(self, row: &[T], values: &mut [f32]);

    /// Sums of `row * query` and of `row * row`, exact.
    fn bytes(self, row: &[i8], query: &[i8]) -> [i64; 2];

    /// Sums of `row * query` and of `row * row`, exact.
    fn shorts(self, row: &[i16], query: &[i16]) -> [i64; 2];

    /// How many bits are set in both, and how many in `row`.
    fn bits_common(self, row: &[u8], query: &[u8]) -> [u64; 2];

    /// How many bits differ.
    fn bits_different(self, row: &[u8], query: &[u8]) -> u64;

    /// Adds up table entries for 64 codes: byte `j` of the codes is at `64 * j ..`, one a code, and its halves choose
    /// among the 16 entries at `tables[32 * j ..]` (the lower half) and those behind. Entries are at most 127, and
    /// the sums must fit 16 bits. The lengths are `64 * n` and `32 * n`.
    fn lookup(self, codes: &[u8], tables: &[u8]) -> [u16; 64];

    /// Sum of the codes' lower halves times `even` and of their upper halves times `odd`, exact; up to 2^16 codes.
    fn nibbles(self, codes: &[u8], even: &[i8], odd: &[i8]) -> i32;

    /// Asks for the cache line `offset` bytes behind the start of `bytes`, which may lie past its end.
    fn prefetch(self, bytes: &[u8], offset: usize);
}

/// What is compiled once for each level.
pub(crate) trait Job {
    /// What it gives.
    type Output;

    /// Does it. Implementations are `#[inline(always)]`: what is not inlined has not the level's instructions.
    fn run<C: Cpu>(self, cpu: C) -> Self::Output;
}

/// Runs the job with the best instructions that this CPU has.
pub(crate) fn best<J: Job>(job: J) -> J::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(cpu) = Avx512::detect() {
            return cpu.run(job);
        }
        if let Some(cpu) = Avx2::detect() {
            return cpu.run(job);
        }
    }
    Portable.run(job)
}

/// The name of the vector instructions that searches use on this CPU.
pub fn name() -> &'static str {
    struct Name;
    impl Job for Name {
        type Output = &'static str;

        #[inline(always)]
        fn run<C: Cpu>(self, cpu: C) -> &'static str {
            cpu.name()
        }
    }
    best(Name)
}

/// Any CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Cpu for Portable {
    fn name(self) -> &'static str {
        "portable"
    }

    #[inline(always)]
    fn run<J: Job>(self, job: J) -> J::Output {
        job.run(self)
    }

    #[inline(always)]
    fn product<T: Entry>(self, row: &[T], query: &[f32]) -> f32 {
        portable::sums(row, query, |a, b| [a * b])[0]
    }

    #[inline(always)]
    fn product_square<T: Entry>(self, row: &[T], query: &[f32]) -> [f32; 2] {
        portable::sums(row, query, |a, b| [a * b, a * a])
    }

    #[inline(always)]
    fn difference<T: Entry>(self, row: &[T], query: &[f32]) -> f32 {
        portable::sums(row, query, |a, b| [(a - b) * (a - b)])[0]
    }

    #[inline(always)]
    fn panel(self, rows: [&[f32]; ROWS], panel: &Panel) -> Products {
        portable::panel(rows, panel.packed(), panel.lanes())
    }

    #[inline(always)]
    fn widen<T: Entry>(self, row: &[T], values: &mut [f32]) {
        portable::widen(row, values);
    }

    #[inline(always)]
    fn bytes(self, row: &[i8], query: &[i8]) -> [i64; 2] {
        portable::whole(row, query)
    }

    #[inline(always)]
    fn shorts(self, row: &[i16], query: &[i16]) -> [i64; 2] {
        portable::whole(row, query)
    }

    #[inline(always)]
    fn bits_common(self, row: &[u8], query: &[u8]) -> [u64; 2] {
        [portable::ones(row, query, |a, b| a & b), portable::ones(row, query, |a, _| a)]
    }

    #[inline(always)]
    fn bits_different(self, row: &[u8], query: &[u8]) -> u64 {
        portable::ones(row, query, |a, b| a ^ b)
    }

    #[inline(always)]
    fn lookup(self, codes: &[u8], tables: &[u8]) -> [u16; 64] {
        portable::lookup(codes, tables)
    }

    #[inline(always)]
    fn nibbles(self, codes: &[u8], even: &[i8], odd: &[i8]) -> i32 {
        portable::nibbles(codes, even, odd)
    }

    #[inline(always)]
    fn prefetch(self, _: &[u8], _: usize) {}
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::is_x86_feature_detected as has;
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    use super::{Cpu, Job};
    use crate::kernel::panel::{Panel, Products, ROWS};
    use crate::kernel::{
        DIFFERENCE, Entry, PRODUCT, PRODUCT_SQUARE, avx2, avx512, avx512_popcount, avx512_vnni,
    };

    /// AVX2, FMA, F16C and POPCNT.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Avx2(());

    /// AVX-512 F, BW, DQ, VL and VNNI, besides all of [`Avx2`]; perhaps VPOPCNTDQ.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Avx512 {
        popcount: bool,
    }

    impl Avx2 {
        /// The proof, if this CPU has them.
        pub(crate) fn detect() -> Option<Self> {
            (has!("avx2") && has!("fma") && has!("f16c") && has!("popcnt")).then_some(Self(()))
        }
    }

    impl Avx512 {
        /// The proof, if this CPU has them.
        pub(crate) fn detect() -> Option<Self> {
            let wide = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            let all = wide && has!("avx512vnni") && Avx2::detect().is_some();
            all.then_some(Self { popcount: has!("avx512vpopcntdq") })
        }

        /// The same without VPOPCNTDQ.
        #[cfg(test)]
        pub(crate) fn without_popcount(self) -> Self {
            Self { popcount: false }
        }
    }

    // One level: its name, its instructions, and the files its kernels come from.
    macro_rules! level {
        ($level:ty, $features:literal, $floats:ident, $bytes:ident, $name:expr, $popcount:expr) => {
            impl Cpu for $level {
                fn name(self) -> &'static str {
                    $name(self)
                }

                fn run<J: Job>(self, job: J) -> J::Output {
                    #[target_feature(enable = $features)]
                    fn with_them<J: Job>(cpu: $level, job: J) -> J::Output {
                        job.run(cpu)
                    }
                    // SAFETY: `self` proves that the CPU has these instructions.
                    unsafe { with_them(self, job) }
                }

                #[inline(always)]
                fn product<T: Entry>(self, row: &[T], query: &[f32]) -> f32 {
                    // SAFETY: `self` proves that the CPU has the kernel's instructions.
                    unsafe { $floats::sums::<T, PRODUCT>(row, query)[0] }
                }

                #[inline(always)]
                fn product_square<T: Entry>(self, row: &[T], query: &[f32]) -> [f32; 2] {
                    // SAFETY: as in `product`.
                    unsafe { $floats::sums::<T, PRODUCT_SQUARE>(row, query) }
                }

                #[inline(always)]
                fn difference<T: Entry>(self, row: &[T], query: &[f32]) -> f32 {
                    // SAFETY: as in `product`.
                    unsafe { $floats::sums::<T, DIFFERENCE>(row, query)[0] }
                }

                #[inline(always)]
                fn panel(self, rows: [&[f32]; ROWS], panel: &Panel) -> Products {
                    // SAFETY: as in `product`.
                    unsafe { $floats::panel(rows, panel.packed(), panel.lanes()) }
                }

                #[inline(always)]
                fn widen<T: Entry>(self, row: &[T], values: &mut [f32]) {
                    // SAFETY: as in `product`.
                    unsafe { $floats::widen(row, values) }
                }

                #[inline(always)]
                fn bytes(self, row: &[i8], query: &[i8]) -> [i64; 2] {
                    // SAFETY: as in `product`.
                    unsafe { $bytes::bytes(row, query) }
                }

                #[inline(always)]
                fn shorts(self, row: &[i16], query: &[i16]) -> [i64; 2] {
                    // SAFETY: as in `product`.
                    unsafe { $floats::shorts(row, query) }
                }

                #[inline(always)]
                fn bits_common(self, row: &[u8], query: &[u8]) -> [u64; 2] {
                    if $popcount(self) {
                        // SAFETY: it has VPOPCNTDQ, and else as in `product`.
                        return unsafe { avx512_popcount::bits_common(row, query) };
                    }
                    // SAFETY: as in `product`.
                    unsafe { $floats::bits_common(row, query) }
                }

                #[inline(always)]
                fn bits_different(self, row: &[u8], query: &[u8]) -> u64 {
                    if $popcount(self) {
                        // SAFETY: it has VPOPCNTDQ, and else as in `product`.
                        return unsafe { avx512_popcount::bits_different(row, query) };
                    }
                    // SAFETY: as in `product`.
                    unsafe { $floats::bits_different(row, query) }
                }

                #[inline(always)]
                fn lookup(self, codes: &[u8], tables: &[u8]) -> [u16; 64] {
                    // SAFETY: as in `product`.
                    unsafe { $floats::lookup(codes, tables) }
                }

                #[inline(always)]
                fn nibbles(self, codes: &[u8], even: &[i8], odd: &[i8]) -> i32 {
                    // SAFETY: as in `product`.
                    unsafe { $bytes::nibbles(codes, even, odd) }
                }

                #[inline(always)]
                fn prefetch(self, bytes: &[u8], offset: usize) {
                    // SAFETY: a hint; it reads nothing, and an address that is not there does nothing.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(offset).cast()) }
                }
            }
        };
    }

    level!(Avx2, "avx2,fma,f16c,popcnt", avx2, avx2, |_| "AVX2", |_| false);
    // The instruction that counts bits is used in calls of its own: a level more would compile every job once more.
    level!(
        Avx512,
        "avx2,fma,f16c,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni",
        avx512,
        avx512_vnni,
        |cpu: Self| if cpu.popcount { "AVX-512 with VNNI and VPOPCNTDQ" } else { "AVX-512 with VNNI" },
        |cpu: Self| cpu.popcount
    );
}
