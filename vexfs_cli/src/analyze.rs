//! `vexfs analyze`: what each codec would make of a collection, as a table, as JSON lines and as a chart.

use std::fs;

use serde_json::{Value, json};
use vexfs_search::analysis::{self, Candidate, Figures, Options, Sample};
use vexfs_search::codec::{self, Refused};
use vexfs_search::{Collection, Element, Metric, Schema};

use crate::arguments::{Analyze, Common};
use crate::chart;
use crate::failure::Failure;
use crate::output;
use crate::site::Place;

pub(crate) fn run(arguments: &Analyze, common: &Common) -> Result<(), Failure> {
    let place = Place::new(&arguments.collection, None, common)?;
    let name = &place.name.collection;
    measurable(name, &place.existing()?)?;
    let collection = Collection::open(&place.directory)?;
    let Analyze { sample: rows, queries, k, seed, .. } = *arguments;
    let sample = Sample::draw(&collection, &Options { rows, queries, k, seed })
        .map_err(|error| Failure::new(format!("{name}: {error}")))?;
    if let Some(path) = &arguments.chart {
        // Before the work: whether it can be written at all.
        fs::write(path, "").map_err(|error| Failure::io(path, &error))?;
    }
    let candidates = Candidate::all(sample.dimensions);
    let results: Vec<Measured> = analysis::measure(&sample, &candidates).collect();
    let report = Report::new(name, &sample, results, arguments);
    if let Some(path) = &arguments.chart {
        let title = format!("{name}: {}", report.subject());
        let svg = chart::render(&title, &report.figures, k, arguments.recall, report.recommended);
        fs::write(path, svg).map_err(|error| Failure::io(path, &error))?;
    }
    if common.json { report.lines() } else { report.table() }
}

// Says what cannot be analyzed, and what to do instead.
fn measurable(name: &str, schema: &Schema) -> Result<(), Failure> {
    let codec = schema.all.get("codec").and_then(Value::as_str).unwrap_or("none");
    let why = if codec != "none" {
        format!(
            "is stored as {codec} already: what that lost is not there to measure errors against; analyze a \
             collection that was imported without --codec"
        )
    } else if schema.element == Element::F16 {
        "holds f16; only f32 vectors are analyzed (sq8, sq4 and binary can store f16, too)".to_owned()
    } else if schema.element != Element::F32 {
        format!(
            "holds {}, which no codec makes smaller; only f32 vectors are analyzed",
            schema.element.name()
        )
    } else if schema.metric == Metric::Hamming {
        "is compared by hamming, which is for bits; only cosine, l2 and ip are analyzed".to_owned()
    } else {
        return Ok(());
    };
    Err(Failure::new(format!("{name}: {why}")))
}

type Measured = (Candidate, Result<Figures, Refused>);

struct Report<'a> {
    name: &'a str,
    sample: &'a Sample,
    arguments: &'a Analyze,
    results: Vec<Measured>,
    figures: Vec<Figures>,
    recommended: Option<Candidate>,
    reason: String,
}

impl<'a> Report<'a> {
    fn new(name: &'a str, sample: &'a Sample, results: Vec<Measured>, arguments: &'a Analyze) -> Self {
        let figures: Vec<Figures> = results.iter().filter_map(|(_, result)| result.ok()).collect();
        let recommended = analysis::recommend(&figures, arguments.recall);
        let reason = reason(&figures, recommended, arguments);
        Self { name, sample, arguments, results, figures, recommended, reason }
    }

    // What was measured, in words.
    fn subject(&self) -> String {
        let Sample { live, dimensions, metric, .. } = self.sample;
        let (rows, queries) = (self.sample.row_count(), self.sample.query_count());
        format!(
            "{live} vectors of {dimensions} x f32, {}; {rows} searched with {queries} others (seed {})",
            metric.name(),
            self.arguments.seed
        )
    }

    fn table(&self) -> Result<(), Failure> {
        let recall = format!("RECALL@{}", self.arguments.k);
        let head = [
            "CODEC",
            "BYTES",
            "ON DISK",
            "SMALLER",
            "L2 ERROR",
            "COSINE ERROR",
            &recall,
            "RERANKED",
            "ENCODE GB/s",
            "DECODE GB/s",
        ];
        let original = self.figures.first().map_or(0, |figures| figures.stride_bytes) as f64;
        let row = |(codec, result): &Measured| match result {
            Ok(figures) => vec![
                codec.label(),
                figures.row_bytes.to_string(),
                figures.stride_bytes.to_string(),
                format!("{:.1}", original / figures.stride_bytes as f64),
                format!("{:.5}", figures.error_l2),
                format!("{:.6}", figures.error_cosine),
                format!("{:.4}", figures.recall),
                format!("{:.4}", figures.recall_reranked),
                format!("{:.1}", figures.encode_speed / 1e9),
                format!("{:.1}", figures.decode_speed / 1e9),
            ],
            // The row is one of the sample, which the caller cannot know.
            Err(refused) => vec![codec.label(), refused.why.to_owned()],
        };
        println!("{}: {}", self.name, self.subject());
        output::table(&head, &self.results.iter().map(row).collect::<Vec<_>>())?;
        println!("{}", self.reason);
        Ok(())
    }

    fn lines(&self) -> Result<(), Failure> {
        for (codec, result) in &self.results {
            let figures = result.ok();
            let number = |of: fn(&Figures) -> f64| figures.as_ref().map(of);
            let whole = |of: fn(&Figures) -> usize| figures.as_ref().map(of);
            let shape = match codec {
                Candidate::Pq(shape) => Some(shape),
                Candidate::Plain(_) => None,
            };
            output::line(&json!({
                "collection": self.name,
                "codec": codec.name(),
                "subvectors": shape.map(|shape| shape.subvectors),
                "bits": shape.map(|shape| shape.bits),
                "dimension": self.sample.dimensions,
                "metric": self.sample.metric.name(),
                "live": self.sample.live,
                "sample": self.sample.row_count(),
                "queries": self.sample.query_count(),
                "k": self.arguments.k,
                "seed": self.arguments.seed,
                "row_bytes": whole(|figures| figures.row_bytes),
                "stride_bytes": whole(|figures| figures.stride_bytes),
                "error_l2": number(|figures| figures.error_l2),
                "error_cosine": number(|figures| figures.error_cosine),
                "recall": number(|figures| figures.recall),
                "recall_reranked": number(|figures| figures.recall_reranked),
                "encode_bytes_per_second": whole(|figures| figures.encode_speed as usize),
                "decode_bytes_per_second": whole(|figures| figures.decode_speed as usize),
                "instructions": codec::name(),
                "refused": result.err().map(|refused| refused.why),
                "recommended": self.recommended == Some(*codec),
                "reason": (self.recommended == Some(*codec)).then_some(self.reason.as_str()),
            }))?;
        }
        Ok(())
    }
}

fn reason(figures: &[Figures], recommended: Option<Candidate>, arguments: &Analyze) -> String {
    let (k, enough) = (arguments.k, arguments.recall);
    let Some(best) = figures.iter().find(|figures| Some(figures.codec) == recommended) else {
        return format!("recommended: nothing; no codec has a recall@{k} of {enough}");
    };
    let mut words = format!(
        "recommended: {}, the fewest bytes on disk with a recall@{k} of at least {enough}: {:.4}",
        best.codec.label(),
        best.recall
    );
    let smaller = figures.iter().filter(|other| other.stride_bytes < best.stride_bytes);
    let mut reranked: Vec<&Figures> = smaller.filter(|other| other.recall_reranked >= enough).collect();
    reranked.sort_by_key(|other| other.stride_bytes);
    if let Some(other) = reranked.first() {
        words += &format!(
            "; if the original vectors are kept as well, {} with reranking: {:.4}",
            other.codec.label(),
            other.recall_reranked
        );
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(element: Element, metric: Metric, codec: &str) -> Option<String> {
        let all = json!({"codec": codec});
        let schema = Schema {
            dimensions: 8,
            element,
            metric,
            model: String::new(),
            rows: 0,
            live: 0,
            generation: 0,
            all,
        };
        measurable("things", &schema).err().map(|failure| failure.to_string())
    }

    #[test]
    fn what_cannot_be_analyzed_is_told() {
        assert_eq!(words(Element::F32, Metric::L2, "none"), None);
        assert!(words(Element::F32, Metric::L2, "sq8").unwrap().contains("stored as sq8 already"));
        assert!(words(Element::F16, Metric::L2, "none").unwrap().contains("holds f16; only f32"));
        assert!(words(Element::I8, Metric::Cosine, "none").unwrap().contains("holds i8, which no codec"));
        assert!(words(Element::Bit, Metric::Hamming, "none").unwrap().contains("holds bit"));
        assert!(words(Element::F32, Metric::Hamming, "none").unwrap().contains("hamming"));
    }
}
