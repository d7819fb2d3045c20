//! Matrices that recoding replaced: each is freed when nobody has it open any more.

use vexfs_core::format::{collection_part, matrix_number, numbered_codebook, numbered_scale};
use vexfs_core::numbers::Ino;
use vexfs_core::{Error, Result};

use super::Service;
use crate::clock::now;

impl Service {
    /// A column was closed: it may have been the last of a matrix that was replaced, which the background work then frees.
    pub fn column_closed(&self) {
        if !self.volume().retired().is_empty() {
            self.wake(|wake| wake.tidy = true);
        }
    }

    /// Frees what was replaced, but for what somebody has open or mapped: a mapping keeps its file open for the kernel.
    pub(super) fn free_retired(&self) {
        let retired = self.volume_aside().retired().to_vec();
        for matrix in retired {
            if let Err(error) = self.free_matrix(matrix) {
                log::warn!("a matrix that was replaced is freed at the next mount: {error}");
            }
        }
    }

    fn free_matrix(&self, matrix: Ino) -> Result<()> {
        let Some((id, _)) = collection_part(matrix) else { return Ok(()) };
        let number = matrix_number(matrix);
        // Whoever comes by an old name from now on finds nothing.
        let Some(_matrix) = self.opens().claim(matrix) else { return Ok(()) };
        let Some(_scale) = self.opens().claim(numbered_scale(id, number)) else { return Ok(()) };
        let Some(_codebook) = self.opens().claim(numbered_codebook(id, number)) else { return Ok(()) };
        let open = self.opens().all();
        if open.iter().any(|inode| self.volume().matrix_of(*inode) == Some(matrix)) {
            return Ok(());
        }
        loop {
            let (done, events) = self.change(|volume| volume.free_retired(matrix, now()));
            self.tell(events);
            if done? {
                return Ok(());
            }
        }
    }

    /// Says what keeps recodes from going on, after the background work stopped for this reason.
    pub(super) fn tell_stopped(&self, error: Error) {
        let volume = self.volume();
        let stopped = volume.stopped_recodes().filter(|(_, why)| *why == error);
        let names: Vec<_> = stopped.filter_map(|(id, _)| volume.collection_name(id).ok()).collect();
        drop(volume);
        for name in &names {
            log::warn!(
                "recoding of the collection {name} stopped, which keeps its codec meanwhile: {error}. Mend that and ask for it \
                 again, or give it up with `vexfs recode {name} --stop`",
                name = String::from_utf8_lossy(name),
            );
        }
        if names.is_empty() {
            log::warn!("work in the background stopped: {error}");
        }
    }
}
