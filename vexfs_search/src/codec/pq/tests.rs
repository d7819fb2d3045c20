//! Codes against the core's, training against what it is by definition.

use std::collections::BTreeSet;

use vexfs_core::codec::Codebook as Reference;
use vexfs_core::format::{Element, Quantizer};
use zerocopy::IntoBytes;

use super::assign::Entries;
use super::*;
use crate::codec::level::{Job, Level, Portable};

/// splitmix64 (Steele, Lea, Flood, 2014), as numbers of -1 to 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| ((self.next() >> 40) as f32 / 8_388_608.0 - 1.0) * scale).collect()
    }
}

fn reference(codebook: &Codebook, element: Element) -> Reference {
    let Shape { subvectors, sub_dimensions, bits } = codebook.shape();
    let narrow = |number: usize| u16::try_from(number).unwrap();
    let quantizer = Quantizer {
        subvectors: narrow(subvectors),
        sub_dimensions: narrow(sub_dimensions),
        bits: narrow(bits),
    };
    Reference::new(quantizer, element, codebook.to_bytes()).unwrap()
}

const SHAPES: [(usize, usize, usize); 9] = [
    (48, 8, 8),
    (3, 5, 8),
    (1, 64, 8),
    (7, 1, 4),
    (5, 3, 4),
    (96, 4, 4),
    (2, 16, 8),
    (4, 6, 4),
    (1, 1000, 4),
];

#[test]
fn codes_and_vectors_are_those_of_the_core() {
    let mut random = Random(3);
    for (subvectors, sub_dimensions, bits) in SHAPES {
        let shape = Shape { subvectors, sub_dimensions, bits };
        for scale in [1.0, 1e-25, 3e37, 0.0] {
            let entries = random.values(shape.dimensions() * shape.entries(), scale);
            let codebook = Codebook::new(shape, entries).unwrap();
            let core = reference(&codebook, Element::F32);
            // Some beyond all entries, some of another size altogether; more than one block, and no multiple of four.
            let mut vectors = random.values(shape.dimensions() * 7, scale * 4.0);
            vectors.extend(random.values(shape.dimensions() * 256, scale));
            vectors.extend(vec![f32::MAX; shape.dimensions()]);
            vectors.extend(vec![-f32::from_bits(1); shape.dimensions()]);
            let (stride, count) = (shape.code_len() + 3, vectors.len() / shape.dimensions());
            let mut rows = vec![0xaa; stride * count];
            codebook.encode(&vectors, &mut rows, stride);
            let mut read = vec![f32::NAN; vectors.len()];
            codebook.decode(Rows { bytes: &rows, stride }, &mut read);
            for (index, vector) in vectors.chunks(shape.dimensions()).enumerate() {
                let mut row = vec![0x55; shape.code_len()];
                core.encode(vector.as_bytes(), &mut row);
                let ours = &rows[index * stride..][..stride];
                assert_eq!(ours[..row.len()], row, "{shape:?} x {scale}, vector {index}");
                assert!(ours[row.len()..].iter().all(|byte| *byte == 0xaa), "bytes between rows");
                let mut value = vec![0; shape.dimensions() * 4];
                core.decode(&row, &mut value);
                let ours = &read[index * shape.dimensions()..][..shape.dimensions()];
                assert_eq!(ours.as_bytes(), value, "{shape:?} x {scale}, vector {index}");
            }
        }
    }
}

#[test]
fn every_instruction_set_finds_the_same_entries() {
    struct With<'a>(&'a Entries, &'a [i16], &'a mut [u8]);
    impl Job for With<'_> {
        type Output = ();

        fn run<L: Level>(self, level: L) {
            level.nearest(self.0, self.1, self.2);
        }
    }
    let mut random = Random(5);
    for (_, sub_dimensions, bits) in SHAPES {
        let pairs = sub_dimensions.div_ceil(2);
        // Few values, so that many entries are equally near.
        let entries: Vec<f32> =
            (0..sub_dimensions << bits).map(|_| (random.next() % 3) as f32 - 1.0).collect();
        let entries = Entries::new(&entries, sub_dimensions, Unit::of(&entries, sub_dimensions));
        let points: Vec<i16> = (0..103 * 2 * pairs).map(|_| (random.next() % 41) as i16 - 20).collect();
        let mut expected = vec![0xff; 103];
        With(&entries, &points, &mut expected).run(Portable);
        #[cfg(target_arch = "x86_64")]
        {
            let mut codes = vec![0xff; 103];
            if let Some(level) = crate::codec::level::Avx2::detect() {
                With(&entries, &points, &mut codes).run(level);
                assert_eq!(codes, expected, "AVX2, {sub_dimensions} dimensions, {bits} bits");
            }
            if let Some(level) = crate::codec::level::Avx512::detect() {
                codes.fill(0xff);
                With(&entries, &points, &mut codes).run(level);
                assert_eq!(codes, expected, "AVX-512, {sub_dimensions} dimensions, {bits} bits");
            }
        }
    }
}

fn error(codebook: &Codebook, vectors: &[f32]) -> f64 {
    let shape = codebook.shape();
    let mut rows = vec![0; vectors.len() / shape.dimensions() * shape.code_len()];
    codebook.encode(vectors, &mut rows, shape.code_len());
    let mut read = vec![0.0; vectors.len()];
    codebook.decode(Rows { bytes: &rows, stride: shape.code_len() }, &mut read);
    vectors.iter().zip(read).map(|(x, y)| f64::from(x - y).powi(2)).sum()
}

#[test]
fn training_finds_clusters_and_is_repeatable() {
    let mut random = Random(9);
    let shape = Shape { subvectors: 4, sub_dimensions: 6, bits: 4 };
    let centres = random.values(24 * 16, 1.0);
    let vectors: Vec<f32> = (0..4000)
        .flat_map(|row| {
            let near = random.values(24, 0.01);
            // Each part from another cluster, so that only parts as such are few.
            let part = |column: usize| (row * (column / 6 * 2 + 1) + row / 16) % 16 * 24 + column;
            (0..24).map(|column| centres[part(column)] + near[column]).collect::<Vec<_>>()
        })
        .collect();
    let one = Training { threads: 1, ..Training::default() };
    let codebook = train(&vectors, shape, &one, &|| {}).unwrap();
    assert_eq!(train(&vectors, shape, &Training { threads: 3, ..one }, &|| {}).unwrap(), codebook);
    let other = train(&vectors, shape, &Training { seed: 2, ..one }, &|| {}).unwrap();
    assert_ne!(other, codebook);
    let start = train(&vectors, shape, &Training { iterations: 0, ..one }, &|| {}).unwrap();
    let (first, last) = (error(&start, &vectors), error(&codebook, &vectors));
    assert!(last < first / 1.2, "{first} before, {last} after");
    let rounds: Vec<f64> = (0..8)
        .map(|iterations| train(&vectors, shape, &Training { iterations, ..one }, &|| {}).unwrap())
        .map(|codebook| error(&codebook, &vectors))
        .collect();
    assert!(rounds.windows(2).all(|pair| pair[1] <= pair[0] * 1.0001), "{rounds:?}");
}

#[test]
fn every_entry_is_somewhere_even_of_equal_vectors() {
    // Two values only, but sixteen entries: those without a point are put beside others, which is no error.
    let vectors: Vec<f32> = (0..64).flat_map(|row| [f32::from(row % 2 == 0), 1.0]).collect();
    let shape = Shape { subvectors: 1, sub_dimensions: 2, bits: 4 };
    let codebook = train(&vectors, shape, &Training::default(), &|| {}).unwrap();
    assert!(codebook.entries.iter().all(|value| value.is_finite()));
    assert!(error(&codebook, &vectors) < 1e-3);
    let zeros = train(&[0.0; 64], shape, &Training::default(), &|| {}).unwrap();
    assert_eq!(zeros.entries, [0.0; 32]);
}

#[test]
fn what_cannot_be_a_codebook_is_told() {
    let shape = Shape { subvectors: 2, sub_dimensions: 2, bits: 4 };
    let too_few = train(&[0.0; 40], shape, &Training::default(), &|| {}).unwrap_err();
    assert!(too_few.contains("10 vectors are too few to train 16 entries on"), "{too_few}");
    assert!(train(&[f32::NAN; 80], shape, &Training::default(), &|| {}).is_err());
    assert!(Codebook::new(shape, vec![0.0; 63]).is_err());
    assert!(Codebook::new(shape, vec![f32::INFINITY; 64]).is_err());
    assert!(Codebook::new(shape, vec![1e9; 64]).unwrap().halved().is_err());
    let told = Shape::cutting(12, 5, 8).unwrap_err();
    assert!(told.ends_with("these can be: 1, 2, 3, 4, 6, 12"), "{told}");
    assert!(Shape::cutting(12, 4, 6).unwrap_err().contains("4 or 8 bits"));
    assert_eq!(Shape::cutting(12, 4, 4).unwrap().code_len(), 2);
    let mut file = Header::render("<f4", &[2, 16, 2]);
    let entries: Vec<f32> = (0..64).map(|value| value as f32).collect();
    file.extend_from_slice(entries.as_bytes());
    let codebook = Codebook::parse(&file).unwrap();
    assert_eq!((codebook.shape(), &codebook.entries), (shape, &entries));
    assert!(Codebook::parse(&file[..file.len() - 1]).unwrap_err().contains("shorter"));
    for (descr, lengths) in [("<f8", [2, 16, 2]), ("<f4", [2, 17, 2]), ("<f4", [0, 16, 2])] {
        let wrong = Codebook::parse(&Header::render(descr, &lengths)).unwrap_err();
        assert!(wrong.contains("a codebook is <f4"), "{wrong}");
    }
    let values: BTreeSet<u32> = codebook.halved().unwrap().entries.iter().map(|v| v.to_bits()).collect();
    assert_eq!(values.len(), 64);
}
