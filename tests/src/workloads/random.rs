//! Random workloads: three or four operations on a few files, a commit, and again (after the manner of ACE).

use std::cell::RefCell;
use std::sync::Arc;

use super::{Op, Outcome, Step, Story, Told, Workload};
use crate::model::Generator;

/// The random workload of this seed.
pub(super) fn workload(seed: u64) -> Workload {
    let block_size = [4096, 4096, 8192, 16384][seed as usize % 4];
    Workload {
        name: format!("random-{seed}"),
        size: 512 * u64::from(block_size),
        block_size,
        syncs: false,
        systematic: false,
        tell: Arc::new(move |story| Told(tell(story, seed))),
    }
}

fn tell(story: &mut Story, seed: u64) -> Step {
    let mut generator = Generator::new(seed, 20_000);
    // Something to work on.
    for index in 0..6 {
        story.file(&format!("f{index}"), 3000 * index)?;
    }
    story.mkdir("d")?;
    story.commit()?;
    for round in 0..8 {
        generator.removing = round % 4 == 3;
        few(story, &mut generator, 3)?;
        match round {
            5 => story.op(Op::Remount)?,
            _ if (seed + round).is_multiple_of(3) => {
                let generator = RefCell::new(&mut generator);
                story.commit_around(
                    |story| meanwhile(story, &mut generator.borrow_mut()),
                    |story| meanwhile(story, &mut generator.borrow_mut()),
                )?;
            }
            _ => story.commit()?,
        }
    }
    Ok(())
}

fn few(story: &mut Story, generator: &mut Generator, count: u32) -> Step {
    for _ in 0..count {
        let pair = &story.recorder.pair;
        let op = generator.next(&pair.model, &pair.open);
        let outcome = story.attempt(op.clone())?;
        if matches!(outcome, Outcome::NoSpace { .. }) {
            return Err(format!("{op:?}: {outcome:?}"));
        }
    }
    Ok(())
}

/// What may be done while a commit is on its way: all that does not need one of its own.
fn meanwhile(story: &mut Story, generator: &mut Generator) -> Step {
    for _ in 0..2 {
        let pair = &story.recorder.pair;
        let op = generator.next(&pair.model, &pair.open);
        let commits = match &op {
            Op::Write { inode, .. } => !pair.model.node(*inode).vectors.is_empty(),
            _ => false,
        };
        if !commits {
            story.attempt(op)?;
        }
    }
    Ok(())
}
