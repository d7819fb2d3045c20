//! The names of vectors and their metadata: `user.vector.<collection>[:<element>][.<n>][@<version>][.meta]`,
//! where the version is a content version of the file, or `-1` to `-64` for a superseded vector.

use core::fmt::Write;

use super::past::UNCHANGEABLE;
use crate::error::{Error, Result};
use crate::format::{Element, HISTORY_MAX};
use crate::memory::Text;

const PREFIX: &[u8] = b"user.vector.";
/// Bytes of a collection's name at most.
pub(crate) const COLLECTION_NAME_MAX: usize = 64;

/// A parsed name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VectorName<'a> {
    /// Name of the collection.
    pub(crate) collection: &'a [u8],
    /// The element type, if the name says one.
    pub(crate) element: Option<Element>,
    /// Which vector of the file.
    pub(crate) n: u32,
    /// Which of its versions.
    pub(crate) at: At,
    /// Its metadata, not the vector itself.
    pub(crate) meta: bool,
}

/// Which version of a vector a name means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum At {
    /// The present one.
    #[default]
    Present,
    /// The one that is made from this content version of the file.
    Content(u64),
    /// The one that was superseded so many times ago, from 1 on.
    Past(u32),
}

impl<'a> VectorName<'a> {
    /// Parses an attribute's name; `None` if it is not a vector's.
    ///
    /// # Errors
    /// `Invalid` for a name under `user.vector.` that breaks the rules.
    pub(crate) fn parse(name: &'a [u8]) -> Result<Option<Self>> {
        name.strip_prefix(PREFIX).map(Self::parse_rest).transpose()
    }

    /// Parses what stands behind the prefix.
    pub(crate) fn parse_rest(rest: &'a [u8]) -> Result<Self> {
        let (rest, meta) = match rest.strip_suffix(b".meta") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (rest, at) = match rest.iter().rposition(|byte| *byte == b'@') {
            Some(index) => (&rest[..index], At::parse(&rest[index + 1..])?),
            None => (rest, At::Present),
        };
        let (head, tail) = match rest.iter().position(|byte| *byte == b'.') {
            Some(dot) => (&rest[..dot], Some(&rest[dot + 1..])),
            None => (rest, None),
        };
        let (collection, element) = match head.iter().position(|byte| *byte == b':') {
            Some(colon) => {
                let element = Element::from_name(&head[colon + 1..])
                    .ok_or(Error::Invalid("unknown element type: use f32, f16, i8, i16 or bit"))?;
                (&head[..colon], Some(element))
            }
            None => (head, None),
        };
        check_collection_name(collection)?;
        let n = tail.map_or(Ok(0), number)?;
        Ok(Self { collection, element, n, at, meta })
    }

    /// Fails for a superseded vector.
    pub(crate) fn check_changeable(&self) -> Result<()> {
        if matches!(self.at, At::Past(_)) { Err(UNCHANGEABLE) } else { Ok(()) }
    }

    /// Appends the name as it is listed; one without an element is of f32.
    pub(crate) fn write(&self, text: &mut Text) -> Result<()> {
        text.raw(PREFIX)?;
        text.raw(self.collection)?;
        if let Some(element) = self.element.filter(|element| *element != Element::F32) {
            text.raw(b":")?;
            text.raw(element.name().as_bytes())?;
        }
        if self.n != 0 {
            write!(text, ".{}", self.n).map_err(|_| Error::NoMemory)?;
        }
        if self.meta { text.raw(b".meta") } else { Ok(()) }
    }

    /// Bytes that it takes in a list of names, in a collection of `element`.
    pub(crate) fn listed_len(&self, element: Element) -> usize {
        let mut text = Text::new();
        match (Self { element: Some(element), ..*self }).write(&mut text) {
            Ok(()) => text.as_bytes().len() + 1,
            Err(_) => usize::MAX / 2,
        }
    }
}

impl At {
    fn parse(text: &[u8]) -> Result<Self> {
        let bad = Error::Invalid(
            "behind the @ stands a content version of the file, as user.vexfs.version shows it, or -1 to -64",
        );
        if let Some(back) = text.strip_prefix(b"-") {
            let back = decimal(back).filter(|back| (1..=u64::from(HISTORY_MAX)).contains(back)).ok_or(bad)?;
            return Ok(Self::Past(back as u32));
        }
        let version = decimal(text).filter(|version| *version > 0);
        version.map(Self::Content).ok_or(bad)
    }
}

/// Fails unless `name` can be a collection's.
pub(crate) fn check_collection_name(name: &[u8]) -> Result<()> {
    let fine = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.is_empty() || name.len() > COLLECTION_NAME_MAX || !name.iter().all(fine) {
        return Err(Error::Invalid("a collection's name has 1 to 64 characters of A-Z a-z 0-9 _ -"));
    }
    Ok(())
}

fn number(digits: &[u8]) -> Result<u32> {
    let bad = Error::Invalid(
        "behind the collection stands a decimal number below 2^32 without leading zeros, then .meta or nothing",
    );
    decimal(digits).and_then(|value| u32::try_from(value).ok()).ok_or(bad)
}

// A number without sign and leading zeros.
fn decimal(digits: &[u8]) -> Option<u64> {
    let leading_zero = digits.len() > 1 && digits[0] == b'0';
    let fine = !leading_zero && digits.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(digits).ok().filter(|_| fine)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_the_design_lists_and_nothing_else() {
        let parse = |name: &'static str| VectorName::parse(name.as_bytes());
        let full = VectorName {
            collection: b"clip",
            element: Some(Element::I8),
            n: 3,
            at: At::Present,
            meta: false,
        };
        assert_eq!(parse("user.vector.clip:i8.3"), Ok(Some(full)));
        let made = VectorName { at: At::Content(17), ..full };
        assert_eq!(parse("user.vector.clip:i8.3@17"), Ok(Some(made)));
        assert_eq!(parse("user.vector.clip:i8.3@17.meta"), Ok(Some(VectorName { meta: true, ..made })));
        assert_eq!(parse("user.vector.clip:i8.3.meta"), Ok(Some(VectorName { meta: true, ..full })));
        let plain =
            VectorName { collection: b"mini_LM-6", element: None, n: 0, at: At::Present, meta: false };
        assert_eq!(parse("user.vector.mini_LM-6.meta"), Ok(Some(VectorName { meta: true, ..plain })));
        assert_eq!(parse("user.vector.mini_LM-6"), Ok(Some(plain)));
        assert_eq!(parse("user.vector.mini_LM-6.0"), Ok(Some(plain)));
        let past = VectorName { at: At::Past(2), ..full };
        assert_eq!(parse("user.vector.clip:i8.3@-2"), Ok(Some(past)));
        assert_eq!(parse("user.vector.clip:i8.3@-2.meta"), Ok(Some(VectorName { meta: true, ..past })));
        assert_eq!(parse("user.vector.a@-64").unwrap().unwrap().at, At::Past(64));
        assert_eq!(parse("user.vectors.x"), Ok(None));
        assert_eq!(parse("user.vector.a.4294967295").unwrap().unwrap().n, u32::MAX);
        for bad in [
            "",
            ".",
            "a b",
            "a.01",
            "a.4294967296",
            "a.",
            "a.x",
            "a:f64",
            "a:.1",
            ":i8",
            "a/b",
            "a.-1",
            "ä",
            "a..meta",
            "a.meta.meta",
            "a.meta.1",
            "a.metax",
            "a.1.meta.",
            "a@",
            "a@0",
            "a@01",
            "a@1@2",
            "a@+1",
            "a@18446744073709551616",
            "a@1.2",
            "@1",
            "a@-",
            "a@-0",
            "a@-01",
            "a@-65",
            "a@--1",
        ] {
            let name = alloc::format!("user.vector.{bad}");
            assert!(matches!(VectorName::parse(name.as_bytes()), Err(Error::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn writes_the_name_it_parses() {
        for (element, n) in [(Element::F32, 0), (Element::Bit, 0), (Element::I16, 7)] {
            for meta in [false, true] {
                let name = VectorName { collection: b"c", element: Some(element), n, at: At::Present, meta };
                let mut text = Text::new();
                name.write(&mut text).unwrap();
                let parsed = VectorName::parse(text.as_bytes()).unwrap().unwrap();
                assert_eq!(
                    VectorName { element: Some(parsed.element.unwrap_or(Element::F32)), ..parsed },
                    name
                );
            }
        }
    }
}
