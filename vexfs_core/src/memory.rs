//! All allocation of the core, every one of it fallible.
//!
//! The kernel builds `alloc` with `no_global_oom_handling`, where `Vec::push`, `vec!`, `format!`,
//! `Box::new` and `BTreeMap` do not exist; so the rest of the core grows memory through this module alone.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use crate::bugs::granted;
use crate::error::{Error, Result};

/// Makes room for `additional` more elements.
pub fn reserve<T>(vec: &mut Vec<T>, additional: usize) -> Result<()> {
    if additional > vec.capacity() - vec.len() && !granted() {
        return Err(Error::NoMemory);
    }
    vec.try_reserve(additional).map_err(|_| Error::NoMemory)
}

// As `reserve`, without room for more.
fn reserve_exact<T>(vec: &mut Vec<T>, additional: usize) -> Result<()> {
    if additional > vec.capacity() - vec.len() && !granted() {
        return Err(Error::NoMemory);
    }
    vec.try_reserve_exact(additional).map_err(|_| Error::NoMemory)
}

/// Appends one element.
pub fn push<T>(vec: &mut Vec<T>, value: T) -> Result<()> {
    reserve(vec, 1)?;
    append(vec, value);
    Ok(())
}

/// Appends to a vector that has room (after [`reserve`]).
#[cfg(not(no_global_oom_handling))]
pub fn append<T>(vec: &mut Vec<T>, value: T) {
    vec.push(value);
}

/// Appends to a vector that has room (after [`reserve`]).
#[cfg(no_global_oom_handling)]
pub fn append<T>(vec: &mut Vec<T>, value: T) {
    let full = vec.push_within_capacity(value).is_err();
    debug_assert!(!full);
}

/// Inserts one element before `index`.
pub fn insert<T>(vec: &mut Vec<T>, index: usize, value: T) -> Result<()> {
    push(vec, value)?;
    if let Some(tail) = vec.get_mut(index..) {
        tail.rotate_right(1);
    }
    Ok(())
}

/// Appends a slice.
pub fn extend<T: Copy>(vec: &mut Vec<T>, slice: &[T]) -> Result<()> {
    reserve(vec, slice.len())?;
    #[cfg(not(no_global_oom_handling))]
    vec.extend_from_slice(slice);
    #[cfg(no_global_oom_handling)]
    for value in slice {
        append(vec, *value);
    }
    Ok(())
}

/// A vector of `len` copies of `value`.
pub fn filled<T: Clone>(len: usize, value: T) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    reserve_exact(&mut vec, len)?;
    #[cfg(not(no_global_oom_handling))]
    vec.resize(len, value);
    #[cfg(no_global_oom_handling)]
    for _ in 0..len {
        append(&mut vec, value.clone());
    }
    Ok(vec)
}

/// `len` zero bytes.
pub fn zeroed(len: usize) -> Result<Vec<u8>> {
    filled(len, 0u8)
}

/// A copy of `slice`.
pub fn copy<T: Copy>(slice: &[T]) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    extend(&mut vec, slice)?;
    Ok(vec)
}

/// A value that several hold.
pub fn shared<T>(value: T) -> Result<Arc<T>> {
    if !granted() {
        return Err(Error::NoMemory);
    }
    #[cfg(not(no_global_oom_handling))]
    return Ok(Arc::new(value));
    #[cfg(no_global_oom_handling)]
    return Arc::try_new(value).map_err(|_| Error::NoMemory);
}

/// The bytes of one metadata block, shared and never changed: cloning copies a pointer.
#[derive(Clone, Debug)]
pub struct Block(Arc<Vec<u8>>);

impl Block {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        shared(bytes).map(Self)
    }

    /// The bytes, to change: copied first if they are shared.
    pub fn make_mut(&mut self) -> Result<&mut [u8]> {
        if Arc::get_mut(&mut self.0).is_none() {
            *self = Self::new(copy(&self.0)?)?;
        }
        match Arc::get_mut(&mut self.0) {
            Some(bytes) => Ok(bytes),
            None => Err(Error::NoMemory),
        }
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// A hash map from `u64` keys, with open addressing and linear probing.
#[derive(Debug)]
pub struct Map<V> {
    slots: Vec<Option<(u64, V)>>,
    count: usize,
}

impl<V> Default for Map<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> Map<V> {
    /// An empty map, without memory.
    pub const fn new() -> Self {
        Self { slots: Vec::new(), count: 0 }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True if there is no entry.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The value at `key`.
    pub fn get(&self, key: u64) -> Option<&V> {
        match self.find(key) {
            Ok(index) => self.slots[index].as_ref().map(|(_, value)| value),
            Err(_) => None,
        }
    }

    /// The value at `key`, to change it.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        match self.find(key) {
            Ok(index) => self.slots[index].as_mut().map(|(_, value)| value),
            Err(_) => None,
        }
    }

    /// True if `key` is there.
    pub fn contains(&self, key: u64) -> bool {
        self.find(key).is_ok()
    }

    /// Makes room for `additional` more entries, so that as many [`Self::put`] cannot fail.
    pub fn reserve(&mut self, additional: usize) -> Result<()> {
        let wanted = self.count.saturating_add(additional);
        if wanted.saturating_mul(4) <= self.slots.len().saturating_mul(3) && !self.slots.is_empty() {
            return Ok(());
        }
        let size = wanted.saturating_mul(2).max(16).checked_next_power_of_two().ok_or(Error::NoMemory)?;
        let mut slots = Vec::new();
        reserve_exact(&mut slots, size)?;
        for _ in 0..size {
            append(&mut slots, None);
        }
        let old = core::mem::replace(&mut self.slots, slots);
        self.count = 0;
        for (key, value) in old.into_iter().flatten() {
            self.put(key, value);
        }
        Ok(())
    }

    /// Sets the value at `key` and gives the old one back.
    pub fn insert(&mut self, key: u64, value: V) -> Result<Option<V>> {
        self.reserve(1)?;
        Ok(self.put(key, value))
    }

    /// Sets the value at `key`; there must be room (after [`Self::reserve`]).
    pub fn put(&mut self, key: u64, value: V) -> Option<V> {
        match self.find(key) {
            Ok(index) => self.slots[index].replace((key, value)).map(|(_, old)| old),
            Err(Some(index)) => {
                self.slots[index] = Some((key, value));
                self.count += 1;
                None
            }
            Err(None) => {
                debug_assert!(false, "no room reserved");
                None
            }
        }
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: u64) -> Option<V> {
        let mut hole = self.find(key).ok()?;
        let (_, value) = self.slots[hole].take()?;
        self.count -= 1;
        // Entries after the hole move back, so that no probe stops early.
        let mask = self.slots.len() - 1;
        let mut next = (hole + 1) & mask;
        while let Some((other, _)) = &self.slots[next] {
            let home = spread(*other) & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.slots.swap(hole, next);
                hole = next;
            }
            next = (next + 1) & mask;
        }
        Some(value)
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.slots.iter().flatten().map(|(key, value)| (*key, value))
    }

    /// Takes all entries out, in no order.
    pub fn drain(&mut self) -> impl Iterator<Item = (u64, V)> + use<V> {
        self.count = 0;
        core::mem::take(&mut self.slots).into_iter().flatten()
    }

    // The slot of `key`, or the free slot where it would go (none in a map without memory).
    fn find(&self, key: u64) -> core::result::Result<usize, Option<usize>> {
        if self.slots.is_empty() {
            return Err(None);
        }
        let mask = self.slots.len() - 1;
        let mut index = spread(key) & mask;
        for _ in 0..self.slots.len() {
            match &self.slots[index] {
                Some((found, _)) if *found == key => return Ok(index),
                Some(_) => index = (index + 1) & mask,
                None => return Err(Some(index)),
            }
        }
        Err(None)
    }
}

// Fibonacci hashing (Knuth, TAOCP 3, 6.4), the high half folded down.
fn spread(key: u64) -> usize {
    let product = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (product ^ (product >> 32)) as usize
}

/// Text that is written with `write!`; growth that fails is an error, not an abort.
#[derive(Debug, Default)]
pub struct Text(Vec<u8>);

impl Text {
    /// Empty text.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The bytes so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Appends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        extend(&mut self.0, bytes)
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        extend(&mut self.0, text.as_bytes()).map_err(|_| fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    #[test]
    fn map_equals_an_ordered_map_under_random_operations() {
        let mut map = Map::new();
        let mut model = BTreeMap::new();
        let mut state = 1u64;
        for step in 0..200_000u64 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let key = (state >> 33) % 700;
            if state >> 62 == 0 {
                assert_eq!(map.remove(key), model.remove(&key));
            } else {
                assert_eq!(map.insert(key, step).unwrap(), model.insert(key, step));
            }
            assert_eq!(map.len(), model.len());
            assert_eq!(map.get(key ^ 1), model.get(&(key ^ 1)));
        }
        let mut all: Vec<_> = map.drain().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(model));
        assert!(map.is_empty());
    }

    #[test]
    fn insert_shifts_the_tail() {
        let mut vec = copy(&[1, 2, 4]).unwrap();
        insert(&mut vec, 2, 3).unwrap();
        insert(&mut vec, 4, 5).unwrap();
        assert_eq!(vec, [1, 2, 3, 4, 5]);
    }
}
