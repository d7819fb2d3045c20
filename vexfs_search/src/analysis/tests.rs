//! Figures of small samples against what they are by definition.

use super::nearest::{nearest, recall, rerank};
use super::*;
use crate::Metric;
use crate::codec::Codec;

fn sample(count: usize, dimensions: usize, metric: Metric) -> Sample {
    let mut state = 1_u64;
    let mut value = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let rows = (0..count * dimensions).map(|_| value()).collect();
    let queries = (0..10 * dimensions).map(|_| value()).collect();
    Sample { dimensions, metric, k: 10, rows, queries, live: count + 10 }
}

#[test]
fn nearest_is_what_sorting_gives() {
    for metric in [Metric::Cosine, Metric::L2, Metric::InnerProduct] {
        let Sample { rows, queries, dimensions, .. } = sample(200, 19, metric);
        let found = nearest(&rows, &queries, dimensions, metric, 7);
        for (query, found) in queries.chunks(dimensions).zip(&found) {
            let score = |row: &[f32]| {
                let sum = |term: fn(f64, f64) -> f64| {
                    row.iter().zip(query).map(|(a, b)| term(f64::from(*a), f64::from(*b))).sum::<f64>()
                };
                match metric {
                    Metric::L2 => -sum(|a, b| (a - b) * (a - b)),
                    Metric::Cosine => sum(|a, b| a * b) / sum(|a, _| a * a).sqrt(),
                    _ => sum(|a, b| a * b),
                }
            };
            let mut all: Vec<(f64, usize)> = rows.chunks(dimensions).map(score).zip(0..).collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            assert_eq!(*found, all[..7].iter().map(|(_, index)| *index).collect::<Vec<_>>(), "{metric:?}");
        }
        // To look again among enough candidates finds the same; among too few, what there is.
        let many = nearest(&rows, &queries, dimensions, metric, 30);
        assert_eq!(rerank(&many, &rows, &queries, dimensions, metric, 7), found);
        assert_eq!(rerank(&found, &rows, &queries, dimensions, metric, 30)[0].len(), 7);
    }
}

#[test]
fn recall_counts_what_was_found() {
    let exact = [vec![1, 2, 3, 4], vec![5, 6, 7, 8]];
    assert_eq!(recall(&exact, &exact, 4), 1.0);
    assert_eq!(recall(&exact, &[vec![4, 3, 2, 1], vec![1, 2, 3, 4]], 4), 0.5);
    // What lies behind the k-th place does not count.
    assert_eq!(recall(&exact, &[vec![9, 9, 1, 2], vec![9, 5, 6, 7]], 2), 0.25);
}

#[test]
fn more_bits_are_a_smaller_error_and_more_recall() {
    let sample = sample(500, 100, Metric::Cosine);
    let all: Vec<Figures> =
        measure(&sample, &Codec::ALL.map(Candidate::Plain)).map(|(_, figures)| figures.unwrap()).collect();
    assert_eq!(all.iter().map(|figures| figures.row_bytes).collect::<Vec<_>>(), [400, 200, 100, 50, 13]);
    assert_eq!(all.iter().map(|figures| figures.stride_bytes).collect::<Vec<_>>(), [448, 256, 128, 64, 64]);
    assert_eq!((all[0].error_l2, all[0].recall, all[0].recall_reranked), (0.0, 1.0, 1.0));
    for (more, fewer) in all.iter().zip(&all[1..]) {
        assert!(more.error_l2 < fewer.error_l2 && more.error_cosine <= fewer.error_cosine + 1e-12);
        assert!(more.recall >= fewer.recall && fewer.recall_reranked >= fewer.recall);
        assert!(fewer.encode_speed > 0.0 && fewer.decode_speed > 0.0);
    }
    // Uniform elements, a step of 1/127 and of 1/7.5, rounded: an error of step / sqrt(12) of 1 / sqrt(3).
    assert!((all[2].error_l2 - 0.5 / 127.0).abs() < 2e-4, "{}", all[2].error_l2);
    assert!((all[3].error_l2 - 0.5 / 7.5).abs() < 3e-3, "{}", all[3].error_l2);
    assert!(all[4].recall < 0.9 && all[2].recall > 0.95);
}

#[test]
fn what_a_codec_cannot_store_is_told() {
    let mut sample = sample(50, 4, Metric::L2);
    sample.rows[4 * 7] = 70_000.0;
    let all: Vec<_> = measure(&sample, &[Codec::F16, Codec::Sq8].map(Candidate::Plain)).collect();
    assert_eq!(all[0].1.unwrap_err().row, 7);
    assert!(all[1].1.is_ok());
    // A row of zeros has no error.
    sample.rows.fill(0.0);
    let (_, figures) = measure(&sample, &[Candidate::Plain(Codec::Sq8)]).next().unwrap();
    assert_eq!((figures.unwrap().error_l2, figures.unwrap().recall), (0.0, 1.0));
}

#[test]
fn the_smallest_that_is_good_enough_is_recommended() {
    let figures = |codec, stride_bytes, recall| Figures {
        codec: Candidate::Plain(codec),
        row_bytes: 0,
        stride_bytes,
        error_l2: 0.0,
        error_cosine: 0.0,
        recall,
        recall_reranked: 1.0,
        encode_speed: 1.0,
        decode_speed: 1.0,
    };
    let all = [
        figures(Codec::None, 256, 1.0),
        figures(Codec::Sq8, 64, 0.98),
        figures(Codec::Sq4, 64, 0.96),
        figures(Codec::Binary, 64, 0.5),
    ];
    // Where padding makes rows of one length, the one that keeps more.
    assert_eq!(recommend(&all, 0.95), Some(Candidate::Plain(Codec::Sq8)));
    assert_eq!(recommend(&all, 0.99), Some(Candidate::Plain(Codec::None)));
    assert_eq!(recommend(&all[1..], 0.99), None);
}

#[test]
fn product_quantisation_is_measured_as_the_others() {
    let sample = sample(600, 16, Metric::L2);
    let candidates = Candidate::all(16);
    let quantized: Vec<String> = candidates[5..].iter().map(|candidate| candidate.label()).collect();
    assert_eq!(quantized, ["pq 8x8", "pq 4x8", "pq 2x8", "pq 4x4"]);
    let all: Vec<Figures> = measure(&sample, &candidates[5..]).map(|(_, figures)| figures.unwrap()).collect();
    assert_eq!(all.iter().map(|figures| figures.row_bytes).collect::<Vec<_>>(), [8, 4, 2, 2]);
    for (more, fewer) in all[..3].iter().zip(&all[1..3]) {
        assert!(more.error_l2 < fewer.error_l2 && more.recall > fewer.recall);
    }
    // More entries than vectors; and a part of two dimensions does not divide every vector.
    let few = measure(&self::sample(100, 16, Metric::L2), &[candidates[5]]).next().unwrap().1;
    assert!(few.unwrap_err().why.contains("fewer vectors"));
    assert_eq!(Candidate::all(15).len(), 5);
}
