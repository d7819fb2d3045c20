//! Random workloads: three or four operations on a few files, a commit, and again (after the manner of ACE).

use super::{Op, Outcome, Step, Story, Told, Workload};
use crate::model::Generator;

/// The random workload of this seed.
pub(super) fn workload(seed: u64) -> Workload {
    let block_size = [4096, 4096, 8192, 16384][seed as usize % 4];
    Workload {
        name: format!("random-{seed}"),
        size: 512 * u64::from(block_size),
        block_size,
        tell: Box::new(move |story| Told(tell(story, seed))),
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
        for _ in 0..3 {
            let pair = &story.recorder.pair;
            let op = generator.next(&pair.model, &pair.open);
            let outcome = story.attempt(op.clone())?;
            if matches!(outcome, Outcome::NoSpace { .. }) {
                return Err(format!("{op:?}: {outcome:?}"));
            }
        }
        story.op(if round == 5 { Op::Remount } else { Op::Commit })?;
    }
    Ok(())
}
