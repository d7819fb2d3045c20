//! Tables of flatbuffers, as Arrow's metadata is written in. Nothing that a file says is believed: what lies outside of
//! its bytes is absent.

/// A table.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Table<'a> {
    /// The root of a flatbuffer.
    pub(super) fn root(bytes: &'a [u8]) -> Option<Self> {
        Some(Self { bytes, at: u32_at(bytes, 0)? as usize })
    }

    // Where the field of this number lies.
    fn field(self, number: usize) -> Option<usize> {
        let back = i32::from_le_bytes(array(self.bytes, self.at)?);
        let layout = usize::try_from(i64::try_from(self.at).ok()? - i64::from(back)).ok()?;
        let entry = 4 + 2 * number;
        if entry + 2 > usize::from(u16_at(self.bytes, layout)?) {
            return None;
        }
        match u16_at(self.bytes, layout.checked_add(entry)?)? {
            0 => None,
            offset => self.at.checked_add(offset.into()),
        }
    }

    fn target(self, number: usize) -> Option<usize> {
        let at = self.field(number)?;
        at.checked_add(u32_at(self.bytes, at)? as usize)
    }

    /// A field of 8 bits; 0 where it is absent, as for the wider ones.
    pub(super) fn byte(self, number: usize) -> u8 {
        self.field(number).and_then(|at| self.bytes.get(at)).copied().unwrap_or(0)
    }

    /// A field of 16 bits.
    pub(super) fn short(self, number: usize) -> i16 {
        self.field(number).and_then(|at| array(self.bytes, at)).map_or(0, i16::from_le_bytes)
    }

    /// A field of 32 bits.
    pub(super) fn int(self, number: usize) -> i32 {
        self.field(number).and_then(|at| array(self.bytes, at)).map_or(0, i32::from_le_bytes)
    }

    /// A field of 64 bits.
    pub(super) fn long(self, number: usize) -> i64 {
        self.field(number).and_then(|at| array(self.bytes, at)).map_or(0, i64::from_le_bytes)
    }

    /// A table in a field.
    pub(super) fn table(self, number: usize) -> Option<Self> {
        Some(Self { at: self.target(number)?, ..self })
    }

    /// A string in a field.
    pub(super) fn text(self, number: usize) -> Option<&'a str> {
        let at = self.target(number)?;
        let start = at.checked_add(4)?;
        let end = start.checked_add(u32_at(self.bytes, at)? as usize)?;
        std::str::from_utf8(self.bytes.get(start..end)?).ok()
    }

    /// The tables in a field.
    pub(super) fn tables(self, number: usize) -> impl Iterator<Item = Self> {
        self.items(number, 4).filter_map(move |(at, item)| {
            let offset = u32::from_le_bytes(array(item, 0)?) as usize;
            Some(Self { at: at.checked_add(offset)?, ..self })
        })
    }

    /// The structs of `LONGS` 64-bit numbers in a field.
    pub(super) fn structs<const LONGS: usize>(self, number: usize) -> impl Iterator<Item = [i64; LONGS]> {
        self.items(number, 8 * LONGS).map(|(_, item)| {
            std::array::from_fn(|index| array(item, 8 * index).map_or(0, i64::from_le_bytes))
        })
    }

    // The items in a field, of `width` bytes each, and where they lie.
    fn items(self, number: usize, width: usize) -> impl Iterator<Item = (usize, &'a [u8])> {
        let items = self.target(number).and_then(|at| {
            let start = at.checked_add(4)?;
            let len = (u32_at(self.bytes, at)? as usize).checked_mul(width)?;
            Some((start, self.bytes.get(start..start.checked_add(len)?)?))
        });
        let (start, items) = items.unwrap_or((0, &[]));
        items.chunks_exact(width).enumerate().map(move |(index, item)| (start + index * width, item))
    }
}

fn array<const LEN: usize>(bytes: &[u8], at: usize) -> Option<[u8; LEN]> {
    bytes.get(at..at.checked_add(LEN)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

/// The 32-bit number at a place.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}
