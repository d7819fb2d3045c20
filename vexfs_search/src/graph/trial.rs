#![allow(dead_code, clippy::all)]
use std::time::Instant;
use super::build::{Shape, build};
use super::codes::{Codes, Query};
use super::points::Points;
use super::walk::Walk;
use crate::clustered::nibbles::Rounded;
use crate::clustered::rotation::Rotation;
use crate::cpu::{self, Cpu, Job};
use crate::metric::Metric;
use super::Graph;

fn cpus() -> f64 { std::fs::read_to_string("/proc/thread-self/schedstat").unwrap().split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9 }
fn load(path: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let start = 10 + u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    bytes[start..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

struct One<'a> { graph: &'a Graph, codes: &'a Codes, rounded: &'a Rounded, width: usize, walk: &'a mut Walk, metric: Metric }
impl Job for One<'_> {
    type Output = ();
    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) {
        self.walk.run(cpu, self.graph, &Query { codes: self.codes, rounded: self.rounded }, self.width, |_, _| {});
    }
}
struct Rank<'a> { vectors: &'a [f32], query: &'a [f32], rows: &'a [u32] }
impl Job for Rank<'_> {
    type Output = Vec<(f32, u32)>;
    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) -> Vec<(f32, u32)> {
        let d = self.query.len();
        let at = |row: u32| &self.vectors[row as usize * d..][..d];
        let mut out = Vec::with_capacity(self.rows.len());
        for (n, row) in self.rows.iter().enumerate() {
            if let Some(next) = self.rows.get(n + 4) { let b = zerocopy::IntoBytes::as_bytes(at(*next)); (0..b.len()).step_by(64).for_each(|l| cpu.prefetch(b, l)); }
            out.push((cpu.product(at(*row), self.query), *row));
        }
        out.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        out
    }
}

#[test]
fn trial() {
    let env = |name: &str, default: f64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let home = "/root/.cache/vexfs/bench-data/";
    let directory = std::fs::read_dir(home).unwrap().next().unwrap().unwrap().path();
    let d = 384;
    let mut vectors = load(directory.join("vectors.npy").to_str().unwrap());
    vectors.truncate(env("N", 100000.0) as usize * d);
    let n = vectors.len() / d;
    let queries: Vec<f32> = load(directory.join("queries.npy").to_str().unwrap())[..300 * d].to_vec();
    let metric = Metric::Cosine;
    let rotation = Rotation::new(d);
    let start = Instant::now();
    let (mut points, mut codes) = (Points::new(d, metric), Codes::new(d));
    let mut mean = vec![0.0_f32; d];
    for v in vectors.chunks_exact(d) {
        let mut p = v.to_vec();
        rotation.turn(&mut p);
        points.push(&p);
        codes.push(&p, metric);
        mean.iter_mut().zip(&p).for_each(|(m, x)| *m += x);
    }
    points.finish();
    println!("points {:.1} s", start.elapsed().as_secs_f64());
    let shape = Shape { degree: env("R", 32.0) as usize, width: env("L", 64.0) as usize, slack: env("A", 1.2) as f32, passes: env("P", 1.0) as usize };
    let e = env("E", 64.0) as usize;
    let entries: Vec<u32> = (0..e).map(|i| (i * n / e) as u32).collect();
    let start = Instant::now();
    let graph = build(&points, shape, entries, &mut |_| {});
    let degree = graph.links.iter().filter(|l| **l != u32::MAX).count() as f64 / n as f64;
    println!("{shape:?} E {e} build {:.1} s, mean degree {degree:.1}", start.elapsed().as_secs_f64());
    // exact answers
    let truth: Vec<Vec<(f32, u32)>> = queries.chunks_exact(d).map(|q| { let all: Vec<u32> = (0..n as u32).collect(); let mut r = cpu::best(Rank { vectors: &vectors, query: q, rows: &all }); r.truncate(10); r }).collect();
{

    let mut walk = Walk::default();
    for (width, rerank) in [(10, 10), (16, 16), (20, 20), (24, 20), (32, 20), (32, 32), (40, 20), (48, 24), (64, 24), (80, 32), (96, 32), (128, 32), (192, 32), (256, 40)] {
        let mut best = f64::MAX;
        let (mut recall, mut scored, mut entered) = (0.0, 0, 0);
        for _ in 0..12 {
            let start = cpus();
            (recall, scored, entered) = (0.0, 0, 0);
            for (q, truth) in queries.chunks_exact(d).zip(&truth) {
                let mut t = q.to_vec();
                rotation.turn(&mut t);
                let rounded = Rounded::new(&t);
                cpu::best(One { graph: &graph, codes: &codes, rounded: &rounded, width, walk: &mut walk, metric });
                let rows: Vec<u32> = walk.beam.iter().take(rerank).map(|s| s.node).collect();
                let got = cpu::best(Rank { vectors: &vectors, query: q, rows: &rows });
                recall += got.iter().take(10).filter(|g| g.0 >= truth[9].0).count() as f64 / 10.0;
                scored += walk.scored;
                entered += walk.entered.len();
            }
            best = best.min(cpus() - start);
        }
        println!("width {width:4} rerank {rerank:3}: recall {:.4}  {:7.0} q/s  scored {} entered {}", recall / 300.0, 300.0 / best, scored / 300, entered / 300);
    }
}    // exact scan
    let start = Instant::now();
    for q in queries.chunks_exact(d).take(20) { let all: Vec<u32> = (0..n as u32).collect(); std::hint::black_box(cpu::best(Rank { vectors: &vectors, query: q, rows: &all })); }
    println!("exact {:.0} q/s", 20.0 / start.elapsed().as_secs_f64());
}
