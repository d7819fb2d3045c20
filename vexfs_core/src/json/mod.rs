//! JSON (RFC 8259) as far as metadata needs it: checking a text, and finding a member in one that was checked.
//!
//! Nothing is built: what is found is a part of the text. A name that stands twice in an object means its last value, as
//! in most readers.

mod number;
mod scan;
mod time;

pub(crate) use number::{float_bits, integer};
pub(crate) use scan::check_object;
pub(crate) use time::{nanoseconds, write_time};

use alloc::vec::Vec;

use crate::error::{Error, Result};
use crate::memory;
use scan::Scanner;

/// A value in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// As it is written.
    Number(&'a [u8]),
    /// What stands between the quotes, escapes and all.
    String(&'a [u8]),
    /// With its brackets.
    Array(&'a [u8]),
    /// With its braces.
    Object(&'a [u8]),
}

/// The member of an object at a path of names with dots between; `None` if it has none there.
///
/// A name that itself has dots is found first: `a.b` is `{"a.b": 1}` before `{"a": {"b": 1}}`.
pub(crate) fn member<'a>(object: &'a [u8], path: &[u8]) -> Result<Option<Value<'a>>> {
    if let Some(value) = own_member(object, path)? {
        return Ok(Some(value));
    }
    for dot in (0..path.len()).filter(|index| path[*index] == b'.') {
        if let Some(Value::Object(inner)) = own_member(object, &path[..dot])? {
            return member(inner, &path[dot + 1..]);
        }
    }
    Ok(None)
}

/// Gives the members of an object that was checked, names as they are written.
pub(crate) fn members<'a>(
    object: &'a [u8],
    each: &mut dyn FnMut(&'a [u8], Value<'a>) -> Result<()>,
) -> Result<()> {
    Scanner::new(object).object(each)
}

/// Gives the values of an array, as [`Value::Array`] has it.
pub(crate) fn elements<'a>(array: &'a [u8], each: &mut dyn FnMut(Value<'a>) -> Result<()>) -> Result<()> {
    Scanner::new(array).array(each)
}

/// The characters that a string stands for, in UTF-8.
pub(crate) fn unescape(raw: &[u8]) -> Result<Vec<u8>> {
    if !raw.contains(&b'\\') {
        return memory::copy(raw);
    }
    let mut text = Vec::new();
    memory::reserve(&mut text, raw.len())?;
    let mut at = 0;
    while at < raw.len() {
        let (character, len) = scan::character(&raw[at..]).ok_or(BAD)?;
        match character {
            Some(character) => {
                memory::extend(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
            None => memory::push(&mut text, raw[at])?,
        }
        at += len;
    }
    Ok(text)
}

const BAD: Error = Error::Invalid("not a JSON text");

fn own_member<'a>(object: &'a [u8], name: &[u8]) -> Result<Option<Value<'a>>> {
    let mut scanner = Scanner::new(object);
    let mut found = None;
    scanner.object(&mut |key, value| {
        if key == name || (key.contains(&b'\\') && unescape(key)? == name) {
            found = Some(value);
        }
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests;
