//! What is asked of nearness: a JSON object, or the bytes of a vector.
//!
//! INVARIANT: what is parsed can be answered, but for files that are not there: k is at least 1, the metric is one of the
//! collection's, numbers fit. Whatever is not understood is refused, never passed over.

use serde_json::{Map, Value};
use vexfs_core::format::Codec as Stored;
use vexfs_core::operations::Collection;
use vexfs_search::choice::{Way, Wish};
use vexfs_search::codec::pq::{Codebook, Shape};
use vexfs_search::codec::{Codec, Coder};
use vexfs_search::stored::Kind;
use vexfs_search::{Element, Metric};

use super::refusal::Refusal;
use super::source::Source;

/// How many are found unless the question says.
const K: usize = 10;
/// The recall that an index must have shown unless the question says, as of `vexfs search`.
pub(super) const MIN_RECALL: f64 = 0.95;
/// How many can be asked for.
const K_MAX: usize = 100_000;

/// A question of nearness.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) near_to: NearTo,
    /// How many.
    pub(super) k: usize,
    /// The least score that counts.
    pub(super) min_score: f32,
    /// The directory whose files are asked for.
    pub(super) within: Option<String>,
    /// What must be true of a row, in SQL.
    pub(super) condition: Option<String>,
    pub(super) metric: Metric,
    /// Whether an index may answer.
    pub(super) way: Way,
    /// The share of the nearest, 0 to 1, that an index must have found when it was measured.
    pub(super) min_recall: f64,
    /// How it was answered is told in a last line.
    pub(super) explain: bool,
}

/// What the answer is to be near to.
#[derive(Debug, PartialEq)]
pub(super) enum NearTo {
    /// A vector.
    Values(Vec<f32>),
    /// A vector as the collection stores it without a codec.
    Bytes(Vec<u8>),
    /// The `n`-th vector of a file.
    File { path: String, n: u32 },
}

impl Question {
    /// Parses a question to this collection.
    pub(super) fn parse(question: &[u8], collection: &Collection) -> Result<Self, Refusal> {
        let mut members = match object(question) {
            Ok(members) => members,
            Err(error) => return Self::raw(question, collection, &error),
        };
        let mut take = |name: &str| members.remove(name).filter(|value| !value.is_null());
        let n = take("n");
        let near_to = match (take("vector"), take("like")) {
            (Some(vector), None) => NearTo::Values(numbers(&vector)?),
            (None, Some(Value::String(path))) => NearTo::File { path, n: number_of(n.as_ref())? },
            (None, Some(_)) => {
                return Err(Refusal::new("like: the path of a file from the root of the volume, as text"));
            }
            (Some(_), Some(_)) => return Err(Refusal::new("vector and like: give one of them")),
            (None, None) => return Err(Refusal::new("give a vector or like")),
        };
        if n.is_some() && matches!(near_to, NearTo::Values(_)) {
            return Err(Refusal::new(
                "n says which vector of the file `like` is meant, and there is no such file",
            ));
        }
        let asked = Self {
            near_to,
            k: take("k").map_or(Ok(K), |k| count(&k))?,
            min_score: take("min_score").map_or(Ok(f32::NEG_INFINITY), |least| score(&least))?,
            within: take("within").map(directory).transpose()?,
            condition: take("where").map(condition).transpose()?,
            metric: take("metric").map_or(Ok(default_metric(collection)), metric)?,
            way: way(take("exact"), take("index"))?,
            min_recall: take("min_recall").map_or(Ok(MIN_RECALL), |share| recall(&share))?,
            explain: take("explain").map_or(Ok(false), |explain| {
                explain.as_bool().ok_or_else(|| Refusal::new("explain: true or false"))
            })?,
        };
        match members.into_iter().find(|(_, value)| !value.is_null()) {
            Some((name, _)) => Err(Refusal::Said(format!(
                "unknown member `{name}`: there are vector, like, n, k, min_score, within, where, metric, exact, min_recall, \
                 index, explain"
            ))),
            None => Ok(asked),
        }
    }

    fn raw(question: &[u8], collection: &Collection, error: &str) -> Result<Self, Refusal> {
        let len = collection.vector_len() as usize;
        let (dimensions, element) = (collection.dimensions, collection.element.name());
        if len > 0 && question.len() != len {
            let got = question.len();
            return Err(Refusal::Said(format!(
                "neither a JSON object ({error}) nor a raw vector, which has {len} bytes here ({dimensions} x {element}): \
                 {got} bytes"
            )));
        }
        Ok(Self {
            near_to: NearTo::Bytes(question.to_vec()),
            k: K,
            min_score: f32::NEG_INFINITY,
            within: None,
            condition: None,
            metric: default_metric(collection),
            way: Way::Fastest,
            min_recall: MIN_RECALL,
            explain: false,
        })
    }

    /// What is wished of an index.
    pub(super) fn wish(&self) -> Wish {
        Wish { metric: self.metric, k: self.k, min_recall: self.min_recall, way: self.way }
    }
}

/// The object that a question is; in words why it is none.
pub(super) fn object(question: &[u8]) -> Result<Map<String, Value>, String> {
    serde_json::from_slice(question).map_err(|error| error.to_string())
}

/// How a collection's rows are read.
pub(super) fn coder(source: &impl Source, collection: &Collection) -> vexfs_core::Result<Coder> {
    const UNKNOWN: vexfs_core::Error =
        vexfs_core::Error::Unsupported("the collection's codec is not known to searches");
    let Stored::Pq(quantizer) = collection.codec else {
        return Codec::from_name(collection.codec.name()).map(Coder::Plain).ok_or(UNKNOWN);
    };
    // That it is of the same matrix is seen when rows are read.
    let entries = source.look(|volume| volume.codebook_entries(collection.id))?.unwrap_or_default();
    let shape = Shape {
        subvectors: quantizer.subvectors.into(),
        sub_dimensions: quantizer.sub_dimensions.into(),
        bits: quantizer.bits.into(),
    };
    Ok(Coder::Quantized(Codebook::from_bytes(shape, &entries).map_err(|_| UNKNOWN)?.into()))
}

/// A collection's element type, for searches.
pub(super) fn element(collection: &Collection) -> Element {
    Element::from_name(collection.element.name()).unwrap_or(Element::F32)
}

/// The metric that a collection was made with.
pub(super) fn default_metric(collection: &Collection) -> Metric {
    Metric::from_name(collection.metric.name()).unwrap_or(Metric::Cosine)
}

fn numbers(vector: &Value) -> Result<Vec<f32>, Refusal> {
    let values = vector.as_array().ok_or_else(|| Refusal::new("vector: an array of numbers"))?;
    let number = |(index, value): (usize, &Value)| match value.as_f64() {
        Some(value) => Ok(value as f32),
        None => Err(Refusal::Said(format!("vector: element {index} is no number"))),
    };
    values.iter().enumerate().map(number).collect()
}

fn number_of(n: Option<&Value>) -> Result<u32, Refusal> {
    let Some(n) = n else { return Ok(0) };
    let number = n.as_u64().and_then(|n| u32::try_from(n).ok());
    number.ok_or_else(|| Refusal::new("n: which vector of the file, a whole number from 0 on"))
}

fn count(k: &Value) -> Result<usize, Refusal> {
    match k.as_u64() {
        Some(0) => Err(Refusal::new("k: 0 finds nothing: ask for 1 or more")),
        Some(k) if k <= K_MAX as u64 => Ok(k as usize),
        Some(k) => Err(Refusal::Said(format!(
            "k: {k} are more than {K_MAX}, as many as can be asked for at once; `vexfs search --all` finds all"
        ))),
        None => Err(Refusal::new("k: how many to find, a whole number from 1 on")),
    }
}

fn score(least: &Value) -> Result<f32, Refusal> {
    least.as_f64().map(|least| least as f32).ok_or_else(|| Refusal::new("min_score: a number"))
}

fn condition(condition: Value) -> Result<String, Refusal> {
    match condition {
        Value::String(condition) => Ok(condition),
        _ => Err(Refusal::new("where: a condition as `vexfs query` takes it, as text")),
    }
}

fn directory(directory: Value) -> Result<String, Refusal> {
    match directory {
        Value::String(path) => Ok(path),
        _ => Err(Refusal::new("within: the path of a directory from the root of the volume, as text")),
    }
}

fn way(exact: Option<Value>, index: Option<Value>) -> Result<Way, Refusal> {
    let exact = exact.map_or(Some(false), |exact| exact.as_bool());
    let exact = exact.ok_or_else(|| Refusal::new("exact: true or false"))?;
    let way = match index {
        None | Some(Value::Bool(false)) => Way::Fastest,
        Some(Value::Bool(true)) => Way::Index(None),
        Some(Value::String(name)) if Kind::from_name(&name).is_some() => Way::Index(Kind::from_name(&name)),
        Some(_) => return Err(Refusal::new("index: true, or scan, clustered or graph")),
    };
    match (exact, way) {
        (true, Way::Index(_)) => Err(Refusal::new("exact and index: give one of them")),
        (true, _) => Ok(Way::Exact),
        (false, way) => Ok(way),
    }
}

fn recall(share: &Value) -> Result<f64, Refusal> {
    let share = share.as_f64().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| Refusal::new("min_recall: a number from 0 to 1"))
}

fn metric(name: Value) -> Result<Metric, Refusal> {
    let known = name.as_str().and_then(Metric::from_name);
    known.ok_or_else(|| Refusal::new("metric: cosine, l2, ip, or hamming for bits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vexfs_core::format::{Element as Stored, Metric as Set, collection_matrix};
    use vexfs_core::numbers::CollectionId;

    fn collection() -> Collection {
        Collection {
            id: CollectionId(1),
            dimensions: 2,
            element: Stored::F32,
            codec: super::Stored::None,
            stored_len: 8,
            stride: 64,
            metric: Set::L2,
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

    fn parse(question: &str) -> Result<Question, String> {
        Question::parse(question.as_bytes(), &collection()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn members_and_what_they_are_without() {
        let asked = parse(r#"{"vector": [1, 0.5]}"#).unwrap();
        assert_eq!((asked.near_to, asked.k, asked.metric), (NearTo::Values(vec![1.0, 0.5]), 10, Metric::L2));
        let asked = parse(r#"{"like": "a/b", "n": 3, "k": 2, "metric": "ip", "exact": true, "within": "a"}"#)
            .unwrap();
        assert_eq!(asked.near_to, NearTo::File { path: "a/b".into(), n: 3 });
        assert_eq!((asked.k, asked.metric, asked.within.as_deref()), (2, Metric::InnerProduct, Some("a")));
        assert_eq!(parse("abcdefgh").unwrap().near_to, NearTo::Bytes(b"abcdefgh".to_vec()));
        assert_eq!((asked.way, asked.min_recall, asked.explain), (Way::Exact, MIN_RECALL, false));
        let asked = parse(
            r#"{"vector": [1, 2], "index": "graph", "exact": false, "min_recall": 1, "explain": true}"#,
        )
        .unwrap();
        assert_eq!((asked.way, asked.min_recall, asked.explain), (Way::Index(Some(Kind::Graph)), 1.0, true));
        // As many bytes as a vector, but an object.
        assert!(parse("{\"k\": 1}").unwrap_err().contains("vector or like"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        for (question, why) in [
            (r#"{"vector": [1, 2], "k": 0}"#, "1 or more"),
            (r#"{"vector": [1, 2], "k": 1.5}"#, "whole number"),
            (r#"{"vector": [1, 2], "k": 100001}"#, "100000"),
            (r#"{"vector": [1, "2"]}"#, "element 1"),
            (r#"{"vector": 1}"#, "array"),
            (r#"{"vector": [1, 2], "like": "a"}"#, "one of them"),
            (r#"{"vector": [1, 2], "n": 1}"#, "which vector"),
            (r#"{"like": ["a"]}"#, "as text"),
            (r#"{"like": "a", "n": -1}"#, "from 0 on"),
            (r#"{"vector": [1, 2], "kk": 1}"#, "unknown member `kk`"),
            (r#"{"vector": [1, 2], "metric": "l3"}"#, "cosine, l2, ip"),
            (r#"{"vector": [1, 2], "where": ["a = 1"]}"#, "as text"),
            (r#"{"vector": [1, 2], "exact": 1}"#, "true or false"),
            (r#"{"vector": [1, 2], "min_score": "1"}"#, "a number"),
            (r#"{"vector": [1, 2], "min_recall": 1.5}"#, "from 0 to 1"),
            (r#"{"vector": [1, 2], "index": "tree"}"#, "clustered or graph"),
            (r#"{"vector": [1, 2], "index": true, "exact": true}"#, "one of them"),
            (r#"{"vector": [1, 2], "explain": 1}"#, "true or false"),
            ("abc", "8 bytes here (2 x f32): 3 bytes"),
        ] {
            let told = parse(question).unwrap_err();
            assert!(told.contains(why), "{question}: {told}");
        }
    }
}
