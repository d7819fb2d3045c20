//! Which of a collection's indexes answers, or none, and why: for searches over the mapped files and for hosts that read
//! the volume themselves.
//!
//! INVARIANT: an index is chosen only if it was measured to find what is wished for, or if it is asked for by name.

use crate::metric::Metric;
use crate::stored::{Delta, Effort, Kind, Summary};
use crate::tally::{Figure, unrefuted};

/// Of an index of which more than this share changed, nothing is gained.
const CHANGED_MAX: f64 = 0.5;
/// From so many bytes of vectors on a search with an index, opening it counted, is faster than one of all rows.
const INDEX_BYTES_MIN: u64 = 4 << 20;

/// What a search wants.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// What nearness is.
    pub metric: Metric,
    /// How many rows; `usize::MAX` for all.
    pub k: usize,
    /// The share of the nearest rows, 0 to 1, that an index must have found when it was measured.
    pub min_recall: f64,
    /// With an index or without one.
    pub way: Way,
}

/// Whether an index is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What is fastest, as measured on the machine.
    Fastest,
    /// Every row is read.
    Exact,
    /// An index, of this kind if one is named, even where reading every row is faster.
    Index(Option<Kind>),
}

impl Way {
    /// True if an index of this kind may be used.
    pub fn allows(self, kind: Kind) -> bool {
        match self {
            Self::Fastest => true,
            Self::Exact => false,
            Self::Index(wanted) => wanted.is_none_or(|wanted| wanted == kind),
        }
    }
}

/// How large a collection is.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Rows in use.
    pub live: u64,
    /// Bytes of a vector.
    pub vector_len: usize,
}

impl Extent {
    /// True if searches use an index of a collection of this size: see the table in docs/BENCHMARKS.md.
    pub fn pays(self) -> bool {
        self.live.saturating_mul(self.vector_len as u64) >= INDEX_BYTES_MIN
    }

    /// Why an index that differs so much from the collection is not used; `None` if it can be.
    pub fn outdated(self, delta: &Delta) -> Option<String> {
        let changed = delta.changed().max(delta.gone());
        (changed as f64 > CHANGED_MAX * self.live as f64).then(|| {
            format!("{changed} rows changed since the index was built; `vexfs index --update` puts them in")
        })
    }
}

/// An index that answers, and how.
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    /// Which of those that were given.
    pub number: usize,
    /// How much it does.
    pub effort: Effort,
}

/// What is known of searches beside what was measured when the indexes were built.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// Indexes are held open, so that opening one costs nothing.
    pub open: bool,
    /// What reading every row costs, in nanoseconds, if that is known.
    pub exact_ns: Option<u64>,
    /// What real searches found.
    pub figures: &'a [Figure],
}

/// Chooses among indexes for searches of a collection of this extent. Gives the one that answers, if one does, and why.
pub fn choose(
    indexes: &[&Summary],
    extent: Extent,
    wish: &Wish,
    known: Known<'_>,
) -> (Option<Chosen>, String) {
    let mut why = String::from("there is no index");
    let mut choices = Vec::new();
    for (number, index) in indexes.iter().enumerate() {
        match effort(index, extent, wish, known.figures) {
            Ok(effort) => choices.push(Chosen { number, effort }),
            Err(reason) => why = reason,
        }
    }
    let opening = |chosen: &Chosen| if known.open { 0 } else { indexes[chosen.number].open_ns };
    let ns = |chosen: &Chosen| opening(chosen).saturating_add(chosen.effort.ns);
    choices.sort_by_key(ns);
    let Some(best) = choices.first() else { return (None, why) };
    let times: Vec<(Kind, u64)> =
        choices.iter().map(|chosen| (indexes[chosen.number].kind, ns(chosen))).collect();
    let exact_ns = known.exact_ns.unwrap_or_else(|| exact_ns(indexes[best.number], extent));
    let table = Table::of(&times, exact_ns);
    if wish.way == Way::Fastest && table.exact_is_faster() {
        return (None, format!("reading every row is faster: {}", table.words));
    }
    let of_late = found_of_late(known.figures, indexes[best.number].kind, wish.k, &best.effort);
    let why = measured(indexes[best.number], &best.effort, &table);
    (Some(*best), format!("{why}{of_late}"))
}

// As many rows as there are now cost in proportion.
fn exact_ns(index: &Summary, extent: Extent) -> u64 {
    (index.exact_ns as f64 * extent.live as f64 / index.rows.max(1) as f64) as u64
}

// The effort, or why none is made.
fn effort(index: &Summary, extent: Extent, wish: &Wish, figures: &[Figure]) -> Result<Effort, String> {
    let forced = wish.way != Way::Fastest;
    if index.metric != wish.metric {
        return Err(format!("the index is for {}", index.metric.name()));
    }
    if !forced && !extent.pays() {
        return Err("the collection is so small that reading all of it is faster".into());
    }
    if wish.k as u64 > extent.live / 10 && !forced {
        return Err("a large part of the collection is asked for".into());
    }
    let all = index.leaves.max(1);
    let efforts = unrefuted(&index.efforts, figures, (index.kind, wish.k), wish.min_recall);
    match (suffices(efforts, wish.min_recall), index.efforts.last()) {
        (Some(effort), _) => Ok(*effort),
        (None, _) if !forced => {
            let when = if efforts.len() < index.efforts.len() { "of late" } else { "when it was measured" };
            Err(format!("no effort reached a recall of {} {when}", wish.min_recall))
        }
        (None, most) => Ok(Effort { probes: all, ..most.copied().unwrap_or(Effort::unmeasured(all, 10)) }),
    }
}

/// The least effort that found the recall, its interval counted.
pub fn suffices(efforts: &[Effort], min_recall: f64) -> Option<&Effort> {
    efforts.iter().find(|effort| effort.low >= min_recall)
}

// What was measured of an effort, in words.
fn measured(index: &Summary, effort: &Effort, table: &Table) -> String {
    let how = match index.kind {
        Kind::Graph => "by links".to_owned(),
        Kind::Scan | Kind::Clustered => format!("at {} of {} leaves", effort.probes, index.leaves),
    };
    format!(
        "a recall of {:.4} (at least {:.4}, with a probability of 97.5 %) was measured {how}, {} and {} candidates a row, with {} \
         queries; {}",
        effort.recall, effort.low, effort.pool, effort.rerank, effort.queries, table.words
    )
}

// What real searches with this effort found, in words.
fn found_of_late(figures: &[Figure], kind: Kind, k: usize, effort: &Effort) -> String {
    let same = |figure: &&Figure| (figure.kind, figure.k, figure.effort) == (kind, k, Figure::key(effort));
    let Some(Figure { tally, .. }) = figures.iter().find(same) else { return String::new() };
    let (low, high) = tally.interval();
    let (searches, recall) = (tally.searches(), tally.recall());
    format!("; {searches} real searches were compared of late and found {recall:.4} ({low:.4} to {high:.4})")
}

/// What searches cost, as measured on the machine when the indexes were built.
struct Table {
    exact_ns: u64,
    best_ns: u64,
    words: String,
}

impl Table {
    /// Of indexes, the fastest first, and of reading every row.
    fn of(times: &[(Kind, u64)], exact_ns: u64) -> Self {
        let ms = |ns: u64| ns as f64 / 1e6;
        let index = |(kind, ns): &(Kind, u64)| format!("{} {:.2} ms", kind.name(), ms(*ns));
        let exact = format!("exact {:.2} ms", ms(exact_ns));
        let words: Vec<String> = times.iter().map(index).chain([exact]).collect();
        let best_ns = times.first().map_or(0, |(_, ns)| *ns);
        Self { exact_ns, best_ns, words: format!("{} on this machine", words.join(", ")) }
    }

    // An index that was not timed is taken to be faster.
    fn exact_is_faster(&self) -> bool {
        self.exact_ns > 0 && self.exact_ns <= self.best_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_faster_is_told_by_the_times() {
        let times = [(Kind::Clustered, 2_000_000), (Kind::Scan, 3_500_000)];
        let table = Table::of(&times, 17_000_000);
        assert_eq!(table.words, "clustered 2.00 ms, scan 3.50 ms, exact 17.00 ms on this machine");
        assert!(!table.exact_is_faster());
        assert!(Table::of(&times, 1_999_999).exact_is_faster());
        assert!(!Table::of(&times, 0).exact_is_faster(), "it was not timed");
    }

    #[test]
    fn what_is_open_costs_its_search_alone() {
        let index = |kind, open_ns, ns| Summary {
            kind,
            metric: Metric::Cosine,
            rows: 100_000,
            leaves: 10,
            efforts: vec![Effort { recall: 0.98, low: 0.97, queries: 100, ns, ..Effort::unmeasured(4, 4) }],
            open_ns,
            exact_ns: 9_000_000,
        };
        let (graph, scan) = (index(Kind::Graph, 30_000_000, 100_000), index(Kind::Scan, 1_000_000, 900_000));
        let extent = Extent { live: 100_000, vector_len: 1536 };
        let wish = Wish { metric: Metric::Cosine, k: 10, min_recall: 0.95, way: Way::Fastest };
        let by = |wish: &Wish, known| choose(&[&graph, &scan], extent, wish, known).0.map(|it| it.number);
        let open = Known { open: true, ..Known::default() };
        assert_eq!((by(&wish, Known::default()), by(&wish, open)), (Some(1), Some(0)));
        let fast = Known { exact_ns: Some(99_000), ..open };
        assert_eq!(by(&wish, fast), None);
        // What no effort reached, what is most of the collection, another metric.
        assert_eq!(by(&Wish { min_recall: 0.99, ..wish }, open), None);
        assert_eq!(by(&Wish { k: 10_001, ..wish }, open), None);
        assert_eq!(by(&Wish { metric: Metric::L2, ..wish }, open), None);
        let (_, why) = choose(&[&graph], Extent { live: 1000, ..extent }, &wish, open);
        assert!(why.contains("so small"), "{why}");
    }
}
