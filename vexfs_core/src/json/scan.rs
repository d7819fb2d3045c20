//! A scanner of JSON texts: it goes over a value once, and gives its parts.

use super::Value;
use crate::error::{Error, Result};

/// How deep arrays and objects may lie in one another.
const DEPTH_MAX: u32 = 32;

/// Fails unless `text` is one JSON object, with white space around it.
pub(crate) fn check_object(text: &[u8]) -> Result<()> {
    core::str::from_utf8(text).map_err(|_| Error::Invalid("JSON is written in UTF-8"))?;
    let mut scanner = Scanner::new(text);
    scanner.space();
    if scanner.peek() != Some(b'{') {
        return Err(Error::Invalid("not a JSON object: {\"name\": value, ...}"));
    }
    scanner.value(0)?;
    scanner.space();
    match scanner.peek() {
        None => Ok(()),
        Some(_) => Err(Error::Invalid("something follows the JSON object")),
    }
}

/// A place in a text.
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Goes over an object; gives its names, as they are written, and values.
    pub(super) fn object(&mut self, each: &mut dyn FnMut(&'a [u8], Value<'a>) -> Result<()>) -> Result<()> {
        self.space();
        self.members(0, each)
    }

    fn members(&mut self, depth: u32, each: &mut dyn FnMut(&'a [u8], Value<'a>) -> Result<()>) -> Result<()> {
        self.expect(b'{', "an object begins with {")?;
        self.space();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.space();
            let name = self.string()?;
            self.space();
            self.expect(b':', "a : is missing behind a name of an object")?;
            let value = self.value(depth + 1)?;
            each(name, value)?;
            self.space();
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',', "a , or } is missing in an object")?;
        }
    }

    fn value(&mut self, depth: u32) -> Result<Value<'a>> {
        if depth > DEPTH_MAX {
            return Err(Error::Invalid("JSON of more than 32 levels"));
        }
        self.space();
        let start = self.at;
        match self.peek() {
            Some(b'{') => {
                self.members(depth, &mut |_, _| Ok(()))?;
                Ok(Value::Object(&self.text[start..self.at]))
            }
            Some(b'[') => {
                self.elements(depth, &mut |_| Ok(()))?;
                Ok(Value::Array(&self.text[start..self.at]))
            }
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number().map(Value::Number),
            _ => self.word(),
        }
    }

    /// Goes over an array; gives its values.
    pub(super) fn array(&mut self, each: &mut dyn FnMut(Value<'a>) -> Result<()>) -> Result<()> {
        self.space();
        self.elements(0, each)
    }

    fn elements(&mut self, depth: u32, each: &mut dyn FnMut(Value<'a>) -> Result<()>) -> Result<()> {
        self.expect(b'[', "an array begins with [")?;
        self.space();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            each(self.value(depth + 1)?)?;
            self.space();
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',', "a , or ] is missing in an array")?;
        }
    }

    fn string(&mut self) -> Result<&'a [u8]> {
        self.expect(b'"', "a name or string begins with \"")?;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(&self.text[start..self.at - 1]);
                }
                Some(b'\\') => {
                    let (_, len) = character(&self.text[self.at..])
                        .ok_or(Error::Invalid("an unknown escape in a string"))?;
                    self.at += len;
                }
                Some(0..0x20) => {
                    return Err(Error::Invalid("a control character in a string: write \\n, \\t, \\u00..."));
                }
                Some(_) => self.at += 1,
                None => return Err(Error::Invalid("a string without its closing \"")),
            }
        }
    }

    // number = [ minus ] int [ frac ] [ exp ]
    fn number(&mut self) -> Result<&'a [u8]> {
        let bad = Error::Invalid("a number is written like -12, 0.5 or 1e-3");
        let start = self.at;
        self.take(b'-');
        let zero = self.peek() == Some(b'0');
        let digits = self.digits();
        if digits == 0 || (zero && digits > 1) || (self.take(b'.') && self.digits() == 0) {
            return Err(bad);
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            if self.digits() == 0 {
                return Err(bad);
            }
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    fn word(&mut self) -> Result<Value<'a>> {
        let words: [(&[u8], Value<'a>); 3] =
            [(b"null", Value::Null), (b"true", Value::Bool(true)), (b"false", Value::Bool(false))];
        for (word, value) in words {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(Error::Invalid("a JSON value is an object, array, string, number, true, false or null"))
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, why: &'static str) -> Result<()> {
        if self.take(byte) { Ok(()) } else { Err(Error::Invalid(why)) }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
}

/// What stands at the beginning of a string's inside, and its length: the character of an escape, or `None` for a byte that
/// stands for itself. A surrogate without its other half is U+FFFD.
pub(super) fn character(raw: &[u8]) -> Option<(Option<char>, usize)> {
    if *raw.first()? != b'\\' {
        return Some((None, 1));
    }
    let simple = match *raw.get(1)? {
        byte @ (b'"' | b'\\' | b'/') => char::from(byte),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = unit(raw)?;
            if (0xd800..0xdc00).contains(&first) {
                if let Some(second @ 0xdc00..0xe000) = raw.get(6..).and_then(unit) {
                    let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                    return Some((char::from_u32(code), 12));
                }
            }
            return Some((Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)), 6));
        }
        _ => return None,
    };
    Some((Some(simple), 2))
}

// The code unit of `\uXXXX`.
fn unit(raw: &[u8]) -> Option<u32> {
    let digits = raw.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |code, byte| Some(code << 4 | char::from(*byte).to_digit(16)?))
}
