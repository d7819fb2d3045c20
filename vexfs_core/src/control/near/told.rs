//! What is told of the rows that were found: a JSON object a line, nearest first.
//!
//! INVARIANT: what is told is looked up once more at that moment. A row that has another vector by then makes the whole
//! search begin anew; the last attempt leaves it out.

use core::fmt::Write;

use super::decimal;
use super::scan::{Candidate, ROWS_A_LOOK, Scan};
use super::{Answered, Refusal, Source};
use crate::control::render::json_string;
use crate::error::{Error, Result};
use crate::format::Metric;
use crate::json::{self, Value};
use crate::memory::Text;
use crate::operations::{Caller, Holder, Owner, Reach};

/// Passes over a collection that changes meanwhile, after which the answer is what was found.
const PASSES_MAX: u32 = 4;
/// Bytes of an answer at most.
const ANSWER_MAX: usize = 32 << 20;

impl<S: Source> Scan<'_, S> {
    /// The lines of the answer.
    pub(super) fn answer(mut self, caller: &Caller<'_>, reach: &mut Reach) -> Answered<Text> {
        let mut text = Text::new();
        for pass in 1..=PASSES_MAX {
            let last = pass == PASSES_MAX;
            let steady = self.pass(caller, reach)?;
            if (steady || last) && self.tell(caller, reach, last, &mut text)? {
                break;
            }
            text = Text::new();
        }
        Ok(text)
    }

    // False if a row has changed hands, unless this is the last attempt.
    fn tell(&self, caller: &Caller<'_>, reach: &mut Reach, last: bool, text: &mut Text) -> Answered<bool> {
        for some in self.best.chunks(ROWS_A_LOOK) {
            let told = self.source.look(|volume| {
                for row in some {
                    match volume.holder(self.id, row.row, row.vector_id, caller, reach)? {
                        Holder::Found(owner) => line(text, self.question.metric, row, &owner)?,
                        Holder::Gone | Holder::Hidden if last => {}
                        Holder::Gone | Holder::Hidden => return Ok(false),
                    }
                }
                Ok(true)
            })?;
            if !told {
                return Ok(false);
            }
            if text.as_bytes().len() > ANSWER_MAX {
                return Err(Refusal::new(format_args!(
                    "the answer is longer than {} MiB: ask for fewer with k",
                    ANSWER_MAX >> 20
                )));
            }
            if self.source.abandoned() {
                return Err(Error::Busy.into());
            }
        }
        Ok(true)
    }
}

fn line(text: &mut Text, metric: Metric, row: &Candidate, owner: &Owner) -> Result<()> {
    let score = row.score.0;
    let distance = match metric {
        Metric::L2 | Metric::Hamming => score.negated(),
        Metric::Cosine | Metric::InnerProduct => score,
    };
    let part = owner.metadata.as_deref().and_then(part_of);
    let mut write = || {
        text.write_str("{\"path\":")?;
        json_string(text, &owner.path)?;
        text.write_str(",\"score\":")?;
        decimal::write(text, score)?;
        text.write_str(",\"distance\":")?;
        decimal::write(text, distance)?;
        write!(text, ",\"row\":{},\"n\":{},\"inode\":{}", row.row, owner.n, owner.inode)?;
        if core::str::from_utf8(&owner.path).is_err() {
            text.write_str(",\"path_hex\":\"")?;
            owner.path.iter().try_for_each(|byte| write!(text, "{byte:02x}"))?;
            text.write_str("\"")?;
        }
        if let Some((start, length)) = part {
            write!(text, ",\"start\":{start},\"length\":{length}")?;
        }
        text.write_str("}\n")
    };
    write().map_err(|_| Error::NoMemory)
}

// Which part of its file a vector was made from, if its metadata say so.
fn part_of(metadata: &[u8]) -> Option<(u64, u64)> {
    json::check_object(metadata).ok()?;
    let number = |name: &[u8]| match json::member(metadata, name) {
        Ok(Some(Value::Number(digits))) => core::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    };
    Some((number(b"start")?, number(b"length")?))
}
