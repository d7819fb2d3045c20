//! What searches by an index found of exact answers, counted: the mean share with its interval.
//!
//! INVARIANT: a search counts once, whatever its k: rows of one answer are found or missed together. Its share lies between
//! 0 and 1, and no such shares vary more than those that are all 0 or 1: so Wilson's interval for those holds for them too.

use serde_json::Value;

use crate::stored::{Effort, Kind};

/// Half the width of an interval of 95 %, in standard errors.
const STANDARD_ERRORS: f64 = 1.96;
/// Searches below which nothing is concluded.
const SEARCHES_MIN: u64 = 10;

/// Shares of exact answers that were found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    searches: u64,
    sum: f64,
}

impl Tally {
    /// Of so many searches that found this share in the mean.
    pub fn of(searches: u64, recall: f64) -> Self {
        Self { searches, sum: recall.clamp(0.0, 1.0) * searches as f64 }
    }

    /// Counts a search that found this share.
    pub fn add(&mut self, share: f64) {
        self.searches += 1;
        self.sum += share.clamp(0.0, 1.0);
    }

    /// How many searches were counted.
    pub fn searches(&self) -> u64 {
        self.searches
    }

    /// The mean share; 1 of no searches.
    pub fn recall(&self) -> f64 {
        if self.searches == 0 { 1.0 } else { self.sum / self.searches as f64 }
    }

    /// Where the mean of all searches lies with a probability of 95 %.
    pub fn interval(&self) -> (f64, f64) {
        let (n, mean, z) = (self.searches as f64, self.recall(), STANDARD_ERRORS);
        if self.searches == 0 {
            return (0.0, 1.0);
        }
        let scale = 1.0 + z * z / n;
        let centre = (mean + z * z / (2.0 * n)) / scale;
        let half = z / scale * (mean * (1.0 - mean) / n + z * z / (4.0 * n * n)).sqrt();
        ((centre - half).max(0.0), (centre + half).min(1.0))
    }
}

/// What searches of one kind of index found that made one effort for one k.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// Which kind of index.
    pub kind: Kind,
    /// The collection's generation that the index is of.
    pub generation: u64,
    /// How many rows they asked for.
    pub k: usize,
    /// Leaves, candidates and compared rows of the effort.
    pub effort: [usize; 3],
    /// What they found.
    pub tally: Tally,
}

impl Figure {
    /// What tells an effort from others.
    pub fn key(effort: &Effort) -> [usize; 3] {
        [effort.probes, effort.pool, effort.rerank]
    }

    /// Reads those of a collection's `recall` file; what is not understood is passed over.
    pub fn parse(text: &[u8]) -> Vec<Self> {
        let all: Value = serde_json::from_slice(text).unwrap_or_default();
        let figure = |value: &Value| {
            let number = |name: &str| value.get(name)?.as_u64().and_then(|it| usize::try_from(it).ok());
            Some(Self {
                kind: Kind::from_name(value.get("kind")?.as_str()?)?,
                generation: value.get("generation")?.as_u64()?,
                k: number("k")?,
                effort: [number("probes")?, number("pool")?, number("rerank")?],
                tally: Tally::of(value.get("n")?.as_u64()?, value.get("recall")?.as_f64()?),
            })
        };
        let measured = all.get("measured").and_then(Value::as_array);
        measured.into_iter().flatten().filter_map(figure).collect()
    }

    // True if searches for this recall must do more.
    fn refutes(&self, min_recall: f64) -> bool {
        self.tally.searches >= SEARCHES_MIN && self.tally.interval().1 < min_recall
    }
}

/// The efforts of an index of this kind that real searches for `k` rows did not show to find less than `min_recall`: all that do
/// more than the greatest that was shown to.
pub(crate) fn unrefuted<'a>(
    efforts: &'a [Effort],
    figures: &[Figure],
    (kind, k): (Kind, usize),
    min_recall: f64,
) -> &'a [Effort] {
    let refuted = |effort: &Effort| {
        let key = Figure::key(effort);
        let same = |figure: &&Figure| (figure.kind, figure.k, figure.effort) == (kind, k, key);
        figures.iter().filter(same).any(|figure| figure.refutes(min_recall))
    };
    let first = efforts.iter().rposition(refuted).map_or(0, |last| last + 1);
    &efforts[first..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_wilsons() {
        // 8 of 10, 1 of 1 and 0 of 3, as tables have them.
        for (n, mean, low, high) in [(10, 0.8, 0.4902, 0.9433), (1, 1.0, 0.2065, 1.0), (3, 0.0, 0.0, 0.5615)]
        {
            let (own_low, own_high) = Tally::of(n, mean).interval();
            assert!((own_low - low).abs() < 1e-4 && (own_high - high).abs() < 1e-4, "{own_low} {own_high}");
        }
        assert_eq!(Tally::default().interval(), (0.0, 1.0));
        let mut tally = Tally::default();
        [1.0, 0.5, 0.0, 1.0].into_iter().for_each(|share| tally.add(share));
        assert_eq!((tally.searches(), tally.recall()), (4, 0.625));
    }

    #[test]
    fn an_effort_that_was_refuted_is_raised() {
        let efforts = [1, 4, 16].map(|probes| Effort::unmeasured(probes, 10));
        let figure = |probes, k, n, recall| Figure {
            kind: Kind::Clustered,
            generation: 1,
            k,
            effort: [probes, 10, 10],
            tally: Tally::of(n, recall),
        };
        let left = |figures: &[Figure], k, least| {
            unrefuted(&efforts, figures, (Kind::Clustered, k), least)
                .iter()
                .map(|it| it.probes)
                .collect::<Vec<_>>()
        };
        let low = [figure(1, 10, 40, 0.5)];
        assert_eq!(left(&low, 10, 0.95), [4, 16]);
        // Of another k, of less that is wished, of too few searches, of what is likely enough.
        assert_eq!(left(&low, 5, 0.95), [1, 4, 16]);
        assert_eq!(left(&low, 10, 0.4), [1, 4, 16]);
        assert_eq!(left(&[figure(1, 10, 9, 0.0)], 10, 0.95), [1, 4, 16]);
        assert_eq!(left(&[figure(1, 10, 40, 0.93)], 10, 0.95), [1, 4, 16]);
        // What does less does not find more.
        assert_eq!(left(&[figure(4, 10, 40, 0.5)], 10, 0.95), [16]);
        assert_eq!(left(&[figure(16, 10, 40, 0.5)], 10, 0.95), [0_usize; 0]);
    }

    #[test]
    fn figures_are_read_and_what_is_none_is_passed_over() {
        let text = br#"{"measured":[{"kind":"graph","generation":3,"k":10,"probes":1,"pool":4,"rerank":2,"recall":0.5,"n":20},{"kind":"x"},3]}"#;
        let figures = Figure::parse(text);
        assert_eq!(figures.len(), 1);
        assert_eq!(
            (figures[0].kind, figures[0].effort, figures[0].tally.searches()),
            (Kind::Graph, [1, 4, 2], 20)
        );
        for none in [&b"{}"[..], b"", b"[]", b"{\"measured\":{}}"] {
            assert!(Figure::parse(none).is_empty());
        }
    }
}
