//! Crash states of the bare tree: random records, commits and data blocks, without any file.
//!
//! Promise P3 at its root: after any crash the tree is that of the last durable commit or of the one under way,
//! whole. Commits run both at one go and with transactions between `seal` and `publish`.

use std::collections::{BTreeMap, BTreeSet};

use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::format::Key;
use vexfs_core::numbers::{Run, Time};
use vexfs_core::transaction::Budget;
use vexfs_core::tree;
use vexfs_core::volume::{MountOptions, Volume};
use vexfs_tests::crash::{Oracle, Tally};
use vexfs_tests::effort::Effort;
use vexfs_tests::image::Image;
use vexfs_tests::random::Random;
use vexfs_tests::sim::{SimDevice, Trace, format};
use vexfs_tests::states::{Limits, Origin};

type Records = BTreeMap<Key, Vec<u8>>;

const KIND: u8 = 200;
const LIMITS: Limits = Limits { prefixes: 24, subsets: 128, torn: 16, superblock: 24 };

/// What the volume held at each generation, and when each was told to be durable.
struct History {
    block_size: u32,
    states: BTreeMap<u64, Records>,
    /// Position in the trace: generations begun and told to be durable by then.
    moments: Vec<(usize, u64, u64)>,
}

impl Oracle for History {
    fn window(&self, events: usize) -> u64 {
        let (_, durable, begun) = self.moment(events);
        durable << 32 | begun
    }

    fn judge(&self, image: &Image, origin: &Origin, _: u64) -> Result<(), String> {
        let (_, durable, begun) = self.moment(origin.events);
        let device = SimDevice::from_image(image.clone());
        let volume = Volume::mount(Direct(&device), MountOptions::default())
            .map_err(|error| format!("mount: {error}"))?;
        let generation = volume.superblock().generation.get();
        if generation < durable || generation > begun {
            return Err(format!("generation {generation}, durable {durable}, begun {begun}"));
        }
        let found = contents(&volume, self.block_size).map_err(|error| error.to_string())?;
        if found != self.states[&generation] {
            return Err(format!("records of generation {generation} differ"));
        }
        Ok(())
    }
}

impl History {
    fn moment(&self, events: usize) -> (usize, u64, u64) {
        let after = self.moments.partition_point(|(at, ..)| *at <= events);
        self.moments[after.saturating_sub(1)]
    }
}

/// All records; those that name a data block are followed to it.
fn contents<D: BlockDevice>(
    volume: &Volume<Direct<D>>,
    block_size: u32,
) -> vexfs_core::error::Result<Records> {
    let mut all = Records::new();
    let from = Key { inode: 0, kind: 0, offset: 0 };
    tree::scan(volume, from, Key::MAX, &mut |key, value| {
        if key.kind == KIND {
            all.insert(key, value.to_vec());
        }
        Ok(true)
    })?;
    for (key, value) in &mut all {
        if key.inode % 4 == 0 {
            let block = u64::from_le_bytes(value[..8].try_into().expect("a block number"));
            let mut bytes = vec![0; block_size as usize];
            volume.host().read(block * u64::from(block_size), &mut bytes)?;
            value.truncate(8);
            value.push(bytes[0]);
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "data block {block} is of two generations");
        }
    }
    Ok(all)
}

struct Bench {
    device: SimDevice,
    volume: Volume<Direct<SimDevice>>,
    random: Random,
    model: Records,
    history: History,
}

impl Bench {
    fn new(block_size: u32, seed: u64) -> Self {
        let device = SimDevice::new(256 * u64::from(block_size));
        format(&device, block_size).expect("1 MiB can be formatted");
        let volume = Volume::mount(Direct(device.clone()), MountOptions::default()).expect("mounts");
        device.record();
        let generation = volume.superblock().generation.get();
        let history = History {
            block_size,
            states: BTreeMap::from([(generation, Records::new())]),
            moments: vec![(0, generation, generation)],
        };
        Self { device, volume, random: Random::new(seed), model: Records::new(), history }
    }

    /// One transaction of a few records; some of them name a data block that was written before.
    fn transaction(&mut self) {
        let block_size = self.history.block_size as usize;
        let longest = vexfs_core::format::value_max(self.history.block_size) as u64;
        let host = Direct(self.device.clone());
        let mut tx = self.volume.begin(Budget::records(16).with_blocks(16), Time::default()).expect("space");
        let mut done = BTreeSet::new();
        for _ in 0..self.random.below(6) + 1 {
            let key = Key { inode: 1000 + self.random.below(12), kind: KIND, offset: self.random.below(12) };
            // A transaction may not free a block that it took itself.
            if !done.insert(key) {
                continue;
            }
            if let Some(old) = self.model.remove(&key) {
                if key.inode.is_multiple_of(4) {
                    let block = u64::from_le_bytes(old[..8].try_into().expect("a block number"));
                    tx.free(Run::new(block, 1)).expect("it is in use");
                }
                if self.random.one_in(2) {
                    assert!(tree::remove(&mut tx, key).expect("removes"));
                    continue;
                }
            }
            let value = if key.inode.is_multiple_of(4) {
                let block = tx.take(1, 0).expect("space").start.0;
                let byte = self.random.below(255) as u8 + 1;
                host.write(block * block_size as u64, &vec![byte; block_size]).expect("in range");
                let mut value = block.to_le_bytes().to_vec();
                value.push(byte);
                value
            } else {
                let len = if self.random.one_in(3) {
                    self.random.below(longest + 1)
                } else {
                    self.random.below(60)
                };
                self.random.bytes(len as usize)
            };
            tree::put(&mut tx, key, &value).expect("puts");
            self.model.insert(key, value);
        }
        if tx.commit().is_err() {
            panic!("a transaction within its budget failed to commit");
        }
    }

    fn moment(&mut self, durable: u64, begun: u64) {
        let events = self.device.events();
        self.history.moments.push((events, durable, begun));
    }

    fn commit(&mut self, meanwhile: bool) {
        let durable = self.volume.superblock().generation.get();
        let Some(sealed) = self.volume.seal(Time::default()).expect("seals") else { return };
        self.history.states.insert(sealed.generation(), self.model.clone());
        self.moment(durable, sealed.generation());
        if meanwhile {
            self.transaction();
        }
        sealed.write(&self.device).expect("writes");
        self.moment(sealed.generation(), sealed.generation());
        if meanwhile {
            self.transaction();
        }
        self.volume.publish(sealed).expect("publishes");
        if meanwhile {
            self.transaction();
        }
    }

    fn finish(self) -> (Trace, History) {
        (self.device.take_trace().expect("was recording"), self.history)
    }
}

#[test]
fn every_crash_leaves_a_whole_tree() {
    let rounds = Effort::wanted().of(4, 40, 200);
    let tally = Tally::default();
    for round in 0..rounds {
        let mut run = Bench::new([4096, 4096, 8192, 16384][round as usize % 4], round);
        for _ in 0..8 {
            for _ in 0..run.random.below(4) + 1 {
                run.transaction();
            }
            let meanwhile = round % 3 == 1;
            run.commit(meanwhile);
        }
        let (trace, history) = run.finish();
        tally.explore(&format!("tree-{round}"), &trace, &history, &LIMITS, round);
    }
    let failures = tally.failures();
    failures.iter().for_each(|why| println!("{why}"));
    println!("crash tree: {} distinct states, {} failures", tally.distinct(), failures.len());
    assert!(failures.is_empty(), "{} crash states are wrong", failures.len());
}
