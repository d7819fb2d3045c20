//! Scores and their digits against the floats of this machine.

extern crate std;

use std::format;
use std::string::String;
use std::vec::Vec;

use super::decimal;
use super::score::{Query, Score};
use crate::codec::single::{MAGNITUDE, SIGN, Single};
use crate::format::{Codec, Element, Metric, collection_matrix};
use crate::memory::Text;
use crate::numbers::CollectionId;
use crate::operations::Collection;

/// Bits that look random: splitmix64 (Steele, Lea, Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

fn collection(element: Element, dimensions: u32) -> Collection {
    let bytes = element.bytes(dimensions).unwrap();
    Collection {
        id: CollectionId(1),
        dimensions,
        element,
        codec: Codec::None,
        stored_len: bytes,
        stride: bytes.next_multiple_of(64),
        metric: Metric::Cosine,
        model: Vec::new(),
        inherit: true,
        history: 0,
        rows: 0,
        live: 0,
        changes: 0,
        matrix: collection_matrix(CollectionId(1)),
        recode: None,
    }
}

#[test]
fn quotients_and_roots_are_those_of_single_precision() {
    let mut random = Random(1);
    for _ in 0..100_000 {
        let of = |random: &mut Random| (random.next() >> (random.next() % 63)).max(1);
        let (a, b) = (of(&mut random), of(&mut random));
        let (x, y) = (Single::rounded(a, 0), Single::rounded(b, 0));
        assert_eq!(x.bits(), (a as f32).to_bits(), "{a}");
        assert_eq!(x.over(y).bits(), (a as f32 / b as f32).to_bits(), "{a} / {b}");
        assert_eq!(x.root().bits(), (a as f32).sqrt().to_bits(), "root of {a}");
        let lengths = x.root().times(y.root());
        assert_eq!(lengths.bits(), ((a as f32).sqrt() * (b as f32).sqrt()).to_bits(), "{a} {b}");
    }
}

#[test]
fn numbers_of_a_text_narrow_as_doubles_do() {
    let mut random = Random(2);
    let check = |text: &str| {
        let double: f64 = text.parse().unwrap();
        let (got, wanted) = (decimal::single_bits(text.as_bytes()), (double as f32).to_bits());
        assert!(got == wanted || (got | wanted) & MAGNITUDE == 0, "{text}: {got:08x} {wanted:08x}");
    };
    for text in [
        "0",
        "-0",
        "0.0",
        "1",
        "-1",
        "16777216",
        "16777217",
        "-16777219",
        "1e38",
        "3.4028235e38",
        "3.4028236e38",
        "1e39",
        "-1e300",
        "1e-45",
        "7e-46",
        "7.1e-46",
        "1.1754944e-38",
        "1.1754943e-38",
        "1e-400",
        "0.1",
        "127.49999999999999",
        "340282356779733661637539395458142568447",
        "340282356779733661637539395458142568448",
    ] {
        check(text);
    }
    for _ in 0..100_000 {
        let double = f64::from_bits(random.next());
        let single = f64::from(f32::from_bits(random.next() as u32));
        for value in [double, single, single * (1.0 + 2f64.powi(-24))] {
            if value.is_finite() {
                check(&format!("{value:e}"));
            }
        }
    }
}

#[test]
fn scores_ascend_as_their_floats() {
    let mut random = Random(3);
    for _ in 0..100_000 {
        let [a, b] = [0; 2].map(|_| f32::from_bits(random.next() as u32));
        if a.is_nan() || b.is_nan() {
            continue;
        }
        let (x, y) = (Score::from_bits(a.to_bits()), Score::from_bits(b.to_bits()));
        assert_eq!(x.partial_cmp(&y), a.partial_cmp(&b), "{a} {b}");
        assert_eq!(x.bits(), a.to_bits());
        assert_eq!(x.negated().bits(), (0.0 - a).to_bits());
    }
    assert_eq!(Score::from_bits(SIGN), Score::from_bits(0));
}

// As the FUSE host reckons.
fn reckoned(metric: Metric, row: &[i64], query: &[i64]) -> f32 {
    let sum = |a: &[i64], b: &[i64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<i64>();
    let (product, own, square) = (sum(row, query), sum(row, row), sum(query, query));
    match metric {
        Metric::InnerProduct => product as f32,
        Metric::L2 | Metric::Hamming => 0.0 - (own as f64 + square as f64 - 2.0 * product as f64) as f32,
        Metric::Cosine => {
            let lengths = (own as f32).sqrt() * (square as f32).sqrt();
            if lengths > 0.0 { product as f32 / lengths } else { 0.0 }
        }
    }
}

#[test]
fn scores_are_those_of_floats_to_the_bit() {
    let mut random = Random(4);
    for round in 0..6000u64 {
        let element = [Element::I8, Element::I16, Element::Bit][round as usize % 3];
        let dimensions = 8 * (1 + random.next() % if round % 50 == 0 { 1000 } else { 40 }) as u32;
        let shift = random.next() % 60;
        let bytes =
            |random: &mut Random| -> Vec<u8> {
                let sparse = random.next() % 3;
                (0..element.bytes(dimensions).unwrap())
                    .map(|_| {
                        if sparse == 0 && random.next() % 4 != 0 { 0 } else { (random.next() >> shift) as u8 }
                    })
                    .collect()
            };
        let (row, query) = (bytes(&mut random), bytes(&mut random));
        let values = |bytes: &[u8]| -> Vec<i64> {
            match element {
                Element::I8 => bytes.iter().map(|byte| i64::from(*byte as i8)).collect(),
                Element::Bit => {
                    bytes.iter().flat_map(|byte| (0..8).map(move |bit| i64::from(byte >> bit & 1))).collect()
                }
                _ => {
                    bytes.chunks_exact(2).map(|two| i64::from(i16::from_le_bytes([two[0], two[1]]))).collect()
                }
            }
        };
        let collection = collection(element, dimensions);
        for metric in Metric::ALL {
            let wanted = reckoned(metric, &values(&row), &values(&query));
            let got = Query::of_bytes(&collection, &query, metric).unwrap().score(&row);
            assert_eq!(got.bits(), wanted.to_bits(), "{element:?} {metric:?} {row:?} {query:?}");
            let numbers: Vec<u32> = values(&query).iter().map(|value| (*value as f32).to_bits()).collect();
            let same = Query::of_numbers(&collection, &numbers, metric).unwrap().score(&row);
            assert_eq!(same, got);
            check_digits(got);
        }
    }
}

fn written(score: Score) -> String {
    let mut text = Text::new();
    decimal::write(&mut text, score).unwrap();
    String::from_utf8(text.into_bytes()).unwrap()
}

fn digits_of(text: &str) -> usize {
    let digits = text.split('e').next().unwrap().replace(['.', '-'], "");
    digits.trim_start_matches('0').trim_end_matches('0').len()
}

fn check_digits(score: Score) {
    let (value, text) = (f64::from(f32::from_bits(score.bits())), written(score));
    assert_eq!(text.parse::<f64>().unwrap(), value, "{text}");
    assert_eq!(digits_of(&text), digits_of(&format!("{value:?}")), "{text} {value:?}");
}

#[test]
fn digits_are_the_shortest() {
    let mut random = Random(5);
    for bits in 0..60_000 {
        let value = f32::from_bits(random.next() as u32 >> 1) % 2.0;
        if value.is_finite() && (value.abs() > 1e-13 || value == 0.0) {
            check_digits(Score::from_bits(value.to_bits()));
        }
        // Those nearest to powers of two and to 1.
        for near in
            [1.0f32.to_bits() - 50 + bits % 100, (0.5f32.powi(bits as i32 % 40)).to_bits() - 1 + bits % 3]
        {
            check_digits(Score::from_bits(near));
        }
    }
    for (value, text) in [
        (0.0, "0.0"),
        (-1.0, "-1.0"),
        (3_000_000.0, "3000000.0"),
        (2.8e14, "280000007766016.0"),
        (0.5, "0.5"),
        (1.000_000_1, "1.0000001192092896"),
        (0.1, "0.10000000149011612"),
        (-0.000_015_258_789, "-0.0000152587890625"),
        (2f32.powi(-20), "9.5367431640625e-7"),
    ] {
        assert_eq!(written(Score::from_bits(f32::to_bits(value))), text);
    }
}
