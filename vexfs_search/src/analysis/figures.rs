//! One codec on a sample, in numbers; and which codec they speak for.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::nearest::{nearest, recall, rerank};
use super::sample::Sample;
use crate::codec::pq::{Encoder, Shape, Training, train};
use crate::codec::{self, Codec, Coder, Refused, Rows};

/// Rows of a matrix begin at multiples of this.
const ALIGNMENT: usize = 64;
/// Candidates a neighbour that the second stage of a search looks at.
const CANDIDATES: usize = 4;
/// A speed is the median of passes over the sample that take at least so long.
const TIMED: Duration = Duration::from_millis(60);
const PASSES_MIN: usize = 5;

/// A way to store vectors, of which there are figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// A codec that needs nothing but a row.
    Plain(Codec),
    /// Product quantisation of this shape, trained on the sample.
    Pq(Shape),
}

impl Candidate {
    /// Those that are compared for vectors of `dimensions`, those that keep most first: every codec, and product quantisation
    /// by codes of 8 bits for two, four and eight dimensions, and of 4 bits for four, where that divides them.
    pub fn all(dimensions: usize) -> Vec<Self> {
        let quantized = [(2, 8), (4, 8), (8, 8), (4, 4)].into_iter().filter_map(|(length, bits)| {
            let parts = dimensions.is_multiple_of(length).then_some(dimensions / length)?;
            Shape::cutting(dimensions, parts, bits).ok().map(Self::Pq)
        });
        Codec::ALL.into_iter().map(Self::Plain).chain(quantized).collect()
    }

    /// The codec's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain(codec) => codec.name(),
            Self::Pq(_) => Coder::PQ,
        }
    }

    /// Name and shape, for people: `pq 48x8` has 48 codes of 8 bits.
    pub fn label(self) -> String {
        match self {
            Self::Plain(codec) => codec.name().to_owned(),
            Self::Pq(shape) => format!("{} {}x{}", Coder::PQ, shape.subvectors, shape.bits),
        }
    }

    fn maker(self, sample: &Sample) -> Result<Maker, Refused> {
        match self {
            Self::Plain(codec) => Ok(Maker::Plain(codec)),
            Self::Pq(shape) => {
                let codebook = train(&sample.rows, shape, &Training::default(), &|| {}).map_err(|_| {
                    Refused { row: 0, why: "the sample has fewer vectors than a codebook entries" }
                })?;
                Ok(Maker::Pq(Box::new(Encoder::new(&codebook)), Coder::Quantized(codebook.into())))
            }
        }
    }
}

// What codes and reads the rows of a candidate.
enum Maker {
    Plain(Codec),
    Pq(Box<Encoder>, Coder),
}

impl Maker {
    fn encode(
        &self,
        vectors: &[f32],
        dimensions: usize,
        rows: &mut [u8],
        stride: usize,
        scales: &mut [f32],
    ) -> Result<(), Refused> {
        match self {
            Self::Plain(codec) => codec::encode(*codec, vectors, dimensions, rows, stride, scales),
            Self::Pq(encoder, _) => {
                encoder.encode(vectors, rows, stride);
                Ok(())
            }
        }
    }

    fn coder(&self) -> Coder {
        match self {
            Self::Plain(codec) => Coder::Plain(*codec),
            Self::Pq(_, coder) => coder.clone(),
        }
    }
}

/// What a codec makes of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// The codec.
    pub codec: Candidate,
    /// Bytes of a row, without padding.
    pub row_bytes: usize,
    /// Bytes from one row of the matrix to the next: what a vector takes on the volume.
    pub stride_bytes: usize,
    /// Mean of |x - y| / |x|, where x is stored and reads as y; rows of zeros are left out.
    pub error_l2: f64,
    /// Mean of 1 - cos(x, y), likewise.
    pub error_cosine: f64,
    /// Of the exact nearest rows of a query, the share that a search over the rows as they read finds.
    pub recall: f64,
    /// The same, if four times as many are found and the best of them chosen by the original vectors.
    pub recall_reranked: f64,
    /// f32 bytes stored a second, by one thread.
    pub encode_speed: f64,
    /// f32 bytes read a second, by one thread.
    pub decode_speed: f64,
}

/// Measures codecs on a sample, one after the other.
///
/// # Errors
/// Of each codec, why it cannot store one of the vectors.
pub fn measure<'a>(
    sample: &'a Sample,
    codecs: &'a [Candidate],
) -> impl Iterator<Item = (Candidate, Result<Figures, Refused>)> + 'a {
    let (queries, dimensions, metric) = (&sample.queries, sample.dimensions, sample.metric);
    let exact = nearest(&sample.rows, queries, dimensions, metric, sample.k);
    codecs.iter().map(move |codec| (*codec, one(sample, &exact, *codec)))
}

fn one(sample: &Sample, exact: &[Vec<usize>], codec: Candidate) -> Result<Figures, Refused> {
    let (dimensions, metric, k) = (sample.dimensions, sample.metric, sample.k);
    let maker = codec.maker(sample)?;
    let coder = maker.coder();
    let row_bytes = coder.stored_len(dimensions);
    let stride = row_bytes.next_multiple_of(ALIGNMENT);
    let mut bytes = vec![0; sample.row_count() * stride];
    let mut scales = vec![0.0; sample.row_count()];
    let mut read = vec![0.0; sample.rows.len()];
    maker.encode(&sample.rows, dimensions, &mut bytes, stride, &mut scales)?;
    coder.decode(Rows { bytes: &bytes, stride }, &scales, dimensions, &mut read)?;
    let (error_l2, error_cosine) = errors(&sample.rows, &read, dimensions);
    let found = nearest(&read, &sample.queries, dimensions, metric, k.saturating_mul(CANDIDATES));
    let reranked = rerank(&found, &sample.rows, &sample.queries, dimensions, metric, k);
    let len = size_of_val(&sample.rows[..]) as f64;
    let encode_speed = len
        / seconds(|| {
            let rows = black_box(&sample.rows[..]);
            let _ = black_box(maker.encode(rows, dimensions, &mut bytes, stride, &mut scales));
        });
    let decode_speed = len
        / seconds(|| {
            let rows = Rows { bytes: black_box(&bytes), stride };
            let _ = black_box(coder.decode(rows, &scales, dimensions, &mut read));
        });
    Ok(Figures {
        codec,
        row_bytes,
        stride_bytes: stride,
        error_l2,
        error_cosine,
        recall: recall(exact, &found, k),
        recall_reranked: recall(exact, &reranked, k),
        encode_speed,
        decode_speed,
    })
}

/// The codec with the fewest bytes whose recall without reranking is at least `recall_min`; the first of equals. A
/// collection keeps only what its codec stores, so nothing is there to rerank from.
pub fn recommend(figures: &[Figures], recall_min: f64) -> Option<Candidate> {
    let good = figures.iter().filter(|figures| figures.recall >= recall_min);
    good.min_by_key(|figures| figures.stride_bytes).map(|figures| figures.codec)
}

fn errors(rows: &[f32], read: &[f32], dimensions: usize) -> (f64, f64) {
    let (mut l2, mut cosine, mut count) = (0.0, 0.0, 0_u32);
    for (x, y) in rows.chunks_exact(dimensions).zip(read.chunks_exact(dimensions)) {
        let sum = |term: fn(f64, f64) -> f64| {
            x.iter().zip(y).map(|(x, y)| term(f64::from(*x), f64::from(*y))).sum::<f64>()
        };
        let square = sum(|x, _| x * x);
        if square == 0.0 {
            continue;
        }
        let read = sum(|_, y| y * y);
        l2 += (sum(|x, y| (x - y) * (x - y)) / square).sqrt();
        cosine += if read == 0.0 { 1.0 } else { 1.0 - sum(|x, y| x * y) / (square * read).sqrt() };
        count += 1;
    }
    let count = f64::from(count.max(1));
    (l2 / count, cosine / count)
}

fn seconds(mut pass: impl FnMut()) -> f64 {
    let (start, mut passes) = (Instant::now(), Vec::new());
    while passes.len() < PASSES_MIN || start.elapsed() < TIMED {
        let pass_start = Instant::now();
        pass();
        passes.push(pass_start.elapsed().as_secs_f64());
    }
    passes.sort_unstable_by(f64::total_cmp);
    passes[passes.len() / 2].max(1e-9)
}
