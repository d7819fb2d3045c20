//! Any single damaged, lost, torn or misdirected metadata write is found, never silently used (P5).
//!
//! A crash tests no checksum; a disk that lies does. Whatever the lie: either the check reports something, or the
//! volume cannot be mounted, or everything that can be seen is exactly what it should be. Never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::format::{NODE_MAGIC, SUPERBLOCK, slot_offsets};
use vexfs_core::volume::Volume;
use vexfs_tests::check::check_clean;
use vexfs_tests::crash::panic_text;
use vexfs_tests::effort::Effort;
use vexfs_tests::faulty::{Lie, LyingDevice};
use vexfs_tests::image::Image;
use vexfs_tests::model::{Comparison, Generator, Model, Op, Pair, compare};
use vexfs_tests::random::Random;
use vexfs_tests::sim::SimDevice;

const SIZE: u64 = 4 << 20;

/// A volume with some of everything, committed.
fn filled<D: BlockDevice + Clone>(device: D, block_size: u32, seed: u64) -> Pair<D> {
    let mut pair = Pair::format(device, block_size).expect("formats");
    let mut generator = Generator::new(seed, 9000);
    for step in 0..250 {
        let op = generator.next(&pair.model, &pair.open);
        pair.run_patiently(&op).unwrap_or_else(|why| panic!("seed {seed}, step {step}: {why}"));
    }
    for op in [Op::Tidy, Op::Commit, Op::Tidy, Op::Remount] {
        pair.run(&op).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    pair
}

/// What became of a damaged volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Found,
    Harmless,
}

/// Checks, mounts, compares; the error tells of damage that went unseen.
fn judge(image: &Image, model: &Model) -> Result<Verdict, String> {
    let device = SimDevice::from_image(image.clone());
    let look = || {
        if check_clean(&device).is_err() {
            // What is damaged must not bring the volume down either.
            if let Ok(volume) = Volume::mount(Direct(device.clone()), Pair::<SimDevice>::OPTIONS) {
                drop(compare(&volume, model, &Comparison::exact()));
            }
            return Ok(Verdict::Found);
        }
        let volume = Volume::mount(Direct(device.clone()), Pair::<SimDevice>::OPTIONS)
            .map_err(|error| format!("the check finds nothing, but mount says {error}"))?;
        compare(&volume, model, &Comparison::exact())?;
        Ok(Verdict::Harmless)
    };
    catch_unwind(AssertUnwindSafe(look))
        .unwrap_or_else(|panic| Err(format!("panic: {}", panic_text(&*panic))))
}

/// Byte ranges of the metadata: superblocks, the free-space map, tree nodes.
fn metadata(image: &Image, pair: &Pair<SimDevice>) -> Vec<(u64, u64)> {
    let layout = pair.volume.layout();
    let block = u64::from(layout.block_size);
    let mut ranges: Vec<(u64, u64)> =
        slot_offsets(layout.size()).into_iter().map(|offset| (offset, SUPERBLOCK as u64)).collect();
    ranges.extend((layout.space.start..layout.space.end()).map(|number| (number * block, block)));
    for number in layout.data_start..layout.data_start + layout.data_blocks {
        let mut magic = [0; 4];
        image.read(number * block, &mut magic);
        if u32::from_le_bytes(magic) == NODE_MAGIC {
            ranges.push((number * block, block));
        }
    }
    ranges
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let flips = Effort::wanted().of(8, 40, 4000);
    let mut wrong = Vec::new();
    let (mut found, mut harmless) = (0, 0);
    for (seed, block_size) in [(1, 4096), (2, 8192), (3, 16384)] {
        let pair = filled(SimDevice::new(SIZE * u64::from(block_size) / 4096), block_size, seed);
        let image = pair.device.image();
        assert_eq!(judge(&image, &pair.model), Ok(Verdict::Harmless));
        let mut random = Random::new(seed);
        let ranges = metadata(&image, &pair);
        for (offset, len) in ranges.iter().take(Effort::wanted().of(40, 40, usize::MAX)) {
            for _ in 0..flips {
                let at = offset + random.below(*len);
                let mut byte = [0];
                image.read(at, &mut byte);
                let mut damaged = image.clone();
                damaged.write(at, &[byte[0] ^ (1 << random.below(8))]);
                match judge(&damaged, &pair.model) {
                    Ok(Verdict::Found) => found += 1,
                    Ok(Verdict::Harmless) => harmless += 1,
                    Err(why) => wrong.push(format!("seed {seed}: a bit of byte {at} flipped: {why}")),
                }
            }
        }
    }
    println!("flipped bits: {found} found, {harmless} harmless, {} unseen", wrong.len());
    wrong.truncate(10);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found > 400, "only {found} flips found");
}

/// Images after each of some commits of metadata alone, the last of which `pair` holds.
fn generations(pair: &mut Pair<SimDevice>, count: u32) -> Vec<Image> {
    let files: Vec<u64> = pair.model.nodes.keys().copied().collect();
    let mut images = vec![pair.device.image()];
    for round in 0..count {
        for inode in files.iter().skip(round as usize % 3).step_by(3) {
            let change = Op::Permissions { inode: *inode, permissions: 0o400 + round };
            pair.run(&change).expect("changes");
        }
        pair.run(&Op::Commit).expect("commits");
        images.push(pair.device.image());
    }
    images
}

// Whatever stands in a metadata block instead of what was written there: what was there before (the write was lost),
// zeros (it never was written), another metadata block's bytes (that write was misdirected), a torn mixture.
#[test]
fn every_lost_stale_or_misdirected_metadata_block_is_found_or_harmless() {
    let mut wrong = Vec::new();
    let (mut found, mut harmless, mut blocks) = (0, 0, 0);
    for (seed, block_size) in [(1, 4096), (2, 8192), (3, 16384)] {
        let mut pair = filled(SimDevice::new(SIZE * u64::from(block_size) / 4096), block_size, 200 + seed);
        let images = generations(&mut pair, 4);
        let (last, before) = images.split_last().expect("images");
        let ranges = metadata(last, &pair);
        for (number, (offset, len)) in ranges.iter().enumerate() {
            let bytes = |image: &Image, at: u64| {
                let mut bytes = vec![0; *len as usize];
                image.read(at, &mut bytes);
                bytes
            };
            let here = bytes(last, *offset);
            let mut instead: Vec<Vec<u8>> = before.iter().map(|image| bytes(image, *offset)).collect();
            instead.push(vec![0; *len as usize]);
            let mut random = Random::new(seed * 1000 + number as u64);
            instead.extend((0..2).map(|_| bytes(last, random.pick(&ranges).0)));
            let halves = instead.clone();
            instead.extend(
                halves.iter().map(|other| [&here[..here.len() / 2], &other[here.len() / 2..]].concat()),
            );
            instead.retain(|other| *other != here);
            instead.sort();
            instead.dedup();
            blocks += 1;
            for other in instead.iter().take(Effort::wanted().of(2, 99, 99)) {
                let mut damaged = last.clone();
                damaged.write(*offset, other);
                match judge(&damaged, &pair.model) {
                    Ok(Verdict::Found) => found += 1,
                    Ok(Verdict::Harmless) => harmless += 1,
                    Err(why) => wrong.push(format!("seed {seed}, block at {offset}: {why}")),
                }
            }
        }
    }
    println!(
        "other bytes in {blocks} metadata blocks: {found} found, {harmless} harmless, {} unseen",
        wrong.len()
    );
    wrong.truncate(10);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(blocks > 60 && found > 100, "{blocks} blocks, only {found} found");
}

#[test]
fn every_lie_of_the_disk_is_found_or_harmless() {
    let mut wrong = Vec::new();
    let (mut found, mut harmless) = (0, 0);
    let seeds = Effort::wanted().of(3, 3, 60);
    for seed in 0..seeds {
        let honest = filled(SimDevice::new(SIZE), 4096, 100 + seed);
        let start = honest.device.image();
        for n in 0.. {
            let mut random = Random::new(seed * 1000 + n);
            let block = random.below(SIZE / 4096);
            let lie = match n % 4 {
                0 => Lie::Lose,
                1 => Lie::Misdirect { to: block * 4096 },
                2 => Lie::Tear,
                _ => Lie::Rot { bit: random.bits() },
            };
            match lied(&start, &honest, n, lie) {
                Ok(None) => break,
                Ok(Some(Verdict::Found)) => found += 1,
                Ok(Some(Verdict::Harmless)) => harmless += 1,
                Err(why) => wrong.push(format!("seed {seed}, write {n}, {lie:?}: {why}")),
            }
        }
    }
    println!("lies: {found} found, {harmless} harmless, {} unseen", wrong.len());
    wrong.truncate(10);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found > 20, "only {found} lies found");
}

/// Changes metadata on a disk that lies about write number `n`; none if there were fewer writes.
fn lied(start: &Image, honest: &Pair<SimDevice>, n: u64, lie: Lie) -> Result<Option<Verdict>, String> {
    let disk = SimDevice::from_image(start.clone());
    let device = LyingDevice::new(disk.clone());
    let volume = Volume::mount(Direct(device.clone()), Pair::<SimDevice>::OPTIONS)
        .map_err(|error| format!("mount of what is whole: {error}"))?;
    let mut pair = Pair::adopt(device.clone(), volume, honest.model.clone(), &Comparison::exact())
        .map_err(|error| error.to_string())?;
    device.lie(n, lie);
    // Metadata alone: bytes of files carry no checksum.
    let files: Vec<u64> = pair.model.nodes.keys().copied().collect();
    for (index, inode) in files.into_iter().enumerate() {
        let change = Op::Permissions { inode, permissions: 0o421 + index as u32 % 2 };
        let ops = if index % 8 == 7 { vec![change, Op::Commit] } else { vec![change] };
        for op in ops {
            match pair.run(&op) {
                // Read back already, and found.
                Err(why) if device.told() > 0 && why.contains("refused with \"damaged") => {
                    return Ok(Some(Verdict::Found));
                }
                outcome => drop(outcome?),
            }
        }
    }
    pair.run(&Op::Commit)?;
    if device.told() == 0 {
        return Ok(None);
    }
    let misdirected = matches!(lie, Lie::Misdirect { .. });
    let verdict = judge(&disk.image(), &pair.model);
    // A misdirected write may hit the bytes of a file, which nothing guards.
    match verdict {
        Err(why) if misdirected && (why.contains(": byte ") || why.contains("differs")) => {
            Ok(Some(Verdict::Harmless))
        }
        verdict => verdict.map(Some),
    }
}
