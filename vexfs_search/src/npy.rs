//! numpy's `.npy` format, versions 1 to 3: the header read and written. The bytes behind it are the caller's.
//!
//! The specification is `numpy.lib.format`: magic, version, header length, a Python dict literal, the data.

/// What the header of a `.npy` file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type of an entry, such as `<f4`; of a structured array, the list as it is written.
    pub descr: String,
    /// True if the first index varies fastest.
    pub fortran_order: bool,
    /// The lengths of the dimensions.
    pub shape: Vec<u64>,
    /// Byte offset of the data.
    pub data: usize,
}

/// The first bytes of every file.
pub const MAGIC: &[u8; 6] = b"\x93NUMPY";

impl Header {
    /// Parses the head of a file; the error says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let cut = || "cut off within the npy header".to_owned();
        if bytes.get(..6) != Some(MAGIC) {
            return Err("not an npy file (its first bytes are not \\x93NUMPY)".into());
        }
        let (start, len) = match bytes.get(6..12).ok_or_else(cut)? {
            [1, _, a, b, _, _] => (10_usize, usize::from(u16::from_le_bytes([*a, *b]))),
            [2 | 3, _, a, b, c, d] => (12, u32::from_le_bytes([*a, *b, *c, *d]) as usize),
            [version, ..] => return Err(format!("npy format version {version} is not known")),
            _ => return Err(cut()),
        };
        let data = start.checked_add(len).ok_or_else(cut)?;
        let text = std::str::from_utf8(bytes.get(start..data).ok_or_else(cut)?)
            .map_err(|_| "the npy header is not UTF-8".to_owned())?;
        let wrong = |what: &str| format!("the npy header has no proper {what}: {}", text.trim_end());
        let descr = member(text, "descr").map(unquote).ok_or_else(|| wrong("descr"))?;
        let fortran_order = match member(text, "fortran_order") {
            Some("True") => true,
            Some("False") => false,
            _ => return Err(wrong("fortran_order")),
        };
        let shape = member(text, "shape").and_then(tuple).ok_or_else(|| wrong("shape"))?;
        Ok(Self { descr: descr.to_owned(), fortran_order, shape, data })
    }

    /// The bytes of the header of a C-ordered array, padded so that the data is aligned to 64 bytes.
    pub fn render(descr: &str, shape: &[u64]) -> Vec<u8> {
        let lengths = match shape {
            [len] => format!("{len},"),
            _ => shape.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
        };
        let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({lengths}), }}");
        let padded = (10 + text.len() + 1).next_multiple_of(64) - 11;
        text.extend(std::iter::repeat_n(' ', padded - text.len()));
        text.push('\n');
        let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend(len.to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    /// The rows and the entries of a row: of a vector one row, of a matrix its two lengths.
    pub fn matrix(&self) -> Result<(u64, u64), String> {
        match (self.fortran_order, self.shape.as_slice()) {
            (_, [len]) => Ok((1, *len)),
            (false, [rows, columns]) => Ok((*rows, *columns)),
            (true, [_, _]) => {
                Err("the array is in Fortran order; save it with numpy.ascontiguousarray".into())
            }
            (_, shape) => Err(format!("the array has {} dimensions; 1 or 2 are needed", shape.len())),
        }
    }
}

// The text of a member's value in a Python dict literal.
fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let at = ['\'', '"'].iter().find_map(|quote| {
        let key = format!("{quote}{name}{quote}");
        text.find(&key).map(|start| start + key.len())
    })?;
    let value = text.get(at..)?.trim_start().strip_prefix(':')?.trim_start();
    let mut depth = 0_u32;
    let mut quote = None;
    for (index, letter) in value.char_indices() {
        match (quote, letter) {
            (Some(open), close) if open == close => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(letter),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => depth = depth.checked_sub(1)?,
            (None, ',' | '}') if depth == 0 => return Some(value.get(..index)?.trim_end()),
            _ => {}
        }
    }
    None
}

fn unquote(text: &str) -> &str {
    let inner = ['\'', '"'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    inner.unwrap_or(text)
}

fn tuple(text: &str) -> Option<Vec<u64>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    let parts = inner.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.trim_end_matches('L').parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(version: u8, text: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        if version == 1 {
            bytes.extend((text.len() as u16).to_le_bytes());
        } else {
            bytes.extend((text.len() as u32).to_le_bytes());
        }
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn what_is_rendered_is_parsed() {
        for shape in [vec![], vec![7], vec![0, 384], vec![8192, 384], vec![u64::MAX, u64::MAX, u64::MAX]] {
            let bytes = Header::render("<f4", &shape);
            let header = Header::parse(&bytes).unwrap();
            assert_eq!(header.shape, shape);
            assert_eq!((header.descr.as_str(), header.fortran_order), ("<f4", false));
            assert_eq!(header.data, bytes.len());
            assert_eq!(bytes.len() % 64, 0);
        }
    }

    #[test]
    fn as_numpy_writes_it() {
        // numpy.save of zeros((2, 3), "<f4"): the header's text.
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        assert!(Header::render("<f4", &[2, 3])[10..].starts_with(text.as_bytes()));
        for version in [1, 2, 3] {
            let header = Header::parse(&with(version, text)).unwrap();
            assert_eq!(header.matrix(), Ok((2, 3)));
        }
        let one =
            Header::parse(&with(1, "{'shape': (5,), 'fortran_order': True, \"descr\": \"|i1\"}")).unwrap();
        assert_eq!((one.descr.as_str(), one.matrix()), ("|i1", Ok((1, 5))));
    }

    #[test]
    fn a_structured_type_is_kept_as_written() {
        let text =
            "{'descr': [('magic', '<u4'), ('pad', '<u8', (2,))], 'fortran_order': False, 'shape': (4,), }";
        let header = Header::parse(&with(1, text)).unwrap();
        assert_eq!(header.descr, "[('magic', '<u4'), ('pad', '<u8', (2,))]");
        assert_eq!(header.shape, [4]);
    }

    #[test]
    fn damage_is_an_error() {
        let whole = Header::render("<f4", &[2, 3]);
        for len in 0..whole.len() {
            assert!(Header::parse(&whole[..len]).is_err(), "{len}");
        }
        for text in [
            "",
            "{}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, -3), }",
            "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2, 3), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3",
            "{'descr': '<f4', 'fortran_order': False, 'shape': )), }",
        ] {
            assert!(Header::parse(&with(1, text)).is_err(), "{text}");
        }
        assert!(Header::parse(&with(9, "{}")).is_err());
        let cube = Header { descr: "<f4".into(), fortran_order: false, shape: vec![1, 2, 3], data: 0 };
        assert!(cube.matrix().is_err());
        assert!(Header { fortran_order: true, shape: vec![2, 3], ..cube }.matrix().is_err());
    }
}
