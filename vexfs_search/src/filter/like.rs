//! `like` patterns: `%` is any text, `_` any one character, `\` takes the next character as it is.

/// A pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    parts: Vec<Part>,
    /// Letters of either case are the same.
    folds: bool,
    /// The texts between the `%`, if there is no `_`: the first begins, the last ends what matches.
    pieces: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Just(char),
}

impl Pattern {
    /// Parses a pattern with this escape character.
    pub(super) fn new(text: &str, escape: char, folds: bool) -> Result<Self, &'static str> {
        let mut parts = Vec::new();
        let text = if folds { text.to_lowercase() } else { text.to_owned() };
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            parts.push(match character {
                escaped if escaped == escape => {
                    Part::Just(characters.next().ok_or("the pattern ends with its escape character")?)
                }
                // Several of them are one.
                '%' if parts.last() == Some(&Part::Any) => continue,
                '%' => Part::Any,
                '_' => Part::One,
                other => Part::Just(other),
            });
        }
        let pieces = pieces(&parts);
        Ok(Self { parts, folds, pieces })
    }

    /// True if all of `text` is of the pattern; the time is at most the product of their lengths.
    pub(super) fn matches(&self, text: &str) -> bool {
        let folded;
        let text = if self.folds {
            folded = text.to_lowercase();
            &folded
        } else {
            text
        };
        if let Some(pieces) = &self.pieces {
            return contains(pieces, text);
        }
        let (mut part, mut rest) = (0, text.chars());
        // Where the last `%` stands, and what of the text it did not take yet.
        let mut back: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let here = rest.clone();
            match (self.parts.get(part), rest.next()) {
                (Some(Part::Any), _) => {
                    back = Some((part, here.clone()));
                    (part, rest) = (part + 1, here);
                }
                (Some(Part::One), Some(_)) => part += 1,
                (Some(Part::Just(wanted)), Some(found)) if *wanted == found => part += 1,
                (None, None) => return true,
                // It takes one more character.
                _ => {
                    let Some((any, untaken)) = &mut back else { return false };
                    if untaken.next().is_none() {
                        return false;
                    }
                    (part, rest) = (*any + 1, untaken.clone());
                }
            }
        }
    }
}

// The texts between the `%`.
fn pieces(parts: &[Part]) -> Option<Vec<String>> {
    let mut pieces = vec![String::new()];
    for part in parts {
        match (part, pieces.last_mut()) {
            (Part::Any, _) => pieces.push(String::new()),
            (Part::Just(character), Some(piece)) => piece.push(*character),
            _ => return None,
        }
    }
    Some(pieces)
}

// True if the pieces lie in the text in this order, the first at its beginning, the last at its end.
fn contains(pieces: &[String], text: &str) -> bool {
    let [first, between @ .., last] = pieces else {
        return pieces.first().is_some_and(|whole| whole == text);
    };
    let inner = text.strip_prefix(first.as_str()).and_then(|text| text.strip_suffix(last.as_str()));
    let Some(mut inner) = inner else { return false };
    between.iter().all(|piece| match inner.find(piece.as_str()) {
        Some(at) => {
            inner = &inner[at + piece.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // The definition, by recursion.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['%', rest @ ..], _) => (0..=text.len()).any(|taken| slow(rest, &text[taken..])),
            (['_', rest @ ..], [_, behind @ ..]) => slow(rest, behind),
            ([wanted, rest @ ..], [found, behind @ ..]) => wanted == found && slow(rest, behind),
            _ => false,
        }
    }

    #[test]
    fn all_short_patterns_match_what_they_should() {
        let all = |letters: &[char], longest: u32| -> Vec<Vec<char>> {
            (0..=longest)
                .flat_map(|len| {
                    (0..letters.len().pow(len)).map(move |number| {
                        (0..len)
                            .map(|place| letters[number / letters.len().pow(place) % letters.len()])
                            .collect()
                    })
                })
                .collect()
        };
        let texts = all(&['a', 'ä'], 5);
        for pattern in all(&['a', 'ä', '%', '_'], 5) {
            let compiled = Pattern::new(&pattern.iter().collect::<String>(), '\\', false).unwrap();
            for text in &texts {
                let written: String = text.iter().collect();
                assert_eq!(compiled.matches(&written), slow(&pattern, text), "{pattern:?} {written}");
            }
        }
        assert!(Pattern::new("100\\%", '\\', false).unwrap().matches("100%"));
        assert!(!Pattern::new("100\\%", '\\', false).unwrap().matches("1000"));
        assert!(Pattern::new("%STRASSE", '\\', true).unwrap().matches("Hauptstrasse"));
        assert!(Pattern::new("a\\", '\\', false).is_err());
    }
}
