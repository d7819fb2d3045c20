//! What the model takes over from the volume where that has a choice: rows after compaction, and when a recode came to its end.

use vexfs_core::device::BlockDevice;
use vexfs_core::format::Codec;
use vexfs_core::numbers::{CollectionId, Ino};

use super::{Model, Pair};

impl<D: BlockDevice + Clone> Pair<D> {
    /// Learns which recodes came to their end: then the collection has the codec that it was on its way to, and no other.
    pub(super) fn learn_codecs(&mut self) {
        let recoded: Vec<_> = (self.model.collections.values())
            .filter_map(|state| {
                let real = self.volume.collection(CollectionId(state.id)).ok()?;
                let target =
                    state.target.filter(|_| real.recode.is_none() && Some(real.codec) == state.target)?;
                Some((state.id, target))
            })
            .collect();
        for (id, codec) in recoded {
            self.model.recoded(id, codec);
        }
    }

    /// Takes over the rows of a collection's vectors after compaction, and judges them: none higher than before.
    pub(super) fn learn_rows(&mut self, name: &str) -> std::result::Result<(), String> {
        let id = self.model.collections.get(name).map_or(u32::MAX, |state| state.id);
        let files: Vec<u64> = self.model.nodes.keys().copied().collect();
        for inode in files {
            let mut found = Vec::new();
            let told = self.volume.vectors_of(Ino(inode), &mut |vector| found.push(vector));
            told.map_err(|error| format!("vectors of {inode}: {error}"))?;
            for vector in found.iter().filter(|vector| vector.collection.0 == id) {
                let Some(state) = self.model.change(inode).vectors.get_mut(&(id, vector.n)) else { continue };
                if vector.row > state.row {
                    return Err(format!("compaction moved row {} to {}", state.row, vector.row));
                }
                state.row = vector.row;
            }
        }
        Ok(())
    }
}

impl Model {
    /// A recode came to its end: the collection has this codec, and so have the vectors of files with names.
    pub(super) fn recoded(&mut self, id: u32, codec: Codec) {
        for state in self.collections.values_mut().filter(|state| state.id == id) {
            (state.codec, state.target) = (codec, None);
        }
        let named = self.nodes.iter().filter(|(_, node)| node.links > 0);
        let files: Vec<u64> = named.map(|(inode, _)| *inode).collect();
        for inode in files {
            let vectors = self.change(inode).vectors.range_mut((id, 0)..=(id, u32::MAX));
            vectors.for_each(|(_, vector)| vector.codecs.push(codec));
        }
    }

    /// The same filesystem with the recodes at their end that came to it in `later`.
    pub fn recoded_as(&self, later: &Self) -> Self {
        let mut model = self.clone();
        for (name, state) in &self.collections {
            let codec = later.collections.get(name).map_or(state.codec, |later| later.codec);
            if codec != state.codec {
                model.recoded(state.id, codec);
            }
        }
        model
    }
}
