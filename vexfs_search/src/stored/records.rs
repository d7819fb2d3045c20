//! Records of a row's code of four bits a dimension, and the choice of candidates by them.
//!
//! A record is the code, the factor of its products and the vector's squared length as floats, and a CRC-32 of all that.
//! INVARIANT: no record is used whose checksum is another, whether it is read for one search or was loaded before.

use std::time::Instant;

use crate::clustered::nibbles::{self, Rounded};
use crate::cpu::{Cpu, Job};
use crate::error::Result;
use crate::metric::Metric;
use crate::nearest::Hit;
use crate::stored::{StoredIndex, bytes};

/// Bytes of factor, squared length and checksum.
const TAIL: usize = 12;
/// Records that are asked for ahead of the one at work.
const AHEAD: usize = 8;

/// Bytes of a record of so many dimensions.
pub(super) const fn len(dimensions: usize) -> usize {
    nibbles::len(dimensions) + TAIL
}

/// Appends the record of a row's point.
pub(super) fn push(point: &[f32], records: &mut Vec<u8>) {
    let start = records.len();
    let factor = nibbles::encode(point, records);
    let square: f32 = point.iter().map(|value| value * value).sum();
    records.extend(factor.to_le_bytes());
    records.extend(square.to_le_bytes());
    let sum = crc32fast::hash(&records[start..]);
    records.extend(sum.to_le_bytes());
}

fn is_whole(record: &[u8]) -> bool {
    record
        .split_last_chunk::<4>()
        .is_some_and(|(body, sum)| crc32fast::hash(body) == u32::from_le_bytes(*sum))
}

impl StoredIndex {
    /// Reads all records into memory, for many searches; without it each reads those of its candidates.
    ///
    /// # Errors
    /// Damage of the index.
    pub fn load(&mut self) -> Result<()> {
        if self.head.record > 0 && self.records.is_none() {
            let (start, end) = self.head.records();
            let bytes = bytes::read(&self.bytes, start, (end - start) as usize)
                .map_err(|_| self.wrong("is cut off"))?;
            let len = self.head.record as usize;
            // Of a free row there is none.
            let mut rows = self.whole.iter().flat_map(|leaf| &leaf.rows).map(|row| *row as usize * len);
            if !rows.all(|at| bytes.get(at..at + len).is_some_and(is_whole)) {
                return Err(self.wrong("is damaged: a record's checksum is another"));
            }
            self.records = Some(bytes);
        }
        Ok(())
    }

    /// The best `count` of the candidates by their records; gives how many bytes were read. Without records, all of them.
    pub(super) fn refine(&self, turned: &[f32], candidates: &mut Vec<Hit>, count: usize) -> Result<u64> {
        if self.head.record == 0 || candidates.len() <= count || count == 0 {
            return Ok(0);
        }
        let read = match &self.records {
            Some(_) => None,
            None => Some(self.gather(candidates)?),
        };
        let len = self.head.record as usize;
        let (all, loaded) = (self.records.as_deref().unwrap_or_default(), read.is_none());
        let bytes = read.as_deref().unwrap_or(all);
        let query = Rounded::new(turned);
        crate::cpu::best(Rank { bytes, len, loaded, metric: self.head.metric, query: &query, candidates });
        candidates.select_nth_unstable(count - 1);
        candidates.truncate(count);
        Ok(read.map_or(0, |bytes| bytes.len() as u64))
    }

    // The candidates' records, one behind the other.
    fn gather(&self, candidates: &[Hit]) -> Result<Vec<u8>> {
        let (len, (start, _)) = (self.head.record as usize, self.head.records());
        let mut records = Vec::with_capacity(len * candidates.len());
        let mut ahead = self.bytes.ahead();
        let begun = Instant::now();
        let place = |number: usize| start + candidates[number].row * len as u64;
        for number in 0..candidates.len() {
            ahead.come(number, candidates.len(), |number| Some((place(number), len)));
            let record = bytes::read(&self.bytes, place(number), len);
            let record = record.map_err(|_| self.wrong("is cut off"))?;
            if !is_whole(&record) {
                return Err(self.wrong("is damaged: a record's checksum is another"));
            }
            records.extend(record);
        }
        self.bytes.learn(begun.elapsed(), candidates.len(), records.len() as u64);
        Ok(records)
    }
}

/// Gives candidates the scores that their records tell.
struct Rank<'a> {
    bytes: &'a [u8],
    len: usize,
    /// True if the records lie at their rows, else they are the candidates' alone, in their order.
    loaded: bool,
    metric: Metric,
    query: &'a Rounded,
    candidates: &'a mut [Hit],
}

impl Job for Rank<'_> {
    type Output = ();

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) {
        let place = |number: usize, hit: &Hit| self.len * if self.loaded { hit.row as usize } else { number };
        for number in 0..self.candidates.len() {
            if let Some(next) = self.candidates.get(number + AHEAD) {
                let at = place(number + AHEAD, next);
                (0..self.len).step_by(64).for_each(|line| cpu.prefetch(self.bytes, at + line));
            }
            let at = place(number, &self.candidates[number]);
            let record = self.bytes.get(at..at + self.len).unwrap_or_default();
            let Some((code, tail)) = record.split_last_chunk::<TAIL>() else { continue };
            let float = |at: usize| f32::from_le_bytes([tail[at], tail[at + 1], tail[at + 2], tail[at + 3]]);
            let product = self.query.product(cpu, code, float(0));
            self.candidates[number].score = match self.metric {
                Metric::L2 => 2.0 * product - float(4),
                _ => product,
            };
        }
    }
}
