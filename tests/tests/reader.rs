//! Two readers of one volume: the core, and `scripts/read_image.py`, which shares no code with it, on random volumes.

use std::fs;
use std::path::Path;
use std::process::Command;

use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::{MountOptions, Volume};
use vexfs_tests::golden::listing::Listing;
use vexfs_tests::model::{Generator, Op, Pair};
use vexfs_tests::sim::SimDevice;

const SIZE: u64 = 16 << 20;
/// Operations between two looks at the volume.
const STEPS: u64 = 300;

fn read_image(image: &Path, command: &str) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/read_image.py");
    let output = Command::new("python3").arg("-B").arg(script).arg(image).arg(command).output();
    let output = output.map_err(|error| format!("python3: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn look(device: &SimDevice, image: &Path) -> Result<(), String> {
    let mut bytes = vec![0; device.size() as usize];
    device.read(0, &mut bytes).map_err(|error| error.to_string())?;
    fs::write(image, &bytes).map_err(|error| error.to_string())?;
    let options = MountOptions { read_only: true, ..MountOptions::default() };
    let volume = Volume::mount(Direct(device), options).map_err(|error| error.to_string())?;
    let listing = Listing::read(&volume).map_err(|error| error.to_string())?.to_string();
    let other = read_image(image, "json")?;
    let mut lines = listing.lines().zip(other.lines());
    if let Some((core, reader)) = lines.find(|(core, reader)| core != reader) {
        return Err(format!("the listings differ\ncore:   {core}\nreader: {reader}"));
    }
    if listing.len() != other.len() {
        return Err("one of the listings ends early".into());
    }
    if volume.recovered().records > 0 {
        // What the journal changes is not in the map yet; both readers know it all the same.
        return Ok(());
    }
    let checked = read_image(image, "check")?;
    if checked.starts_with("clean: ") { Ok(()) } else { Err(checked) }
}

// Contents are listed by the SHA-256 of all their bytes: not of files of terabytes.
fn is_far(op: &Op) -> bool {
    match op {
        Op::Write { offset, .. } | Op::Allocate { offset, .. } => *offset > SIZE,
        Op::Truncate { size, .. } => *size > SIZE,
        _ => false,
    }
}

#[test]
fn both_readers_see_the_same() {
    let image = std::env::temp_dir().join(format!("vexfs-reader-{}", std::process::id()));
    for (seed, block_size) in [(1, 4096), (2, 8192), (3, 16384)] {
        let device = SimDevice::new(SIZE);
        let mut pair = Pair::format(device.clone(), block_size).expect("a new volume");
        let mut generator = Generator::new(seed, 30_000);
        for step in 0..4 * STEPS {
            let op = match step % STEPS {
                last if last == STEPS - 1 => Op::Commit,
                some if some % 70 == 69 => Op::Sync,
                _ => generator.next(&pair.model, &pair.open),
            };
            if is_far(&op) {
                continue;
            }
            pair.run_patiently(&op).unwrap_or_else(|why| panic!("seed {seed}, step {step}: {why}"));
            if matches!(op, Op::Commit | Op::Sync) {
                let seen = look(&device, &image);
                seen.unwrap_or_else(|why| panic!("seed {seed}, step {step}: {why}"));
            }
        }
    }
    fs::remove_file(&image).expect("the image goes");
}
