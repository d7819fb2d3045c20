//! A disk that says that it flushed and did not, and then loses its power (P5, P8).
//!
//! Nothing can be promised of what such a disk was told last; but what is left is never used unseen: the check finds the
//! damage, or all metadata and every vector is as it was at some moment. Every flush of a workload is lost, one at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};

use vexfs_tests::crash::panic_text;
use vexfs_tests::effort::Effort;
use vexfs_tests::states::{Limits, each_crash_state};
use vexfs_tests::workloads;

const FEW: Limits = Limits { prefixes: 2, subsets: 12, torn: 4, superblock: 0 };
const MANY: Limits = Limits { prefixes: 24, subsets: 256, torn: 48, superblock: 8 };

const NAMES: [&str; 7] = [
    "create-and-append",
    "replace-by-rename",
    "set-vectors",
    "replace-vectors",
    "reuse-rows",
    "unlink-with-vectors",
    "directory-grows-and-shrinks",
];

#[test]
fn a_flush_that_was_none_is_found_or_harmless() {
    let limits = Effort::wanted().of(FEW, FEW, MANY);
    let (mut flushes, mut found, mut harmless) = (0, 0, 0);
    let mut wrong = Vec::new();
    let workloads = workloads::named(&NAMES);
    assert_eq!(workloads.len(), 2 * NAMES.len());
    for workload in &workloads {
        let (trace, history) =
            workload.record().unwrap_or_else(|why| panic!("{}: {why}", workload.name)).finish();
        let step = Effort::wanted().of(5, 1, 1);
        for lost in trace.flushes().into_iter().step_by(step) {
            flushes += 1;
            each_crash_state(&trace.without_flush(lost), &limits, lost as u64, |image, origin| {
                // Before that flush, and long after it, it is a crash as any other.
                if origin.events < lost {
                    return true;
                }
                let verdict = catch_unwind(AssertUnwindSafe(|| history.judge_distrusted(image)));
                match verdict.unwrap_or_else(|panic| Err(format!("panic: {}", panic_text(&*panic)))) {
                    Ok(true) => found += 1,
                    Ok(false) => harmless += 1,
                    Err(why) => {
                        let cut = &origin.cut;
                        wrong.push(format!("{}, flush at event {lost} lost, {cut}: {why}", workload.name));
                    }
                }
                // The next flush ends what this one's loss can do.
                wrong.len() < 20 && origin.events <= trace.flush_after(lost)
            });
        }
    }
    println!(
        "lost flushes: {flushes}, {found} states found damaged, {harmless} harmless, {} unseen",
        wrong.len()
    );
    wrong.truncate(5);
    assert!(wrong.is_empty(), "{:.3000}", wrong.join("\n"));
    assert!(found > 20 && harmless > 100, "the disk hardly ever lied");
}
