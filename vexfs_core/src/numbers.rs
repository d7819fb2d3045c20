//! Newtypes for the numbers that must not be swapped.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// The number of a block on the device, counted from 0.
    BlockNo(u64)
);
number!(
    /// An inode number; never reused, bit 63 never set.
    Ino(u64)
);
number!(
    /// A row of a collection's matrix, counted from 0.
    Row(u64)
);
number!(
    /// A commit's number; each commit is one higher.
    Generation(u64)
);
number!(
    /// The number of a collection, fixed for its life, never reused.
    CollectionId(u32)
);

/// A point in time since 1970-01-01 UTC, as in `struct timespec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Time {
    /// Nanoseconds since 1970, 0 before it and saturating in the year 2554.
    pub fn as_nanoseconds(self) -> u64 {
        let seconds = u64::try_from(self.seconds).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(self.nanoseconds))
    }
}

/// A run of blocks on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// First block.
    pub start: BlockNo,
    /// How many blocks.
    pub count: u64,
}

impl Run {
    /// The run of `count` blocks from `start`.
    pub const fn new(start: u64, count: u64) -> Self {
        Self { start: BlockNo(start), count }
    }

    /// One past the last block.
    pub const fn end(self) -> u64 {
        self.start.0.saturating_add(self.count)
    }
}
