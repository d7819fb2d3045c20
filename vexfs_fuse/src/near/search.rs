//! One search of a collection as a caller: by an index if one is chosen and does, else of all rows.
//!
//! INVARIANT: there are as many answers as were asked for, or as there are. What an index gave is not called exact.

use std::time::Instant;

use serde_json::{Value, json};
use vexfs_core::Result;
use vexfs_core::numbers::{CollectionId, Ino};
use vexfs_core::operations::{Caller, Collection, Reach};
use vexfs_search::Query;
use vexfs_search::choice::{Extent, Wish};
use vexfs_search::stored::Effort;

use super::by_index::{ByIndex, Outcome};
use super::held::Held;
use super::indexes::Chosen;
use super::recall::Asked;
use super::scan::Scan;
use super::source::Indexed;
use super::told::{self, Found, Wanted};

/// What is searched for, by whom.
pub(super) struct Search<'a, S> {
    pub(super) source: &'a S,
    pub(super) collection: &'a Collection,
    pub(super) query: &'a Query,
    pub(super) caller: &'a Caller<'a>,
    /// The directory whose files are asked for, and a file that is no answer.
    pub(super) below: Ino,
    pub(super) own: Option<Ino>,
    pub(super) wanted: Wanted<'a>,
}

/// What a search cost.
#[derive(Debug, Default)]
pub(super) struct Cost {
    /// Rows that were compared whole.
    pub(super) candidates: u64,
    /// Of those, rows that changed since the index was built.
    pub(super) changed: u64,
    /// Leaves of clusters that were looked at.
    pub(super) leaves: u64,
    /// Nodes of a graph that were entered.
    pub(super) nodes: u64,
    /// Bytes of the index that were read in memory.
    pub(super) index_bytes: u64,
}

/// What was found, and how.
pub(super) struct Answer {
    pub(super) found: Vec<Found>,
    /// `exact`, or the kind of index.
    plan: &'static str,
    why: String,
    /// What was measured of the effort when the index was built; 1 if every row was read.
    recall: f64,
    cost: Cost,
    ms: f64,
}

impl<S: Indexed> Search<'_, S> {
    /// The nearest, in the way that the wish asks for.
    pub(super) fn answer(&self, wish: &Wish) -> Result<Answer> {
        let start = Instant::now();
        let (id, indexes) = (self.id(), self.source.indexes());
        let mut cost = Cost::default();
        let ms = || start.elapsed().as_secs_f64() * 1e3;
        let why = match indexes.choose(self.source, self.collection, self.extent(), wish)? {
            Chosen::Exactly(why) => why,
            Chosen::By(held, effort, why) => {
                let by_index = ByIndex { search: self, held: &held, effort, cost: &mut cost };
                match by_index.nearest()? {
                    Outcome::Found(found) => {
                        indexes.recall().keep(self.asked(&held, effort));
                        let (plan, recall) = (held.index.kind().name(), effort.recall);
                        return Ok(Answer { found, plan, why, recall, cost, ms: ms() });
                    }
                    Outcome::Short(why) => why,
                    Outcome::Damaged(trouble) => {
                        let why = format!("the index cannot be used: {trouble}");
                        indexes.distrust(id, &held, trouble);
                        why
                    }
                }
            }
        };
        let mut scan = Scan::new(self.source, id, self.collection, self.query)?;
        let before = Instant::now();
        scan.refresh()?;
        indexes.scanned(id, self.collection.live, before.elapsed());
        let found = told::nearest(&mut scan, self.caller, self.reach(), self.wanted)?;
        cost.candidates += self.collection.live;
        Ok(Answer { found, plan: "exact", why, recall: 1.0, cost, ms: ms() })
    }

    // What is compared with the exact answer later.
    fn asked(&self, held: &Held, effort: Effort) -> Asked {
        let (kind, stamp) = (held.index.kind(), held.stamp);
        Asked { id: self.id(), kind, stamp, effort, k: self.wanted.k, query: self.query.clone() }
    }

    /// The collection.
    pub(super) fn id(&self) -> CollectionId {
        self.collection.id
    }

    /// How large it is.
    pub(super) fn extent(&self) -> Extent {
        Extent { live: self.collection.live, vector_len: self.collection.vector_len() as usize }
    }

    /// How far the caller reaches; nothing is found out yet.
    pub(super) fn reach(&self) -> Reach {
        Reach::new(self.below, self.own)
    }
}

impl Answer {
    /// How it was found.
    pub(super) fn explained(&self) -> Value {
        let Cost { candidates, changed, leaves, nodes, index_bytes } = self.cost;
        json!({"explain": {
            "plan": self.plan, "why": self.why, "recall": self.recall, "candidates": candidates, "changed": changed,
            "leaves": leaves, "nodes": nodes, "index_bytes": index_bytes, "ms": self.ms,
        }})
    }
}
