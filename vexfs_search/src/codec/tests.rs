//! Every path against the core, bit for bit.

use vexfs_core::codec as core;
use vexfs_core::format::{Codec as CoreCodec, Element};

#[cfg(target_arch = "x86_64")]
use super::level::{Avx2, Avx512};
use super::level::{Job, Portable};
use super::*;

const CODED: [(Codec, CoreCodec); 5] = [
    (Codec::None, CoreCodec::None),
    (Codec::F16, CoreCodec::F16),
    (Codec::Sq8, CoreCodec::Sq8),
    (Codec::Sq4, CoreCodec::Sq4),
    (Codec::Binary, CoreCodec::Binary),
];

/// A number that means nothing, to see what is written where.
const UNTOUCHED: u8 = 0xa5;

/// Bits that look random: splitmix64 (Steele, Lea, Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A vector of numbers of about one size or of all sizes, some of them zero, denormal, or near a tie.
    fn vector(&mut self, dimensions: usize) -> Vec<f32> {
        let size = 2_f32.powi((self.next() % 260) as i32 - 133);
        let all_sizes = self.next() & 3 == 0;
        let steps = [127.0, 7.5, 15.0, 1.0][(self.next() % 4) as usize];
        let value = |bits: u64| {
            let number = match bits % 16 {
                0 => 0.0,
                1 => f32::from_bits(bits as u32 >> 9),
                2..5 => size * ((bits >> 32 & 0xff) as f32 / 2.0) / steps,
                5 if all_sizes => f32::from_bits((bits >> 33) as u32 % (253 << 23)),
                _ => size * (bits >> 40) as f32 / 16_777_216.0,
            };
            if bits >> 63 == 1 { -number } else { number }
        };
        (0..dimensions).map(|_| value(self.next())).collect()
    }
}

#[derive(Clone, Copy)]
enum Path {
    Best,
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Path {
    /// What this machine can run; what it cannot is said, not passed over.
    fn all() -> Vec<Self> {
        let mut all = vec![Self::Best, Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            match Avx2::detect() {
                Some(level) => all.push(Self::Avx2(level)),
                None => println!("not tested: AVX2"),
            }
            match Avx512::detect() {
                Some(level) => all.push(Self::Avx512(level)),
                None => println!("not tested: AVX-512"),
            }
        }
        all
    }

    fn run<J: Job>(self, job: J) -> J::Output {
        match self {
            Self::Best => level::best(job),
            Self::Portable => job.run(Portable),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(level) => job.run(level),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(level) => job.run(level),
        }
    }
}

/// The row and scale that the core gives of a vector.
fn stored(codec: CoreCodec, vector: &[f32]) -> Option<(Vec<u8>, u32)> {
    let value: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    let len = core::stored_len(codec, Element::F32, vector.len() as u32).unwrap();
    let mut row = vec![UNTOUCHED; len as usize];
    let scale = core::encode(codec, Element::F32, &value, &mut row).ok()?;
    Some((row, scale))
}

/// The bits that the core reads from a row.
fn read(codec: CoreCodec, row: &[u8], scale: u32, dimensions: usize) -> Option<Vec<u32>> {
    let mut value = vec![UNTOUCHED; dimensions * 4];
    core::decode(codec, Element::F32, row, scale, &mut value).ok()?;
    Some(value.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

fn bits(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|value| value.to_bits()).collect()
}

/// Stores and reads `count` vectors by every path, from and to places `shift` elements or bytes off any alignment.
fn compare(random: &mut Random, dimensions: usize, count: usize, shift: usize) {
    let vectors: Vec<f32> = (0..count).flat_map(|_| random.vector(dimensions)).collect();
    for (codec, core) in CODED {
        let largest = if codec == Codec::F16 { 65519.0 } else { f32::MAX / 2.0 };
        let mut shifted = vec![0.0; shift];
        shifted.extend(vectors.iter().map(|value| value.clamp(-largest, largest)));
        let vectors = &shifted[shift..];
        let expected: Vec<_> =
            vectors.chunks_exact(dimensions).map(|vector| stored(core, vector).unwrap()).collect();
        let stored = codec.stored_len(dimensions);
        let stride = stored + shift % 3;
        for path in Path::all() {
            let mut bytes = vec![UNTOUCHED; shift + count * stride];
            let mut scales = vec![f32::NAN; count];
            let rows = &mut bytes[shift..];
            path.run(Encode { codec, vectors, dimensions, rows, stride, scales: &mut scales }).unwrap();
            assert!(bytes[..shift].iter().all(|byte| *byte == UNTOUCHED));
            for (index, (row, scale)) in expected.iter().enumerate() {
                let (found, padding) = bytes[shift + index * stride..][..stride].split_at(stored);
                let vector = &vectors[index * dimensions..][..dimensions];
                assert_eq!(found, row, "{codec:?} of {dimensions}: {vector:?}");
                assert_eq!(scales[index].to_bits(), *scale, "{codec:?} of {dimensions}: {vector:?}");
                assert!(padding.iter().all(|byte| *byte == UNTOUCHED));
            }
            let mut back = vec![f32::NAN; shift + count * dimensions];
            let rows = Rows { bytes: &bytes[shift..], stride };
            let vectors = &mut back[shift..];
            path.run(Decode { codec, rows, scales: &scales, dimensions, vectors }).unwrap();
            assert!(back[..shift].iter().all(|value| value.is_nan()));
            for (found, (row, scale)) in back[shift..].chunks_exact(dimensions).zip(&expected) {
                assert_eq!(bits(found), read(core, row, *scale, dimensions).unwrap(), "{codec:?}");
            }
        }
    }
}

#[test]
fn every_path_gives_the_bits_of_the_core() {
    let mut random = Random(1);
    for dimensions in (1..=70).chain([96, 100, 127, 128, 129, 255, 300, 384, 768, 1023, 1024, 1536]) {
        for shift in 0..4 {
            compare(&mut random, dimensions, 7, shift);
        }
    }
    compare(&mut random, 384, 500, 0);
    compare(&mut random, 33, 5000, 1);
}

#[test]
fn numbers_around_every_boundary() {
    let near = |value: f32| {
        let bits = value.to_bits();
        [bits.wrapping_sub(1), bits, bits + 1].map(f32::from_bits)
    };
    let mut random = Random(2);
    for largest in [1.0_f32, 127.0, 7.5, 2_f32.powi(126), 2_f32.powi(-99), 1.7e38, f32::from_bits(27 << 23)] {
        let mut values = vec![largest, -largest, 0.0, -0.0, f32::from_bits(1), -f32::from_bits(1)];
        values.extend([f32::MIN_POSITIVE, -f32::MIN_POSITIVE, largest * 1e-30, largest * -1e-30]);
        for (steps, halves) in [(127.0, 254), (7.5, 15)] {
            for half in 0..=halves {
                let tie = near(largest * (half as f32 / 2.0) / steps);
                values.extend(tie.into_iter().filter(|value| *value <= largest));
            }
        }
        let negative: Vec<f32> = values.iter().map(|value| -value).collect();
        values.extend(negative);
        for (codec, core) in CODED.into_iter().filter(|(codec, _)| *codec != Codec::F16) {
            // In several orders, so that each number meets each lane and the end of the row.
            for _ in 0..8 {
                let mut order: Vec<(u64, f32)> = values.iter().map(|value| (random.next(), *value)).collect();
                order.sort_unstable_by_key(|(key, _)| *key);
                let vector: Vec<f32> = order.into_iter().map(|(_, value)| value).collect();
                let (row, scale) = stored(core, &vector).unwrap();
                for path in Path::all() {
                    let mut found = vec![0; row.len()];
                    let mut scales = [f32::NAN];
                    path.run(Encode {
                        codec,
                        vectors: &vector,
                        dimensions: vector.len(),
                        rows: &mut found,
                        stride: row.len(),
                        scales: &mut scales,
                    })
                    .unwrap();
                    assert_eq!((&found, scales[0].to_bits()), (&row, scale), "{codec:?} {largest}");
                }
            }
        }
    }
}

#[test]
fn every_half_is_read_as_the_core_reads_it() {
    let rows: Vec<u8> = (0..=u16::MAX).flat_map(|half| half.to_le_bytes()).collect();
    let expected = read(CoreCodec::F16, &rows, 0, 65536).unwrap();
    for path in Path::all() {
        let mut vector = vec![0.0; 65536];
        let rows = Rows { bytes: &rows, stride: 1 << 17 };
        path.run(Decode { codec: Codec::F16, rows, scales: &[], dimensions: 65536, vectors: &mut vector })
            .unwrap();
        for (half, (found, expected)) in bits(&vector).into_iter().zip(&expected).enumerate() {
            let quiet = if expected & 0x7fff_ffff > 0x7f80_0000 { 1 << 22 } else { 0 };
            assert_eq!(found, expected | quiet, "{half:#x}");
        }
    }
}

#[test]
fn every_code_under_any_scale() {
    let codes: Vec<u8> = (0..=255).collect();
    let scales = [
        0.0,
        1.0,
        f32::from_bits(1),
        f32::from_bits(0x7f_ffff),
        f32::MIN_POSITIVE,
        0.1,
        3e36,
        3e37,
        f32::MAX,
    ];
    for scale in scales {
        for (codec, core) in CODED.into_iter().filter(|(codec, _)| codec.has_scale()) {
            let dimensions = match codec {
                Codec::Sq8 => 256,
                Codec::Sq4 => 511,
                _ => 2045,
            };
            let expected = read(core, &codes, scale.to_bits(), dimensions).unwrap();
            for path in Path::all() {
                let mut vector = vec![f32::NAN; dimensions];
                let rows = Rows { bytes: &codes, stride: 256 };
                path.run(Decode { codec, rows, scales: &[scale], dimensions, vectors: &mut vector }).unwrap();
                assert_eq!(bits(&vector), expected, "{codec:?} {scale}");
            }
        }
    }
}

#[test]
fn what_cannot_be_stored_is_refused_with_its_row() {
    let mut scales = [0.0; 3];
    let mut rows = [UNTOUCHED; 48];
    for (bad, codec) in [
        (65520.0, Codec::F16),
        (f32::NAN, Codec::F16),
        (2_f32.powi(127), Codec::Sq8),
        (-f32::INFINITY, Codec::Sq4),
        (f32::NAN, Codec::Binary),
    ] {
        let vectors = [1.0, 2.0, 3.0, bad, 5.0, 6.0];
        let refused = encode(codec, &vectors, 2, &mut rows, 16, &mut scales).unwrap_err();
        assert_eq!(refused.row, 1, "{codec:?}");
        assert!(refused.to_string().starts_with("row 1: a value is too large"), "{refused}");
    }
    let mut vectors = [0.0; 6];
    for bad in [-0.0, -1.0, f32::INFINITY, f32::NAN] {
        let scales = [1.0, 1.0, bad];
        let rows = Rows { bytes: &rows, stride: 16 };
        assert_eq!(decode(Codec::Sq8, rows, &scales, 2, &mut vectors).unwrap_err().row, 2);
    }
}

#[test]
#[should_panic(expected = "too few for 3 rows")]
fn too_little_room_is_a_mistake() {
    let _ = encode(Codec::Sq8, &[0.0; 6], 2, &mut [0; 5], 2, &mut [0.0; 3]);
}

#[test]
fn names_and_sizes_are_those_of_the_core() {
    for (codec, core) in CODED {
        assert_eq!(Codec::from_name(codec.name()), Some(codec));
        assert_eq!(codec.name(), core.name());
        assert_eq!(codec.has_scale(), core::has_scale(core));
        for dimensions in 1..100 {
            let len = core::stored_len(core, Element::F32, dimensions).unwrap();
            assert_eq!(codec.stored_len(dimensions as usize), len as usize);
        }
    }
    assert_eq!(Codec::from_name("pq"), None);
    assert!(!name().is_empty());
}
