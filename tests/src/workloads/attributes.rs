//! Workloads of modes, times and extended attributes.

use super::{Op, Step, Story, Workload};

/// All of them.
pub(super) fn workloads() -> Vec<Workload> {
    vec![
        Workload::new("settings", settings),
        Workload::new("small-attributes", small_attributes),
        Workload::new("large-attributes", large_attributes),
        Workload::new("attributes-of-the-dead", attributes_of_the_dead),
    ]
}

fn settings(story: &mut Story) -> Step {
    story.file("file", 100)?;
    story.mkdir("dir")?;
    story.commit()?;
    for path in ["file", "dir"] {
        let inode = story.inode(path)?;
        story.op(Op::Permissions { inode, permissions: 0o751 })?;
        story.commit()?;
        story.op(Op::Owner { inode, uid: 17, gid: 18 })?;
        story.op(Op::Modified { inode, seconds: -5 })?;
        story.commit()?;
    }
    Ok(())
}

fn small_attributes(story: &mut Story) -> Step {
    story.file("file", 100)?;
    for index in 0..12 {
        story.set("file", &format!("user.attribute.{index}"), 50 * index)?;
    }
    story.commit()?;
    for index in 0..12 {
        story.set("file", &format!("user.attribute.{index}"), 600 - 50 * index)?;
    }
    story.commit()?;
    (0..6).try_for_each(|index| story.unset("file", &format!("user.attribute.{index}")))?;
    story.commit()
}

fn large_attributes(story: &mut Story) -> Step {
    story.create("file")?;
    story.set("file", "user.large", 60_000)?;
    story.commit()?;
    story.set("file", "user.large", 65_536)?;
    story.commit()?;
    story.set("file", "user.large", 3)?;
    story.set("file", "user.other", 30_000)?;
    story.commit()?;
    story.unset("file", "user.other")?;
    story.commit()
}

fn attributes_of_the_dead(story: &mut Story) -> Step {
    story.file("file", 9000)?;
    story.set("file", "user.large", 50_000)?;
    story.mkdir("dir")?;
    story.set("dir", "user.large", 20_000)?;
    story.commit()?;
    story.unlink("file")?;
    story.commit()?;
    story.rmdir("dir")?;
    story.commit()?;
    story.file("file", 40_000)?;
    story.commit()
}
