//! The batch codecs, one pass at a time: the other half of `scripts/bench_codecs.py`, which asks for passes in turn with
//! those of its peers, so that both meet the same moments of the machine.
//!
//! `bench-codecs VECTORS.npy` reads lines from stdin, each with a codec and `encode` or `decode`, or `copy`; does that with
//! all vectors, on one thread and between buffers that were used before; and prints the seconds that the
//! fastest of some passes took. `pq train SUBVECTORS BITS ITERATIONS` trains a codebook, once a line, which `pq encode` and
//! `pq decode` then use, and `pq save FILE` writes as raw f32.

use std::error::Error;
use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::time::Instant;

use memmap2::{Advice, MmapMut};
use zerocopy::FromBytes;

use vexfs_search::codec::pq::{Codebook, Encoder, Shape, Training, train};
use vexfs_search::codec::{self, Codec, Rows};
use vexfs_search::npy::Header;

/// Passes one after the other, of which the fastest counts: on a busy machine some are interrupted.
const PASSES: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which file of vectors?")?;
    let file = std::fs::read(path)?;
    let header = Header::parse(&file)?;
    let (_, dimensions) = header.matrix()?;
    if header.descr != "<f4" {
        return Err(format!("the vectors are {}, not <f4", header.descr).into());
    }
    let mut bench = Bench::new(&file[header.data..], usize::try_from(dimensions)?)?;
    drop(file);
    println!("{}", codec::name());
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut best = f64::INFINITY;
        let passes = if line.starts_with("pq train") { 1 } else { PASSES };
        for _ in 0..passes {
            best = best.min(bench.pass(&line)?);
        }
        println!("{best:.9}");
        io::stdout().flush()?;
    }
    Ok(())
}

struct Bench {
    dimensions: usize,
    vectors: MmapMut,
    read: MmapMut,
    rows: MmapMut,
    scales: Vec<f32>,
    quantizer: Option<(Codebook, Encoder)>,
}

impl Bench {
    fn new(vectors: &[u8], dimensions: usize) -> io::Result<Self> {
        let count = vectors.len() / (4 * dimensions).max(1);
        let scales = vec![1.0; count];
        Ok(Self {
            dimensions,
            vectors: buffer(vectors)?,
            read: buffer(vectors)?,
            rows: buffer(vectors)?,
            scales,
            quantizer: None,
        })
    }

    fn pass(&mut self, line: &str) -> Result<f64, Box<dyn Error>> {
        let Self { dimensions, vectors, read, rows, scales, quantizer } = self;
        let dimensions = *dimensions;
        let vectors = <[f32]>::ref_from_bytes(vectors).map_err(|_| "the vectors end within an element")?;
        let read = <[f32]>::mut_from_bytes(read).map_err(|_| "the vectors end within an element")?;
        if line == "copy" {
            let start = Instant::now();
            black_box(&mut read[..]).copy_from_slice(black_box(vectors));
            return Ok(start.elapsed().as_secs_f64());
        }
        if let Some(request) = line.strip_prefix("pq ") {
            return quantized(request, dimensions, vectors, (rows, read), quantizer);
        }
        let (name, direction) = line.split_once(' ').ok_or("a codec and a direction are needed")?;
        let codec = Codec::from_name(name).ok_or("no such codec")?;
        let stride = codec.stored_len(dimensions);
        let start = Instant::now();
        match direction {
            "encode" => codec::encode(codec, black_box(vectors), dimensions, rows, stride, scales)?,
            "decode" => {
                codec::decode(codec, Rows { bytes: black_box(rows), stride }, scales, dimensions, read)?
            }
            _ => return Err("encode or decode?".into()),
        }
        black_box((&rows, &read));
        Ok(start.elapsed().as_secs_f64())
    }
}

// A pass of product quantisation.
fn quantized(
    request: &str,
    dimensions: usize,
    vectors: &[f32],
    (rows, read): (&mut [u8], &mut [f32]),
    quantizer: &mut Option<(Codebook, Encoder)>,
) -> Result<f64, Box<dyn Error>> {
    let words: Vec<&str> = request.split(' ').collect();
    let start = Instant::now();
    if let ["train", subvectors, bits, iterations] = words[..] {
        let shape = Shape::cutting(dimensions, subvectors.parse()?, bits.parse()?)?;
        let training = Training { iterations: iterations.parse()?, threads: 1, ..Training::default() };
        let codebook = train(black_box(vectors), shape, &training, &|| {})?;
        let took = start.elapsed().as_secs_f64();
        let encoder = Encoder::new(&codebook);
        *quantizer = Some((codebook, encoder));
        return Ok(took);
    }
    let (codebook, encoder) = quantizer.as_ref().ok_or("train first")?;
    let stride = codebook.shape().code_len();
    match words[..] {
        ["encode"] => encoder.encode(black_box(vectors), rows, stride),
        ["decode"] => codebook.decode(Rows { bytes: black_box(rows), stride }, read),
        ["save", path] => std::fs::write(path, codebook.to_bytes())?,
        _ => return Err("pq train, encode, decode or save?".into()),
    }
    black_box((&rows, &read));
    Ok(start.elapsed().as_secs_f64())
}

// Memory of huge pages, as numpy takes it for large arrays: both halves are to have the same. Written once, so that no
// pass pays for the first use of a page.
fn buffer(bytes: &[u8]) -> io::Result<MmapMut> {
    let mut buffer = MmapMut::map_anon(bytes.len())?;
    buffer.advise(Advice::HugePage)?;
    buffer.copy_from_slice(bytes);
    Ok(buffer)
}
