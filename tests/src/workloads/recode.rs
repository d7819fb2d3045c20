//! Workloads of collections on their way to another codec.

use vexfs_core::format::Codec;

use super::{Op, Step, Story, Workload};
use crate::model::quantize::quantized;

/// All of them.
pub(super) fn workloads() -> Vec<Workload> {
    vec![
        Workload::new("recode-while-it-changes", while_it_changes).with(3 << 20, 4096),
        Workload::new("recode-and-go-on", and_go_on).with(3 << 20, 4096),
        Workload::new("recode-given-up", given_up).with(8 << 20, 16384),
        Workload::new("recode-by-codebook", by_codebook).with(3 << 20, 4096),
    ]
}

fn to(codec: Codec) -> Op {
    Op::Recode { name: "minilm".into(), codec: Some(codec) }
}

fn step() -> Op {
    Op::RecodeStep { name: "minilm".into() }
}

// So many files with a vector each.
fn files(story: &mut Story, count: u32) -> Step {
    for number in 0..count {
        let name = format!("file-{number}");
        story.file(&name, 30)?;
        story.vector(&name, "minilm", 0, 200)?;
    }
    story.commit()
}

// Rows that were passed are set, removed, used again, and get another file, with commits between.
fn while_it_changes(story: &mut Story) -> Step {
    files(story, 40)?;
    // Free rows among those that will be passed, which later vectors take.
    for number in [2, 5, 9] {
        story.unlink(&format!("file-{number}"))?;
    }
    story.commit()?;
    story.op(Op::Tidy)?;
    story.op(to(Codec::Sq8))?;
    story.op(step())?;
    story.commit()?;
    story.file("late", 30)?;
    story.vector("late", "minilm", 0, 200)?;
    // Without a vector, saved over a file that has one: the row gets another file.
    story.file("heir", 30)?;
    story.rename("heir", "file-1")?;
    story.commit()?;
    story.vector("file-0", "minilm", 0, 200)?;
    story.remove_vector("file-3", "minilm", 0)?;
    story.unlink("file-4")?;
    story.commit()?;
    story.vector("file-39", "minilm", 0, 200)?;
    story.vector("file-3", "minilm", 0, 200)?;
    story.rename("file-7", "file-8")?;
    story.op(step())?;
    story.commit()?;
    story.op(Op::Tidy)?;
    story.vector("file-10", "minilm", 0, 200)?;
    story.commit()?;
    story.op(Op::Tidy)?;
    story.commit()
}

// A crash may leave any part of it done; the next mount goes on, and frees what was replaced.
fn and_go_on(story: &mut Story) -> Step {
    files(story, 36)?;
    story.op(to(Codec::Binary))?;
    for number in 0..4 {
        story.op(step())?;
        story.commit()?;
        story.vector(&format!("file-{number}"), "minilm", 0, 200)?;
    }
    // What is left, with some steps that find nothing to do: the old matrix is there until the mount.
    for _ in 0..8 {
        story.op(step())?;
    }
    story.commit()?;
    story.op(Op::Remount)?;
    story.op(Op::Tidy)?;
    story.commit()?;
    story.op(to(Codec::None))?;
    story.op(Op::Tidy)?;
    story.commit()?;
    story.vector("file-1", "minilm", 0, 200)?;
    story.op(Op::Tidy)?;
    story.commit()
}

// Rows that are set, passed and removed while a codebook's matrix is made; another codebook, given up; and back to elements.
fn by_codebook(story: &mut Story) -> Step {
    let codebook = |bits| quantized(24, bits).ok_or_else(|| "no codebook".to_string());
    for number in 0..20 {
        let name = format!("file-{number}");
        story.file(&name, 30)?;
        story.vector(&name, "minilm", 0, 24)?;
    }
    story.commit()?;
    story.op(to(codebook(8)?))?;
    story.commit()?;
    story.op(step())?;
    story.vector("file-0", "minilm", 0, 24)?;
    story.remove_vector("file-3", "minilm", 0)?;
    story.commit()?;
    story.op(step())?;
    story.op(step())?;
    story.op(step())?;
    story.commit()?;
    story.op(Op::Tidy)?;
    story.vector("file-3", "minilm", 0, 24)?;
    story.commit()?;
    story.op(Op::Remount)?;
    story.vector("file-4", "minilm", 0, 24)?;
    story.op(to(codebook(4)?))?;
    story.op(step())?;
    story.commit()?;
    story.op(Op::Recode { name: "minilm".into(), codec: None })?;
    story.commit()?;
    story.op(Op::Tidy)?;
    story.op(to(Codec::None))?;
    story.op(Op::Tidy)?;
    story.commit()?;
    story.op(Op::Tidy)?;
    story.commit()
}

// Given up half-way, begun again, and the collection removed while it is under way.
fn given_up(story: &mut Story) -> Step {
    files(story, 20)?;
    story.op(to(Codec::Sq4))?;
    story.op(step())?;
    story.commit()?;
    story.op(Op::Recode { name: "minilm".into(), codec: None })?;
    story.commit()?;
    story.op(Op::Tidy)?;
    story.commit()?;
    story.op(to(Codec::F16))?;
    story.op(step())?;
    story.commit()?;
    for number in 0..20 {
        story.unlink(&format!("file-{number}"))?;
    }
    story.op(Op::RemoveCollection { name: "minilm".into() })?;
    story.commit()?;
    story.op(Op::Tidy)?;
    story.commit()
}
