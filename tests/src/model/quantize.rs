//! Codebooks that the model and the volume both know: made from nothing but their shape.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use vexfs_core::codec::Codebook;
use vexfs_core::format::{Codec, Element, Quantizer};

use crate::random::Random;

/// Vectors beyond this are not coded by 256 entries: their codebooks are large for a volume of some MiB.
const WIDE: u32 = 100;

thread_local! {
    static KNOWN: RefCell<HashMap<(Quantized, u16), Rc<Codebook>>> = RefCell::new(HashMap::new());
}

type Quantized = (u16, u16, u16);

/// Product quantisation of vectors of `dimensions`, with codes of 4 bits, or of 8 for those that are not too wide; none without a
/// dimension.
pub fn quantized(dimensions: u32, bits: u16) -> Option<Codec> {
    let length = (2..=dimensions).find(|length| dimensions.is_multiple_of(*length)).unwrap_or(1);
    let bits = if dimensions > WIDE { 4 } else { bits };
    let parts = u16::try_from(dimensions / length).ok()?;
    Quantizer::cutting(dimensions, parts, bits).map(Codec::Pq)
}

/// The entries of the codebook of this shape, from -2 to 2; f16 can hold them.
pub fn entries(quantizer: Quantizer) -> Vec<u8> {
    let seed = u64::from(quantizer.dimensions()) << 8 | u64::from(quantizer.bits);
    let mut random = Random::new(seed);
    let count = quantizer.codebook_len() as u64 / 4;
    (0..count).flat_map(|_| (random.below(1024) as f32 / 256.0 - 2.0).to_le_bytes()).collect()
}

/// The codebook of this shape.
pub fn codebook(quantizer: Quantizer, element: Element) -> Rc<Codebook> {
    let key = ((quantizer.subvectors, quantizer.sub_dimensions, quantizer.bits), element as u16);
    KNOWN.with_borrow_mut(|known| {
        let made = || {
            Codebook::new(quantizer, element, entries(quantizer)).expect("a codebook of small finite numbers")
        };
        known.entry(key).or_insert_with(|| Rc::new(made())).clone()
    })
}
