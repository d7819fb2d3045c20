//! Free blocks are held back while a device forgets them: nothing that is there, durable or not, is among them.

mod common;

use vexfs_core::format::ROOT;
use vexfs_core::operations::Changes;

use common::*;

const BLOCK: u64 = 4096;

// All free runs, each forgotten by the device while it is held; gives how many blocks those were.
fn trim(ram: &Ram, volume: &mut Mounted<'_>, from: u64, to: u64, least: u64) -> u64 {
    let (mut next, mut trimmed) = (Some(from), 0);
    while let Some(at) = next {
        let free = volume.statistics().free;
        let held = volume.trim_begin(at, to, least).unwrap();
        for run in &held.runs {
            assert!(run.start.0 >= from && run.end() <= to && run.count > 0);
            ram.0.borrow_mut()[(run.start.0 * BLOCK) as usize..(run.end() * BLOCK) as usize].fill(0xdd);
            trimmed += run.count;
        }
        assert_eq!(volume.statistics().free, free, "what is held is still free");
        next = held.next;
        volume.trim_end(held);
    }
    trimmed
}

#[test]
fn a_device_that_forgets_what_is_free_loses_nothing() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let mut files: Vec<Option<Vec<u8>>> = vec![None; 24];
    let mut seed = 1_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut trimmed = 0;
    for step in 0..3000_u32 {
        let number = random(24) as usize;
        let name = format!("f{number}");
        match random(10) {
            0..=4 => {
                let bytes = vec![step as u8; 1 + random(90_000) as usize];
                let inode = match &files[number] {
                    Some(_) => volume.lookup(ROOT, name.as_bytes()).unwrap().inode,
                    None => file(&mut volume, &name),
                };
                let empty = Changes { size: Some(0), ..Changes::default() };
                volume.set_attributes(inode, &empty, NOW).unwrap();
                volume.write(inode, 0, &bytes, NOW).unwrap();
                files[number] = Some(bytes);
            }
            5 if files[number].is_some() => {
                volume.unlink(ROOT, name.as_bytes(), &|_| false, NOW).unwrap();
                files[number] = None;
            }
            6 => volume.commit(NOW).unwrap(),
            7 => volume.sync(NOW).unwrap(),
            8 => while volume.tidy(NOW).unwrap() {},
            _ => trimmed += trim(&ram, &mut volume, 0, u64::MAX, 1 + random(4)),
        }
        if step % 100 == 99 {
            // The power goes behind a trim: all that was durable is there, by a record of the journal or by a commit.
            volume.sync(NOW).unwrap();
            trim(&ram, &mut volume, 0, u64::MAX, 1);
            drop(volume);
            volume = mount(&ram);
            assert_eq!(clean(&ram), 0);
            for (number, found) in files.iter().enumerate() {
                let inode = volume.lookup(ROOT, format!("f{number}").as_bytes()).map(|found| found.inode);
                assert_eq!(inode.ok().map(|inode| contents(&volume, inode)), *found);
            }
        }
    }
    assert!(trimmed > 100_000, "{trimmed}");
    settle(&mut volume);
}

#[test]
fn what_is_freed_waits_for_its_commit_and_a_range_is_kept_to() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let inode = file(&mut volume, "large");
    volume.write(inode, 0, &[7; 100 * BLOCK as usize], NOW).unwrap();
    volume.commit(NOW).unwrap();
    let before = trim(&ram, &mut volume, 0, u64::MAX, 1);
    volume.unlink(ROOT, b"large", &|_| false, NOW).unwrap();
    // Nodes of the open generation come out of what was free.
    assert!(trim(&ram, &mut volume, 0, u64::MAX, 1) <= before);
    // The removal is lost with the power, and the file is there with all its bytes.
    drop(volume);
    let mut volume = mount(&ram);
    assert_eq!(contents(&volume, inode), [7; 100 * BLOCK as usize]);
    volume.unlink(ROOT, b"large", &|_| false, NOW).unwrap();
    work(&mut volume);
    assert!(trim(&ram, &mut volume, 0, u64::MAX, 1) >= before + 100);
    assert_eq!(trim(&ram, &mut volume, 2000, 2100, 1), 100);
    assert_eq!(trim(&ram, &mut volume, 0, u64::MAX, 1 << 40), 0);
    settle(&mut volume);
}
