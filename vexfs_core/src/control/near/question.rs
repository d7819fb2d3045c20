//! What is asked of nearness: a JSON object, or the bytes of a vector.
//!
//! INVARIANT: what is parsed can be answered, but for files that are not there: k is at least 1, numbers fit. Whatever is not
//! understood is refused, never passed over.

use alloc::vec::Vec;

use super::score::Score;
use super::{Answered, Refusal, decimal};
use crate::error::{Error, Result};
use crate::format::{Element, Metric};
use crate::json::{self, Value};
use crate::memory;
use crate::operations::Collection;

/// How many are found unless the question says.
const K: usize = 10;
/// How many can be asked for.
const K_MAX: usize = 100_000;
/// The kinds of index that another host may have.
const INDEXES: [&[u8]; 3] = [b"scan", b"clustered", b"graph"];
/// Doubles, as bits: those between are numbers from 0 to 1.
const ZERO: u64 = 0;
const ONE: u64 = 0x3ff << 52;
const MINUS_ZERO: u64 = 1 << 63;

/// A question of nearness.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) near_to: NearTo,
    /// How many.
    pub(super) k: usize,
    /// The least score that counts.
    pub(super) min_score: Option<Score>,
    /// The directory whose files are asked for.
    pub(super) within: Option<Vec<u8>>,
    pub(super) metric: Metric,
    /// A last line says how it was answered.
    pub(super) explain: bool,
}

/// What the answer is to be near to.
#[derive(Debug, PartialEq)]
pub(super) enum NearTo {
    /// Numbers, as the bits of floats.
    Numbers(Vec<u32>),
    /// A vector as it is stored.
    Bytes(Vec<u8>),
    /// The `n`-th vector of a file.
    File { path: Vec<u8>, n: u32 },
}

/// The members of a question that are there, as they are written.
#[derive(Default)]
struct Members<'a> {
    vector: Option<Value<'a>>,
    like: Option<Value<'a>>,
    n: Option<Value<'a>>,
    k: Option<Value<'a>>,
    min_score: Option<Value<'a>>,
    within: Option<Value<'a>>,
    metric: Option<Value<'a>>,
    exact: Option<Value<'a>>,
    min_recall: Option<Value<'a>>,
    index: Option<Value<'a>>,
    explain: Option<Value<'a>>,
    condition: Option<Value<'a>>,
}

impl Question {
    /// Parses a question to this collection.
    pub(super) fn parse(question: &[u8], collection: &Collection) -> Answered<Self> {
        reckonable(collection)?;
        if let Err(error) = json::check_object(question) {
            return Self::raw(question, collection, error);
        }
        let asked = Members::of(question)?;
        let near_to = match (asked.vector, asked.like) {
            (Some(vector), None) => NearTo::Numbers(numbers(vector)?),
            (None, Some(Value::String(path))) => {
                NearTo::File { path: json::unescape(path)?, n: number_of(asked.n)? }
            }
            (None, Some(_)) => {
                return Err(said("like: the path of a file from the root of the volume, as text"));
            }
            (Some(_), Some(_)) => return Err(said("vector and like: give one of them")),
            (None, None) => return Err(said("give a vector or like")),
        };
        if asked.n.is_some() && matches!(near_to, NearTo::Numbers(_)) {
            return Err(said("n says which vector of the file `like` is meant, and there is no such file"));
        }
        let question = Self {
            near_to,
            k: asked.k.map_or(Ok(K), count)?,
            min_score: asked.min_score.map(least).transpose()?,
            within: asked.within.map(directory).transpose()?,
            metric: asked.metric.map_or(Ok(collection.metric), |name| metric(name, collection))?,
            explain: asked.of_indexes()?,
        };
        if asked.condition.is_some() {
            return Err(said("where: this host does not evaluate conditions; `vexfs search --where` does"));
        }
        Ok(question)
    }

    fn raw(question: &[u8], collection: &Collection, error: Error) -> Answered<Self> {
        let len = collection.vector_len() as usize;
        if len > 0 && question.len() != len {
            return Err(Refusal::new(format_args!(
                "neither a JSON object ({error}) nor a raw vector, which has {len} bytes here ({} x {}): {} bytes",
                collection.dimensions,
                collection.element.name(),
                question.len()
            )));
        }
        let near_to = NearTo::Bytes(memory::copy(question)?);
        let metric = collection.metric;
        Ok(Self { near_to, k: K, min_score: None, within: None, metric, explain: false })
    }
}

impl<'a> Members<'a> {
    fn of(question: &'a [u8]) -> Answered<Self> {
        let mut found = Self::default();
        let mut unknown = None;
        json::members(question, &mut |name, value| {
            // The last of one name counts, and null is as if it were not there.
            let value = (value != Value::Null).then_some(value);
            let known = match &*json::unescape(name)? {
                b"vector" => &mut found.vector,
                b"like" => &mut found.like,
                b"n" => &mut found.n,
                b"k" => &mut found.k,
                b"min_score" => &mut found.min_score,
                b"within" => &mut found.within,
                b"metric" => &mut found.metric,
                b"exact" => &mut found.exact,
                b"min_recall" => &mut found.min_recall,
                b"index" => &mut found.index,
                b"explain" => &mut found.explain,
                b"where" => &mut found.condition,
                _ => {
                    unknown = value.map_or(unknown, |_| Some(name));
                    return Ok(());
                }
            };
            *known = value;
            Ok(())
        })?;
        match unknown {
            None => Ok(found),
            Some(name) => Err(Refusal::new(format_args!(
                "unknown member `{}`: there are vector, like, n, k, min_score, within, metric, exact, min_recall, index, explain",
                super::Lossy(name)
            ))),
        }
    }
}

impl Members<'_> {
    // Checks what is said of indexes, which the exact answer satisfies, as every host does; gives whether to explain.
    fn of_indexes(&self) -> Answered<bool> {
        let exact = truth(self.exact, "exact: true or false")?;
        let index = match self.index {
            None | Some(Value::Bool(false)) => false,
            Some(Value::Bool(true)) => true,
            Some(Value::String(name)) if INDEXES.contains(&&*json::unescape(name)?) => true,
            Some(_) => return Err(said("index: true, or scan, clustered or graph")),
        };
        if exact && index {
            return Err(said("exact and index: give one of them"));
        }
        match self.min_recall {
            Some(Value::Number(share)) if (ZERO..=ONE).contains(&json::float_bits(share)) => {}
            Some(Value::Number(share)) if json::float_bits(share) == MINUS_ZERO => {}
            Some(_) => return Err(said("min_recall: a number from 0 to 1")),
            None => {}
        }
        truth(self.explain, "explain: true or false")
    }
}

// Collections of whole numbers and bits alone are scored without floats.
fn reckonable(collection: &Collection) -> Answered<()> {
    match collection.element {
        Element::I8 | Element::I16 | Element::Bit => Ok(()),
        Element::F32 | Element::F16 => Err(Refusal::new(format_args!(
            "this host reckons with whole numbers alone, and the collection holds {}: mount with FUSE (mount -t vexfs), \
             or use `vexfs search`",
            collection.element.name()
        ))),
    }
}

fn said(why: &str) -> Refusal {
    Refusal::new(format_args!("{why}"))
}

fn truth(value: Option<Value<'_>>, otherwise: &str) -> Answered<bool> {
    match value {
        None => Ok(false),
        Some(Value::Bool(truth)) => Ok(truth),
        Some(_) => Err(said(otherwise)),
    }
}

// The numbers of a vector, as the bits of floats.
fn numbers(vector: Value<'_>) -> Answered<Vec<u32>> {
    let Value::Array(array) = vector else { return Err(said("vector: an array of numbers")) };
    let mut numbers = Vec::new();
    let mut odd = None;
    json::elements(array, &mut |value| {
        let bits = match value {
            Value::Number(digits) => decimal::single_bits(digits),
            _ => {
                odd = odd.or(Some(numbers.len()));
                0
            }
        };
        memory::push(&mut numbers, bits)
    })?;
    match odd {
        None => Ok(numbers),
        Some(index) => Err(Refusal::new(format_args!("vector: element {index} is no number"))),
    }
}

// A whole number from 0 on.
fn whole(value: Value<'_>) -> Option<u64> {
    match value {
        Value::Number(digits) => core::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    }
}

fn number_of(n: Option<Value<'_>>) -> Answered<u32> {
    let Some(n) = n else { return Ok(0) };
    let number = whole(n).and_then(|n| u32::try_from(n).ok());
    number.ok_or_else(|| said("n: which vector of the file, a whole number from 0 on"))
}

fn count(k: Value<'_>) -> Answered<usize> {
    match whole(k) {
        Some(0) => Err(said("k: 0 finds nothing: ask for 1 or more")),
        Some(k) if k <= K_MAX as u64 => Ok(k as usize),
        Some(k) => Err(Refusal::new(format_args!(
            "k: {k} are more than {K_MAX}, as many as can be asked for at once; `vexfs search --all` finds all"
        ))),
        None => Err(said("k: how many to find, a whole number from 1 on")),
    }
}

fn least(score: Value<'_>) -> Answered<Score> {
    match score {
        Value::Number(digits) => Ok(Score::from_bits(decimal::single_bits(digits))),
        _ => Err(said("min_score: a number")),
    }
}

fn directory(path: Value<'_>) -> Answered<Vec<u8>> {
    let found: Result<Vec<u8>> = match path {
        Value::String(path) => json::unescape(path),
        _ => return Err(said("within: the path of a directory from the root of the volume, as text")),
    };
    Ok(found?)
}

fn metric(name: Value<'_>, collection: &Collection) -> Answered<Metric> {
    let known = match name {
        Value::String(name) => Metric::from_name(&json::unescape(name)?),
        _ => None,
    };
    let element = collection.element;
    match known {
        Some(Metric::Hamming) if element != Element::Bit => {
            Err(Refusal::new(format_args!("hamming is for bits, the collection holds {}", element.name())))
        }
        Some(metric) => Ok(metric),
        None => Err(said("metric: cosine, l2, ip, or hamming for bits")),
    }
}
