//! What an image with codebooks holds.

use vexfs_core::format::{Codec, Element, Metric, Quantizer};
use vexfs_core::operations::NewCollection;
use vexfs_core::{Result, codec};

use super::maker::{Maker, NOW};
use super::plan::collection;

/// Collections that are stored by codebooks of 8 and of 4 bits, without loss: each vector is made of entries. One is on its way to
/// another codebook, and the matrix that one had before waits to be freed.
pub(super) fn put(maker: &mut Maker<'_>) -> Result<()> {
    let wide = Quantizer { subvectors: 6, sub_dimensions: 4, bits: 8 };
    let narrow = Quantizer { subvectors: 5, sub_dimensions: 3, bits: 4 };
    maker.file(b"/quantized", b"a file with vectors of codebooks\n")?;
    for (name, element, shape) in [("parts", Element::F32, wide), ("halves", Element::F16, narrow)] {
        let new = NewCollection {
            dimensions: shape.dimensions(),
            element,
            codec: Codec::None,
            metric: Metric::L2,
            model: b"",
            uid: 0,
            gid: 0,
            permissions: 0o755,
        };
        maker.volume.create_collection(name.as_bytes(), &new, NOW)?;
        maker.expect_collection(name, collection(element.name(), shape.dimensions(), "l2", &new));
        // Eighths from -16 to 16, which a half holds, no two entries of a part the same.
        let value = |part: usize, entry: usize, d: usize| {
            let place = if d == 0 { entry } else { (entry * 37 + part * 11 + d * 5) % 256 };
            (place as f32 - 128.0) / 8.0
        };
        let (parts, length) = (usize::from(shape.subvectors), usize::from(shape.sub_dimensions));
        let mut entries = Vec::new();
        for part in 0..parts {
            for entry in 0..shape.entries() {
                (0..length).for_each(|d| entries.extend(value(part, entry, d).to_le_bytes()));
            }
        }
        for n in 0..40 {
            let mut vector = Vec::new();
            for part in 0..parts {
                let entry = (n * 7 + part * 29) % shape.entries();
                (0..length).for_each(|d| vector.extend(value(part, entry, d).to_le_bytes()));
            }
            let element = if element == Element::F16 { ":f16" } else { "" };
            if !element.is_empty() {
                let mut halves = vec![0; vector.len() / 2];
                codec::encode(Codec::F16, Element::F32, &vector, &mut halves)?;
                vector = halves;
            }
            let suffix = if n == 0 { String::new() } else { format!(".{n}") };
            maker.vector(b"/quantized", &format!("user.vector.{name}{element}{suffix}"), &vector)?;
        }
        maker.quantize(name, shape, &entries)?;
        if element == Element::F32 {
            maker.settle()?;
            let id = maker.volume.collection_by_name(name.as_bytes())?.id;
            maker.volume.recode_with(id, wide, &entries, NOW)?;
            maker.volume.recode_step(id, NOW)?;
        }
    }
    maker.note_retired();
    maker.volume.commit(NOW)
}
