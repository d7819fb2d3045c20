//! Kernels: the sums over one row and one query that every metric is made of. A file an instruction set.
//!
//! INVARIANT: integers and bits are exact; floats are added in an order that depends on length and instruction set
//! alone. Nothing here knows metrics, rows or files.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512_popcount;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512_vnni;
pub(crate) mod panel;
pub(crate) mod portable;
#[cfg(test)]
mod tests;

/// How far ahead of the codes at work a lookup asks for others: they lie behind each other.
#[cfg(target_arch = "x86_64")]
const LOOKUP_AHEAD: usize = 4096;
/// Which sums: of `a * b`.
#[cfg(target_arch = "x86_64")]
pub(crate) const PRODUCT: u8 = 0;
/// Which sums: of `a * b` and of `a * a`.
#[cfg(target_arch = "x86_64")]
pub(crate) const PRODUCT_SQUARE: u8 = 1;
/// Which sums: of `(a - b) * (a - b)`.
#[cfg(target_arch = "x86_64")]
pub(crate) const DIFFERENCE: u8 = 2;

/// An entry of a row that is compared with floats: `f32`, `i8`, `i16`, and `u16` for the bits of a 16-bit float.
#[cfg(target_arch = "x86_64")]
pub(crate) trait Entry:
    portable::Value + avx2::Load + avx512::Load + zerocopy::FromBytes + zerocopy::Immutable
{
}
#[cfg(not(target_arch = "x86_64"))]
pub(crate) trait Entry: portable::Value + zerocopy::FromBytes + zerocopy::Immutable {}

impl Entry for f32 {}
impl Entry for u16 {}
impl Entry for i8 {}
impl Entry for i16 {}
