//! An open `query` file: what is written until the first read is the question, what is read then is the answer.
//!
//! The answer lies where reading goes on after the write, so that a descriptor serves as it is (`echo ... >&3; cat <&3`); who
//! seeks or reads before that place finds it at offset 0. The next write begins another question.

use alloc::vec::Vec;

use super::QUESTION_MAX;
use crate::error::{Error, Result};
use crate::memory;

/// A descriptor's question and answer.
#[derive(Debug, Default)]
pub struct Exchange {
    question: Vec<u8>,
    /// Where the question ends, as an offset of the descriptor.
    end: u64,
    answer: Option<Answer>,
}

#[derive(Debug)]
struct Answer {
    bytes: Vec<u8>,
    /// The offset of its first byte.
    start: u64,
}

impl Exchange {
    /// Nothing is asked yet.
    pub const fn new() -> Self {
        Self { question: Vec::new(), end: 0, answer: None }
    }

    /// A write of the descriptor.
    ///
    /// # Errors
    /// `FileTooLarge` for a question beyond [`QUESTION_MAX`].
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if self.answer.is_some() || offset != self.end {
            *self = Self::new();
        }
        if bytes.len() > QUESTION_MAX - self.question.len() {
            *self = Self::new();
            return Err(Error::FileTooLarge);
        }
        memory::extend(&mut self.question, bytes)?;
        self.end = offset.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// A question that was not answered yet.
    pub fn waiting(&self) -> Option<&[u8]> {
        (self.answer.is_none() && !self.question.is_empty()).then_some(self.question.as_slice())
    }

    /// A read of the descriptor: the rest of the answer from `offset` on; nothing if nothing was asked. `answer` makes the
    /// answer to a question that was not answered yet.
    pub fn read(&mut self, offset: u64, answer: impl FnOnce(&[u8]) -> Result<Vec<u8>>) -> Result<&[u8]> {
        if self.answer.is_none() {
            if self.question.is_empty() {
                return Ok(&[]);
            }
            let bytes = answer(&self.question)?;
            self.question = Vec::new();
            let start = if offset >= self.end { self.end } else { 0 };
            self.answer = Some(Answer { bytes, start });
        }
        let rest = self.answer.as_ref().and_then(|answer| {
            let skip = usize::try_from(offset.checked_sub(answer.start)?).ok()?;
            answer.bytes.get(skip..)
        });
        Ok(rest.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(question: &[u8]) -> Result<Vec<u8>> {
        Ok([b"re: ", question].concat())
    }

    #[test]
    fn reading_goes_on_where_writing_ended() {
        let mut exchange = Exchange::new();
        exchange.write(0, b"one").unwrap();
        assert_eq!(exchange.read(3, echo).unwrap(), b"re: one");
        assert_eq!(exchange.read(7, |_| panic!("answered twice")).unwrap(), b"one");
        assert_eq!(exchange.read(10, echo).unwrap(), b"");
        exchange.write(10, b"two").unwrap();
        assert_eq!(exchange.read(13, echo).unwrap(), b"re: two");
    }

    #[test]
    fn a_read_from_the_beginning_finds_the_answer_there() {
        let mut exchange = Exchange::new();
        exchange.write(0, b"a long question").unwrap();
        assert_eq!(exchange.read(0, echo).unwrap(), b"re: a long question");
        assert_eq!(exchange.read(15, echo).unwrap(), b"tion");
    }

    #[test]
    fn pieces_are_one_question_and_too_many_are_none() {
        let mut exchange = Exchange::new();
        assert_eq!(exchange.read(0, echo).unwrap(), b"");
        exchange.write(0, b"o").unwrap();
        exchange.write(1, b"ne").unwrap();
        assert_eq!(exchange.read(3, echo).unwrap(), b"re: one");
        exchange.write(0, &alloc::vec![b' '; QUESTION_MAX]).unwrap();
        assert_eq!(exchange.write(QUESTION_MAX as u64, b"x"), Err(Error::FileTooLarge));
        assert_eq!(exchange.read(0, echo).unwrap(), b"");
        exchange.write(7, b"two").unwrap();
        assert_eq!(exchange.read(10, echo).unwrap(), b"re: two");
    }

    #[test]
    fn what_could_not_be_answered_can_be_asked_for_again() {
        let mut exchange = Exchange::new();
        exchange.write(0, b"one").unwrap();
        assert_eq!(exchange.read(3, |_| Err(Error::NoMemory)), Err(Error::NoMemory));
        assert_eq!(exchange.read(3, echo).unwrap(), b"re: one");
    }
}
