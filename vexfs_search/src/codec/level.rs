//! Which vector instructions this CPU has, as values that prove it, and the kernels written for them.
//!
//! INVARIANT: a value of [`Avx2`] or [`Avx512`] exists only where `detect` found the instructions, so its kernels are
//! safe to call. The level is chosen once a batch; a kernel does one row.

use super::portable;
use super::pq::Entries;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

/// A level of instructions. In each call the row has exactly the bytes that the codec stores of the vector.
pub(super) trait Level: Copy {
    /// Its name, for people.
    fn name(self) -> &'static str;

    /// The bits of the largest magnitude; of NaN above those of infinity.
    fn largest(self, vector: &[f32]) -> u32;

    /// Stores binary16.
    fn encode_f16(self, vector: &[f32], row: &mut [u8]);

    /// Stores i8 codes.
    fn encode_sq8(self, vector: &[f32], reciprocal: f32, row: &mut [u8]);

    /// Stores codes of 4 bits.
    fn encode_sq4(self, vector: &[f32], reciprocal: f32, row: &mut [u8]);

    /// Stores signs. Gives the sum of the magnitudes, each cut off below 2^-16 of the last bit of a number with this
    /// biased exponent, which is that of the largest magnitude.
    fn encode_binary(self, vector: &[f32], exponent: u32, row: &mut [u8]) -> u64;

    /// Reads binary16.
    fn decode_f16(self, row: &[u8], vector: &mut [f32]);

    /// Reads i8 codes.
    fn decode_sq8(self, row: &[u8], scale: f32, vector: &mut [f32]);

    /// Reads codes of 4 bits.
    fn decode_sq4(self, row: &[u8], scale: f32, vector: &mut [f32]);

    /// Reads signs.
    fn decode_binary(self, row: &[u8], scale: f32, vector: &mut [f32]);

    /// The entry of a codebook that is nearest to each point, the first of equally near ones.
    fn nearest(self, entries: &Entries, points: &[i16], codes: &mut [u8]);
}

/// A batch, to be done with some level.
pub(super) trait Job {
    /// What it gives.
    type Output;

    /// Does it.
    fn run<L: Level>(self, level: L) -> Self::Output;
}

/// Runs the job with the best instructions that this CPU has.
pub(super) fn best<J: Job>(job: J) -> J::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(level) = Avx512::detect() {
            return job.run(level);
        }
        if let Some(level) = Avx2::detect() {
            return job.run(level);
        }
    }
    job.run(Portable)
}

/// The name of the instructions in use.
pub fn name() -> &'static str {
    struct Name;
    impl Job for Name {
        type Output = &'static str;

        fn run<L: Level>(self, level: L) -> &'static str {
            level.name()
        }
    }
    best(Name)
}

/// Any CPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

// A level's methods are the functions of a file.
macro_rules! kernels {
    ($file:ident, $name:literal) => {
        fn name(self) -> &'static str {
            $name
        }

        #[inline(always)]
        fn largest(self, vector: &[f32]) -> u32 {
            kernels!($file::largest(vector))
        }

        #[inline(always)]
        fn encode_f16(self, vector: &[f32], row: &mut [u8]) {
            kernels!($file::encode_f16(vector, row))
        }

        #[inline(always)]
        fn encode_sq8(self, vector: &[f32], reciprocal: f32, row: &mut [u8]) {
            kernels!($file::encode_sq8(vector, reciprocal, row))
        }

        #[inline(always)]
        fn encode_sq4(self, vector: &[f32], reciprocal: f32, row: &mut [u8]) {
            kernels!($file::encode_sq4(vector, reciprocal, row))
        }

        #[inline(always)]
        fn encode_binary(self, vector: &[f32], exponent: u32, row: &mut [u8]) -> u64 {
            kernels!($file::encode_binary(vector, exponent, row))
        }

        #[inline(always)]
        fn decode_f16(self, row: &[u8], vector: &mut [f32]) {
            kernels!($file::decode_f16(row, vector))
        }

        #[inline(always)]
        fn decode_sq8(self, row: &[u8], scale: f32, vector: &mut [f32]) {
            kernels!($file::decode_sq8(row, scale, vector))
        }

        #[inline(always)]
        fn decode_sq4(self, row: &[u8], scale: f32, vector: &mut [f32]) {
            kernels!($file::decode_sq4(row, scale, vector))
        }

        #[inline(always)]
        fn decode_binary(self, row: &[u8], scale: f32, vector: &mut [f32]) {
            kernels!($file::decode_binary(row, scale, vector))
        }

        #[inline(always)]
        fn nearest(self, entries: &Entries, points: &[i16], codes: &mut [u8]) {
            kernels!($file::nearest(entries, points, codes))
        }
    };
    (portable::$kernel:ident($($argument:ident),*)) => {
        portable::$kernel($($argument),*)
    };
    ($file:ident::$kernel:ident($($argument:ident),*)) => {
        // SAFETY: `self` proves that the CPU has the kernel's instructions.
        unsafe { $file::$kernel($($argument),*) }
    };
}

impl Level for Portable {
    kernels!(portable, "portable");
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::is_x86_feature_detected as has;

    use super::Level;
    use crate::codec::pq::Entries;
    use crate::codec::{avx2, avx512};

    /// AVX2 and F16C.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::codec) struct Avx2(());

    /// AVX-512 F, BW, DQ and VL, besides all of [`Avx2`].
    #[derive(Clone, Copy, Debug)]
    pub(in crate::codec) struct Avx512(());

    impl Avx2 {
        /// The proof, if this CPU has them.
        pub(in crate::codec) fn detect() -> Option<Self> {
            (has!("avx2") && has!("f16c")).then_some(Self(()))
        }
    }

    impl Avx512 {
        /// The proof, if this CPU has them.
        pub(in crate::codec) fn detect() -> Option<Self> {
            let wide = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            (wide && Avx2::detect().is_some()).then_some(Self(()))
        }
    }

    impl Level for Avx2 {
        kernels!(avx2, "AVX2");
    }

    impl Level for Avx512 {
        kernels!(avx512, "AVX-512");
    }
}
