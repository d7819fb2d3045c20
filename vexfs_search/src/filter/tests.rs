//! Conditions against a table in memory, with what SQL says of the unknown.

use super::evaluate::{Source, Values};
use super::*;
use crate::error::Result;

struct Rows;

const NULL: i64 = i64::MIN;

impl Source for Rows {
    fn rows(&self) -> usize {
        4
    }

    fn values(&self, field: &Field, _: &[u8]) -> Result<Values<'_>> {
        let text = |text: &str| Some(Scalar::Text(text.into()));
        Ok(match field {
            Field::Member(name) => match name.as_str() {
                "i" => Values::Int(&[1, 2, NULL, 1 << 60]),
                "f" => Values::Float(&[0.5, -1.0, f64::NAN, 1e300]),
                "b" => Values::Bool(&[1, 0, -1, 1]),
                "s" => Values::Text(b"a\0\0ab\0\xff\0\0abc", 3),
                "t" => Values::Time(&[0, 1_700_000_000_000_000_000, NULL, -1]),
                "thing" => Values::Any(vec![Some(Scalar::Int(3)), text("x"), None, Some(Scalar::Other)]),
                "deep.name" => {
                    Values::Any(vec![text("100%"), text("Abc"), text("abc"), Some(Scalar::Float(2.5))])
                }
                _ => Values::Any(vec![None; 4]),
            },
            Field::File(FileField::Size) => {
                Values::Any([1, 10, 100, 1000].map(|size| Some(Scalar::Int(size))).to_vec())
            }
            _ => Values::Any(vec![None; 4]),
        })
    }
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "i" => Kind::Int,
        "f" => Kind::Float,
        "b" => Kind::Bool,
        "s" => Kind::Text,
        "t" => Kind::Time,
        _ => return None,
    })
}

fn rows(text: &str) -> Vec<usize> {
    let filter = Filter::parse(text, &kind).unwrap_or_else(|error| panic!("{text}: {error}"));
    let chosen = filter.rows(&Rows, &[1; 4]).unwrap();
    (0..4).filter(|row| chosen.contains(*row)).collect()
}

#[test]
fn conditions_choose_what_sql_says() {
    let cases: [(&str, &[usize]); 42] = [
        ("i = 1", &[0]),
        ("i <> 1", &[1, 3]),
        ("1 < i", &[1, 3]),
        ("i >= 1.5", &[1, 3]),
        ("i = 1152921504606846976", &[3]),
        ("i = 1152921504606846977", &[]),
        ("i < 1152921504606846976.5", &[0, 1]),
        ("not i = 1", &[1, 3]),
        ("i is null", &[2]),
        ("i is not null", &[0, 1, 3]),
        ("i = null", &[]),
        ("f < 0", &[1]),
        ("f between -1 and 0.5", &[0, 1]),
        ("f not between -1 and 0.5", &[3]),
        ("f > -1e0", &[0, 3]),
        ("b", &[0, 3]),
        ("not b", &[1]),
        ("b = false", &[1]),
        ("b is not true", &[1, 2]),
        ("b is false", &[1]),
        ("b is not false", &[0, 2, 3]),
        ("s = 'ab'", &[1]),
        ("s > 'a'", &[1, 3]),
        ("s in ('a', 'abc', 'abcd')", &[0, 3]),
        ("s not in ('a', 'abc')", &[1]),
        ("s like 'a%'", &[0, 1, 3]),
        ("s not like '%b_'", &[0, 1]),
        ("t >= '1970-01-01'", &[0, 1]),
        ("t = '2023-11-14T22:13:20Z'", &[1]),
        ("t = '2023-11-14T23:13:20+01:00'", &[1]),
        ("t < 0", &[3]),
        ("thing = 3", &[0]),
        ("thing = 'x'", &[1]),
        ("thing is not null", &[0, 1, 3]),
        ("not thing = 3", &[]),
        ("deep.name ilike 'ABC'", &[1, 2]),
        ("deep.name like '100!%' escape '!'", &[0]),
        ("meta.\"deep.name\" >= 2", &[3]),
        ("i = 1 or thing = 'x' and not (f > 100 or s is null)", &[0, 1]),
        ("i = 99 or nothing = 1 or b is null", &[2]),
        ("file.size >= 100 and i is not null", &[3]),
        ("true and not false", &[0, 1, 2, 3]),
    ];
    for (text, expected) in cases {
        assert_eq!(rows(text), expected, "{text}");
    }
}

#[test]
fn only_rows_that_are_wanted_are_chosen() {
    let filter = Filter::parse("i is null or true", &kind).unwrap();
    let chosen = filter.rows(&Rows, &[0, 1, 0, 1]).unwrap();
    assert_eq!((0..4).filter(|row| chosen.contains(*row)).collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn what_is_wrong_is_pointed_at() {
    let cases = [
        ("", 0),
        ("i =", 3),
        ("i = 'x'", 4),
        ("i = 1 j = 2", 6),
        ("i == = 1", 5),
        ("s > 3", 4),
        ("t = 'yesterday'", 4),
        ("b and s", 6),
        ("i like 'x'", 0),
        ("s like 'x\\'", 7),
        ("file.colour = 1", 0),
        ("i = 1 and\nrow.x = 2", 10),
        ("i = f", 4),
        ("(i = 1", 6),
        ("i + 1 = 2", 0),
        ("exists (select 1)", 8),
        ("s = 'open", 4),
        ("ä = 1 and i = 'x'", 14),
    ];
    for (text, at) in cases {
        let error = Filter::parse(text, &kind).unwrap_err();
        assert_eq!(error.at, at, "{text}: {error}");
        assert!(!error.why.is_empty());
    }
    let deep = format!("{}i = 1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(Filter::parse(&deep, &kind).is_err());
    let long = vec!["i = 1"; 5000].join(" and ");
    assert!(Filter::parse(&long, &kind).is_ok());
}
