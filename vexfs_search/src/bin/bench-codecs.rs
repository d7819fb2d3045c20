//! The batch codecs, one pass at a time: the other half of `scripts/bench_codecs.py`, which asks for passes in turn with
//! those of its peers, so that both meet the same moments of the machine.
//!
//! `bench-codecs VECTORS.npy` reads lines from stdin, each with a codec and `encode` or `decode`, or `copy`; does that with
//! all vectors, on one thread and between buffers that were used before; and prints the seconds that the
//! fastest of some passes took.

use std::error::Error;
use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::time::Instant;

use memmap2::{Advice, MmapMut};
use zerocopy::FromBytes;

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
        for _ in 0..PASSES {
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
        })
    }

    fn pass(&mut self, line: &str) -> Result<f64, Box<dyn Error>> {
        let Self { dimensions, vectors, read, rows, scales } = self;
        let dimensions = *dimensions;
        let vectors = <[f32]>::ref_from_bytes(vectors).map_err(|_| "the vectors end within an element")?;
        let read = <[f32]>::mut_from_bytes(read).map_err(|_| "the vectors end within an element")?;
        if line == "copy" {
            let start = Instant::now();
            black_box(&mut read[..]).copy_from_slice(black_box(vectors));
            return Ok(start.elapsed().as_secs_f64());
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

// Memory of huge pages, as numpy takes it for large arrays: both halves are to have the same. Written once, so that no
// pass pays for the first use of a page.
fn buffer(bytes: &[u8]) -> io::Result<MmapMut> {
    let mut buffer = MmapMut::map_anon(bytes.len())?;
    buffer.advise(Advice::HugePage)?;
    buffer.copy_from_slice(bytes);
    Ok(buffer)
}
