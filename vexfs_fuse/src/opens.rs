//! How often each inode is open.
//!
//! An inode without a name is freed by whoever claims it, which only one can, and nobody while it is open; until the
//! claim is given back nobody can open it either. So no descriptor ever loses its file.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vexfs_core::numbers::Ino;

/// The counts of a mount.
#[derive(Debug, Default)]
pub struct Opens(Mutex<HashMap<u64, State>>);

#[derive(Debug)]
enum State {
    Open(u64),
    /// It is being freed.
    Claimed,
}

/// The right to free an inode, until it is dropped.
#[derive(Debug)]
pub struct Claim<'o> {
    opens: &'o Opens,
    inode: Ino,
}

impl Opens {
    /// Notes an open; false if the inode is being freed.
    pub fn add(&self, inode: Ino) -> bool {
        match self.states().entry(inode.0).or_insert(State::Open(0)) {
            State::Open(count) => {
                *count += 1;
                true
            }
            State::Claimed => false,
        }
    }

    /// Notes a close.
    pub fn remove(&self, inode: Ino) {
        let mut states = self.states();
        match states.get_mut(&inode.0) {
            Some(State::Open(count)) if *count > 1 => *count -= 1,
            Some(State::Open(_)) => drop(states.remove(&inode.0)),
            Some(State::Claimed) | None => debug_assert!(false, "inode {inode} was not open"),
        }
    }

    /// True if somebody has the inode open.
    pub fn contains(&self, inode: Ino) -> bool {
        matches!(self.states().get(&inode.0), Some(State::Open(_)))
    }

    /// All inodes that are open.
    pub fn all(&self) -> Vec<Ino> {
        let states = self.states();
        let open = states.iter().filter(|(_, state)| matches!(state, State::Open(_)));
        open.map(|(inode, _)| Ino(*inode)).collect()
    }

    /// How many inodes are open.
    pub fn count(&self) -> u64 {
        self.states().len() as u64
    }

    /// The right to free `inode`; none if it is open, or if another has it.
    pub fn claim(&self, inode: Ino) -> Option<Claim<'_>> {
        let mut states = self.states();
        if states.contains_key(&inode.0) {
            return None;
        }
        states.insert(inode.0, State::Claimed);
        Some(Claim { opens: self, inode })
    }

    fn states(&self) -> MutexGuard<'_, HashMap<u64, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.opens.states().remove(&self.inode.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Ino = Ino(100);

    #[test]
    fn an_open_inode_cannot_be_claimed_and_a_claimed_one_not_opened() {
        let opens = Opens::default();
        assert!(opens.add(FILE) && opens.add(FILE));
        assert!(opens.claim(FILE).is_none());
        opens.remove(FILE);
        assert!(opens.contains(FILE) && opens.claim(FILE).is_none());
        opens.remove(FILE);
        assert!(!opens.contains(FILE));
        let claim = opens.claim(FILE).expect("nobody has it open");
        assert!(!opens.add(FILE), "opened while it is being freed");
        assert!(!opens.contains(FILE) && opens.claim(FILE).is_none());
        drop(claim);
        assert!(opens.add(FILE));
        assert_eq!(opens.count(), 1);
    }
}
