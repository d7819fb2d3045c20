//! The tree against an ordered map, on random operations with commits and remounts.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::device::{BlockDevice, Direct};
use crate::format::Key;
use crate::make::{MakeOptions, make};
use crate::numbers::Time;
use crate::testing::{Ram, Random};
use crate::transaction::Budget;
use crate::tree;
use crate::volume::{MountOptions, Volume};

type Model = BTreeMap<Key, Vec<u8>>;

fn device(size: usize, block_size: u32) -> Ram {
    let ram = Ram::new(size);
    let options = MakeOptions {
        block_size,
        size: size as u64,
        uuid: [1; 16],
        label: b"test",
        hash_seed: [2; 16],
        uid: 0,
        gid: 0,
        now: Time::default(),
        journal_blocks: None,
    };
    make(&ram, &options).unwrap();
    ram
}

fn key(random: &mut Random) -> Key {
    Key { inode: 100 + random.below(20), kind: random.below(3) as u8 + 20, offset: random.below(60) }
}

fn contents<D: BlockDevice>(volume: &Volume<Direct<D>>) -> Model {
    let mut all = Model::new();
    let from = Key { inode: 100, kind: 0, offset: 0 };
    tree::scan(volume, from, Key::MAX, &mut |key, value| {
        assert!(all.insert(key, value.to_vec()).is_none());
        Ok(true)
    })
    .unwrap();
    all
}

fn run(block_size: u32, seed: u64, steps: u32, size: usize) {
    let ram = device(size, block_size);
    let mut random = Random(seed);
    let mut volume = Volume::mount(Direct(&ram), MountOptions::default()).unwrap();
    let free = volume.statistics().free;
    let mut model = Model::new();
    let longest = crate::format::value_max(block_size) as u64;
    for step in 0..steps {
        let (before, drop_it) = (model.clone(), random.below(10) == 0);
        // Grow for a while, then shrink, so that splits and merges both happen.
        let removing = step / 400 % 2 == 1;
        let mut tx = volume.begin(Budget::records(64), Time::default()).unwrap();
        for _ in 0..random.below(8) {
            let key = key(&mut random);
            match random.below(10) {
                0 => {
                    let to = Key { offset: key.offset + random.below(30), ..key };
                    let limit = 1 + random.below(12);
                    let victims: Vec<Key> =
                        model.range(key..to).map(|(key, _)| *key).take(limit as usize).collect();
                    let removed = tree::remove_range(&mut tx, key, to, limit).unwrap();
                    assert_eq!(removed, victims.len() as u64);
                    victims.iter().for_each(|key| drop(model.remove(key)));
                }
                1..=5 if removing => {
                    assert_eq!(tree::remove(&mut tx, key).unwrap(), model.remove(&key).is_some());
                }
                _ => {
                    let len = if random.below(4) == 0 { random.below(longest + 1) } else { random.below(60) };
                    let value: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
                    tree::put(&mut tx, key, &value).unwrap();
                    model.insert(key, value);
                }
            }
            let end = Key { inode: key.inode + 1, ..key };
            let first = tree::first(&tx, key, end).unwrap();
            assert_eq!(first, model.range(key..end).next().map(|(key, value)| (*key, value.clone())));
            let last = tree::last(&tx, key, end).unwrap();
            assert_eq!(last, model.range(key..end).next_back().map(|(key, value)| (*key, value.clone())));
        }
        if drop_it {
            drop(tx);
            model = before;
        } else {
            tx.commit().unwrap();
        }
        match random.below(60) {
            0 => volume.commit(Time::default()).unwrap(),
            1 => {
                // Transactions go on while a commit is on its way.
                if let Some(sealed) = volume.seal(Time::default()).unwrap() {
                    let mut tx = volume.begin(Budget::records(1), Time::default()).unwrap();
                    let key = key(&mut random);
                    tree::put(&mut tx, key, b"meanwhile").unwrap();
                    tx.commit().unwrap();
                    model.insert(key, b"meanwhile".to_vec());
                    sealed.write(&ram).unwrap();
                    volume.publish(sealed).unwrap();
                    assert!(volume.sealed.is_empty(), "nodes are kept that are on the device");
                }
            }
            2 => {
                volume.commit(Time::default()).unwrap();
                volume = Volume::mount(Direct(&ram), MountOptions::default()).unwrap();
            }
            _ => {}
        }
        if step % 50 == 0 {
            assert_eq!(contents(&volume), model);
        }
    }
    assert_eq!(contents(&volume), model);
    loop {
        let mut tx = volume.begin(Budget::freeing(100), Time::default()).unwrap();
        let removed =
            tree::remove_range(&mut tx, Key { inode: 100, kind: 0, offset: 0 }, Key::MAX, 100).unwrap();
        tx.commit().unwrap();
        if removed == 0 {
            break;
        }
    }
    volume.commit(Time::default()).unwrap();
    volume.commit(Time::default()).unwrap();
    assert_eq!(volume.statistics().tree_blocks, 1);
    assert_eq!(volume.statistics().free, free, "blocks were lost");
    assert_eq!(volume.statistics().pending, 0);
}

#[test]
fn equals_an_ordered_map() {
    for (block_size, seed) in [(4096, 3), (8192, 4), (16384, 5), (4096, 6)] {
        run(block_size, seed, 4000, 16 << 20);
    }
}

#[test]
fn ascending_insertion_fills_nodes() {
    let ram = device(64 << 20, 4096);
    let mut volume = Volume::mount(Direct(&ram), MountOptions::default()).unwrap();
    for batch in 0..100 {
        let mut tx = volume.begin(Budget::records(100), Time::default()).unwrap();
        for offset in batch * 100..batch * 100 + 100 {
            tree::put(&mut tx, Key { inode: 100, kind: 30, offset }, &[7; 80]).unwrap();
        }
        tx.commit().unwrap();
    }
    // 39 records of 104 bytes fit a node.
    assert!(volume.statistics().tree_blocks < 10_000 / 39 + 12);
}
