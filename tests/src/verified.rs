//! Metadata blocks that the core accepted, by the very pages that held them.
//!
//! The crash states of one workload share nearly all their pages, and each state is read many times over. What is kept here
//! is given back only for the same [`Address`] on a disk that has the same pages there, not like ones: pages in use here
//! are shared, so nobody changes them, and a block of which one byte is new lies in another page and is verified anew.
//! Refusals are never kept. As with the caches of the hosts, the place in the tree is not part of this: the core checks it
//! at each read.

use std::sync::{Arc, Mutex, PoisonError};

use vexfs_core::device::Address;
use vexfs_core::error::Result;
use vexfs_core::memory::Block;

use crate::image::{Image, Page};

/// Blocks kept, at most: a power of two. Recoveries write ever new ones, each of which takes the place of some older one.
const SLOTS: usize = 4096;

/// The blocks that were accepted. Shared by the disks of one workload's crash states.
pub struct Verified(Mutex<Vec<Option<Known>>>);

/// A block, and the pages whose bytes it is: while they are held here their addresses are nobody else's.
struct Known {
    address: Address,
    pages: Vec<Option<Arc<Page>>>,
    block: Block,
}

impl Known {
    fn is(&self, address: Address, pages: &[Option<Arc<Page>>]) -> bool {
        let same = |(known, page): (&Option<Arc<Page>>, &Option<Arc<Page>>)| match (known, page) {
            (Some(known), Some(page)) => Arc::ptr_eq(known, page),
            (None, None) => true,
            _ => false,
        };
        self.address == address && self.pages.len() == pages.len() && self.pages.iter().zip(pages).all(same)
    }
}

impl Default for Verified {
    fn default() -> Self {
        Self(Mutex::new((0..SLOTS).map(|_| None).collect()))
    }
}

impl Verified {
    /// Reads a block of `image` that `verify` accepts, or accepted when it lay in the same pages.
    pub fn block(
        &self,
        image: &Image,
        address: Address,
        verify: &dyn Fn(&[u8]) -> Result<()>,
    ) -> Result<Block> {
        let Some(pages) = image.whole_pages(address.offset, address.len) else {
            return image.block(address, verify);
        };
        let Some(Some(first)) = pages.first() else { return image.block(address, verify) };
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut slots[slot_of(first)];
        if let Some(known) = slot.as_ref().filter(|known| known.is(address, pages)) {
            return Ok(known.block.clone());
        }
        let block = image.block(address, verify)?;
        *slot = Some(Known { address, pages: pages.to_vec(), block: block.clone() });
        Ok(block)
    }
}

/// Fibonacci hashing of the page's address in memory (Knuth, "The Art of Computer Programming", volume 3, section 6.4).
fn slot_of(page: &Arc<Page>) -> usize {
    let spread = (Arc::as_ptr(page).addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (spread >> (64 - SLOTS.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use vexfs_core::error::Error;

    use super::*;

    const ADDRESS: Address = Address { offset: 8192, len: 8192, generation: 3, checksum: 5 };

    fn accept(_: &[u8]) -> Result<()> {
        Ok(())
    }

    fn refuse(_: &[u8]) -> Result<()> {
        Err(Error::checksum("tree node", 2))
    }

    #[test]
    fn a_block_in_the_same_pages_is_not_verified_twice_and_any_change_is() {
        let verified = Verified::default();
        let mut image = Image::new(1 << 16);
        image.write(8192, &[7; 8192]);
        assert!(verified.block(&image, ADDRESS, &refuse).is_err());
        assert_eq!(verified.block(&image, ADDRESS, &accept).expect("accepted")[..], [7; 8192]);
        let copy = image.clone();
        assert_eq!(verified.block(&copy, ADDRESS, &refuse).expect("the same pages")[..], [7; 8192]);
        // The same bytes, written anew, or one other in the second page: neither is what was accepted.
        image.write(16_000, &[8]);
        assert!(verified.block(&image, ADDRESS, &refuse).is_err());
        image.write(16_000, &[7]);
        assert!(verified.block(&image, ADDRESS, &refuse).is_err());
        assert!(verified.block(&copy, ADDRESS, &refuse).is_ok());
    }

    #[test]
    fn what_a_parent_says_of_a_block_belongs_to_it() {
        let verified = Verified::default();
        let mut image = Image::new(1 << 16);
        image.write(8192, &[7; 8192]);
        verified.block(&image, ADDRESS, &accept).expect("accepted");
        for address in [
            Address { checksum: 6, ..ADDRESS },
            Address { generation: 4, ..ADDRESS },
            Address { len: 4096, ..ADDRESS },
        ] {
            assert!(verified.block(&image, address, &refuse).is_err());
        }
    }
}
