//! Workloads of superseded vectors.

use vexfs_core::format::{Codec, Element};

use super::{Op, Step, Story, Workload};

/// All of them.
pub(super) fn workloads() -> Vec<Workload> {
    vec![
        Workload::new("superseded-vectors", superseded_vectors),
        Workload::new("superseded-vectors-16k", superseded_vectors).with(8 << 20, 16384),
        Workload::new("superseded-in-batches", superseded_in_batches),
        Workload::new("superseded-goes", superseded_goes),
        Workload::new("superseded-saved-over", superseded_saved_over),
    ]
}

fn history(story: &mut Story, collection: &str, count: usize) -> Step {
    story.op(Op::History { name: collection.into(), count })
}

// Each setting supersedes; what is kept has its metadata; a history is made longer and shorter.
fn superseded_vectors(story: &mut Story) -> Step {
    story.file("a", 500)?;
    story.vector("a", "wide", 0, 700)?;
    history(story, "wide", 2)?;
    story.commit()?;
    for round in 0..4 {
        story.metadata("a", "wide", 0, 20 + 600 * round)?;
        story.vector("a", "wide", 0, 700)?;
        story.vector("a", "wide", 3, 700)?;
        story.commit()?;
        story.tidy()?;
    }
    history(story, "wide", 4)?;
    story.write("a", 0, 100)?;
    story.vector("a", "wide", 0, 700)?;
    story.vector("a", "wide", 0, 700)?;
    story.commit()?;
    history(story, "wide", 0)?;
    story.commit()?;
    story.vector("a", "wide", 0, 700)?;
    story.commit()
}

// Batches and codecs: coded bytes are kept as they are; a file twice in a batch.
fn superseded_in_batches(story: &mut Story) -> Step {
    for path in ["a", "b", "c"] {
        story.file(path, 200)?;
    }
    let (name, element, codec) = ("coded".to_owned(), Element::F32, Codec::Sq8);
    story.op(Op::CreateCollection { name, element, codec, dimensions: 96 })?;
    history(story, "coded", 3)?;
    story.vectors("coded", &[("a", 0), ("a", 1), ("b", 0), ("c", 0)], 96, false)?;
    story.commit()?;
    story.metadata("c", "coded", 0, 1500)?;
    story.vectors("coded", &[("a", 0), ("b", 0), ("b", 0), ("c", 0)], 96, false)?;
    story.commit()?;
    story.vectors("coded", &[("a", 0), ("c", 0), ("c", 2)], 96, true)?;
    story.vectors("coded", &[("a", 0), ("b", 0), ("c", 0), ("a", 0)], 96, false)?;
    story.commit()?;
    story.tidy()?;
    story.op(Op::Compact { name: "coded".into() })?;
    story.commit()
}

// A history ends with its vector, with its file, open or not.
fn superseded_goes(story: &mut Story) -> Step {
    for path in ["removed", "unlinked", "open", "linked"] {
        story.file(path, 300)?;
        story.vector(path, "wide", 0, 600)?;
    }
    history(story, "wide", 8)?;
    for round in 0..4 {
        for path in ["removed", "unlinked", "open", "linked"] {
            story.vector(path, "wide", round / 3, 600)?;
            story.vector(path, "wide", 0, 600)?;
        }
    }
    story.link("linked", "second name")?;
    story.commit()?;
    story.remove_vector("removed", "wide", 0)?;
    story.unlink("unlinked")?;
    story.unlink("linked")?;
    story.commit()?;
    let inode = story.open("open")?;
    story.unlink("open")?;
    story.commit()?;
    story.vector("removed", "wide", 0, 600)?;
    story.vector("removed", "wide", 0, 600)?;
    story.close(inode)?;
    story.commit()?;
    story.remove_vector("second name", "wide", 1)?;
    story.remove_vector("second name", "wide", 0)?;
    story.commit()?;
    story.remount()
}

// What is saved over a file has the history of its vectors.
fn superseded_saved_over(story: &mut Story) -> Step {
    story.file("file", 300)?;
    story.vector("file", "minilm", 0, 96)?;
    story.vector("file", "second", 0, 40)?;
    history(story, "minilm", 3)?;
    history(story, "second", 3)?;
    for _ in 0..3 {
        story.vector("file", "minilm", 0, 96)?;
        story.vector("file", "second", 0, 40)?;
    }
    story.commit()?;
    story.file("new", 500)?;
    story.vector("new", "second", 0, 40)?;
    story.rename("new", "file")?;
    story.commit()?;
    story.vector("file", "minilm", 0, 96)?;
    story.commit()?;
    story.rename("file", "file~")?;
    story.file("file", 700)?;
    story.commit()?;
    story.unlink("file~")?;
    story.commit()?;
    story.vector("file", "minilm", 0, 96)?;
    story.commit()
}
