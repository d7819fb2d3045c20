//! Workloads of files, directories and attributes.

use vexfs_core::format::FileKind;
use vexfs_core::operations::Allocate;

use super::{Op, Outcome, Step, Story, Workload};

/// All of them.
pub(super) fn workloads() -> Vec<Workload> {
    let small = 1 << 20;
    vec![
        Workload::new("create-and-append", create_and_append),
        Workload::new("replace-by-rename", replace_by_rename),
        Workload::new("replace-by-rename-16k", replace_by_rename).with(8 << 20, 16384),
        Workload::new("overwrite-in-place", overwrite_in_place),
        Workload::new("overwrite-unaligned-8k", overwrite_in_place).with(4 << 20, 8192),
        Workload::new("inline-to-blocks", inline_to_blocks),
        Workload::new("truncate-and-extend", truncate_and_extend),
        Workload::new("grow-and-free-at-once", grow_and_free_at_once),
        Workload::new("shrink-a-large-file", shrink_a_large_file).with(4 << 20, 4096),
        Workload::new("sparse-writes", sparse_writes),
        Workload::new("punch-holes", punch_holes),
        Workload::new("zero-ranges", zero_ranges),
        Workload::new("reserve-and-fill", reserve_and_fill),
        Workload::new("hard-links", hard_links),
        Workload::new("unlink-while-open", unlink_while_open),
        Workload::new("unnamed-files", unnamed_files),
        Workload::new("symlinks-and-nodes", symlinks_and_nodes),
        Workload::new("move-directories", move_directories),
        Workload::new("exchange", exchange),
        Workload::new("exchange-directories", exchange_directories),
        Workload::new("directory-grows-and-shrinks", directory_grows_and_shrinks),
        Workload::new("long-names", long_names),
        Workload::new("remove-a-tree", remove_a_tree),
        Workload::new("reuse-freed-blocks", reuse_freed_blocks).with(small, 4096),
        Workload::new("run-full", run_full).with(small, 4096),
        Workload::new("commit-by-commit", commit_by_commit),
        Workload::new("many-remounts", many_remounts),
        Workload::new("work-during-commits", work_during_commits).with(small, 4096),
    ]
}

fn create_and_append(story: &mut Story) -> Step {
    story.file("log", 100)?;
    story.commit()?;
    for len in [500, 4000, 9000] {
        story.append("log", len)?;
        story.commit()?;
    }
    story.append("log", 1)
}

fn replace_by_rename(story: &mut Story) -> Step {
    story.file("config", 6000)?;
    story.commit()?;
    for round in 0..3 {
        story.file("config.tmp", 5000 + 2000 * round)?;
        story.commit()?;
        story.rename("config.tmp", "config")?;
        story.commit()?;
    }
    story.file("config.tmp", 300)?;
    story.rename("config.tmp", "config")
}

// Blocks of the last commit and blocks taken since lie in one extent, and go together.
fn grow_and_free_at_once(story: &mut Story) -> Step {
    for path in ["a", "b"] {
        story.file(path, 30_000)?;
        story.commit()?;
        story.append(path, 20_000)?;
        story.truncate(path, 9000)?;
        story.commit()?;
        story.append(path, 20_000)?;
        story.unlink(path)?;
        story.commit()?;
    }
    Ok(())
}

fn overwrite_in_place(story: &mut Story) -> Step {
    story.file("data", 30_000)?;
    story.commit()?;
    story.write("data", 100, 50)?;
    story.write("data", 4000, 5000)?;
    story.commit()?;
    story.write("data", 8192, 8192)?;
    story.write("data", 8200, 100)?;
    story.commit()?;
    story.write("data", 29_000, 3000)
}

fn inline_to_blocks(story: &mut Story) -> Step {
    story.file("small", 10)?;
    story.commit()?;
    story.write("small", 5, 700)?;
    story.commit()?;
    story.write("small", 600, 5000)?;
    story.commit()?;
    story.truncate("small", 20)?;
    story.commit()?;
    story.truncate("small", 0)?;
    story.write("small", 0, 30)?;
    story.commit()
}

fn truncate_and_extend(story: &mut Story) -> Step {
    story.file("file", 20_000)?;
    story.commit()?;
    story.truncate("file", 5000)?;
    story.commit()?;
    story.truncate("file", 15_000)?;
    story.commit()?;
    story.truncate("file", 100)?;
    story.write("file", 9000, 100)?;
    story.commit()?;
    story.truncate("file", 0)?;
    story.commit()
}

fn shrink_a_large_file(story: &mut Story) -> Step {
    story.create("large")?;
    // Every other block, so that the extents do not join.
    for index in 0..150 {
        story.write("large", index * 8192, 4096)?;
    }
    story.commit()?;
    story.truncate("large", 5000)?;
    story.commit()?;
    story.file("next", 60_000)?;
    story.commit()?;
    story.unlink("large")?;
    story.commit()
}

fn sparse_writes(story: &mut Story) -> Step {
    story.create("sparse")?;
    story.write("sparse", 1 << 40, 100)?;
    story.commit()?;
    story.write("sparse", 1 << 20, 5000)?;
    story.write("sparse", 3, 4)?;
    story.commit()?;
    story.truncate("sparse", 1 << 30)?;
    story.commit()?;
    story.write("sparse", (1 << 20) + 5000, 8000)?;
    story.commit()
}

fn punch_holes(story: &mut Story) -> Step {
    story.file("file", 50_000)?;
    story.commit()?;
    story.allocate("file", Allocate::PunchHole, 8192, 8192)?;
    story.commit()?;
    story.allocate("file", Allocate::PunchHole, 20_001, 9001)?;
    story.file("taker", 12_000)?;
    story.commit()?;
    story.write("file", 8000, 9000)?;
    story.allocate("file", Allocate::PunchHole, 100, 50)?;
    story.commit()
}

fn zero_ranges(story: &mut Story) -> Step {
    story.file("file", 30_000)?;
    story.commit()?;
    story.allocate("file", Allocate::ZeroRange { keep_size: false }, 5000, 10_000)?;
    story.commit()?;
    story.allocate("file", Allocate::ZeroRange { keep_size: false }, 28_000, 9_000)?;
    story.commit()?;
    story.write("file", 6000, 3000)?;
    story.allocate("file", Allocate::ZeroRange { keep_size: true }, 0, 5)?;
    story.commit()
}

fn reserve_and_fill(story: &mut Story) -> Step {
    story.create("file")?;
    story.allocate("file", Allocate::Reserve { keep_size: true }, 0, 40_000)?;
    story.commit()?;
    story.write("file", 5000, 10_000)?;
    story.commit()?;
    story.allocate("file", Allocate::Reserve { keep_size: false }, 30_000, 40_000)?;
    story.write("file", 60_000, 100)?;
    story.commit()?;
    story.truncate("file", 7000)?;
    story.commit()
}

fn hard_links(story: &mut Story) -> Step {
    story.file("a", 3000)?;
    story.mkdir("dir")?;
    story.link("a", "b")?;
    story.commit()?;
    story.link("a", "dir/c")?;
    story.unlink("a")?;
    story.commit()?;
    story.rename("dir/c", "b")?;
    story.write("b", 100, 6000)?;
    story.commit()?;
    story.unlink("b")?;
    story.commit()?;
    story.unlink("dir/c")?;
    story.commit()
}

fn unlink_while_open(story: &mut Story) -> Step {
    story.file("temporary", 20_000)?;
    story.set("temporary", "user.note", 9000)?;
    story.commit()?;
    let inode = story.open("temporary")?;
    story.unlink("temporary")?;
    story.commit()?;
    story.file("other", 8000)?;
    story.commit()?;
    story.close(inode)?;
    story.commit()?;
    story.file("third", 16_000)?;
    story.commit()
}

fn unnamed_files(story: &mut Story) -> Step {
    story.op(Op::CreateUnnamed { directory: 1 })?;
    let inode = *story.recorder.pair.open.iter().next().ok_or("nothing is open")?;
    let fill = story.fill(9000);
    story.op(Op::Write { inode, offset: 0, fill })?;
    story.commit()?;
    story.op(Op::Link { inode, directory: 1, name: "named at last".into() })?;
    story.commit()?;
    story.op(Op::Close { inode })?;
    story.op(Op::CreateUnnamed { directory: 1 })?;
    story.commit()?;
    story.remount()
}

fn symlinks_and_nodes(story: &mut Story) -> Step {
    story.symlink("link", "somewhere/else")?;
    story.commit()?;
    story.make("fifo", FileKind::Fifo)?;
    story.make("socket", FileKind::Socket)?;
    story.symlink("long", &"x/".repeat(1500))?;
    story.commit()?;
    story.rename("link", "long")?;
    story.unlink("fifo")?;
    story.commit()
}

fn move_directories(story: &mut Story) -> Step {
    for path in ["a", "a/b", "a/b/c", "d"] {
        story.mkdir(path)?;
    }
    story.file("a/b/c/file", 5000)?;
    story.commit()?;
    story.rename("a/b", "d/b")?;
    story.commit()?;
    story.rename("d/b/c", "a/c")?;
    story.rename("d/b", "b")?;
    story.commit()?;
    story.rename("b", "d")?;
    story.commit()
}

fn exchange(story: &mut Story) -> Step {
    story.file("a", 3000)?;
    story.file("b", 9000)?;
    story.commit()?;
    story.exchange("a", "b")?;
    story.commit()?;
    story.write("a", 10, 10)?;
    story.exchange("b", "a")?;
    story.commit()?;
    story.link("a", "c")?;
    story.exchange("c", "b")?;
    story.commit()
}

fn exchange_directories(story: &mut Story) -> Step {
    for path in ["x", "y", "x/in", "y/in"] {
        story.mkdir(path)?;
    }
    story.file("x/in/file", 5000)?;
    story.file("y/plain", 500)?;
    story.commit()?;
    story.exchange("x/in", "y/plain")?;
    story.commit()?;
    story.exchange("x", "y")?;
    story.commit()?;
    story.rmdir("x/in").or_else(|_| story.exchange("x/in", "y/plain"))?;
    story.commit()
}

fn directory_grows_and_shrinks(story: &mut Story) -> Step {
    story.mkdir("dir")?;
    for batch in 0..4 {
        for index in 0..40 {
            story.create(&format!("dir/entry number {batch} {index}"))?;
        }
        story.commit()?;
    }
    for batch in 0..4 {
        for index in 0..40 {
            story.unlink(&format!("dir/entry number {batch} {index}"))?;
        }
        story.commit()?;
    }
    story.rmdir("dir")?;
    story.commit()
}

fn long_names(story: &mut Story) -> Step {
    let name = |letter: &str| letter.repeat(255);
    story.file(&name("a"), 5000)?;
    story.commit()?;
    for letter in ["b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"] {
        story.link(&name("a"), &name(letter))?;
    }
    story.commit()?;
    story.rename(&name("b"), &name("z"))?;
    story.unlink(&name("a"))?;
    story.commit()
}

fn remove_a_tree(story: &mut Story) -> Step {
    let mut paths = vec!["top".to_string()];
    for outer in 0..3 {
        paths.push(format!("top/{outer}"));
        (0..3).for_each(|inner| paths.push(format!("top/{outer}/{inner}")));
    }
    for path in &paths {
        story.mkdir(path)?;
        story.file(&format!("{path}/file"), 2500)?;
    }
    story.commit()?;
    for (index, path) in paths.iter().enumerate().rev() {
        story.unlink(&format!("{path}/file"))?;
        story.rmdir(path)?;
        if index % 4 == 0 {
            story.commit()?;
        }
    }
    story.commit()
}

fn reuse_freed_blocks(story: &mut Story) -> Step {
    for round in 0..6 {
        story.file("big", 200_000)?;
        story.file(&format!("kept {round}"), 5000)?;
        story.commit()?;
        story.unlink("big")?;
        story.file("small", 50_000)?;
        story.commit()?;
        story.unlink("small")?;
    }
    story.commit()
}

fn run_full(story: &mut Story) -> Step {
    story.file("victim", 100_000)?;
    story.commit()?;
    let mut count = 0;
    loop {
        let path = format!("filler {count}");
        let (directory, name) = story.place(&path)?;
        let create = Op::Create { directory, name, kind: FileKind::Regular, permissions: 0o600, owner: 0 };
        if story.attempt(create)? != Outcome::Done {
            break;
        }
        let (inode, fill) = (story.inode(&path)?, story.fill(40_000));
        if story.attempt(Op::Write { inode, offset: 0, fill })? != Outcome::Done {
            break;
        }
        count += 1;
    }
    if count < 3 {
        return Err(format!("full after {count} files"));
    }
    story.commit()?;
    story.unlink("victim")?;
    story.commit()?;
    story.file("after", 50_000)?;
    story.commit()?;
    story.unlink("filler 0")?;
    story.commit()
}

fn commit_by_commit(story: &mut Story) -> Step {
    story.mkdir("d")?;
    story.commit()?;
    story.create("d/f")?;
    story.commit()?;
    story.write("d/f", 0, 5000)?;
    story.commit()?;
    story.rename("d/f", "f")?;
    story.commit()?;
    story.link("f", "d/g")?;
    story.commit()?;
    story.unlink("f")?;
    story.commit()?;
    story.truncate("d/g", 10)?;
    story.commit()?;
    story.unlink("d/g")?;
    story.commit()?;
    story.rmdir("d")?;
    story.commit()
}

fn many_remounts(story: &mut Story) -> Step {
    for round in 0..5 {
        story.file(&format!("file {round}"), 3000 * round)?;
        let inode = story.open(&format!("file {round}"))?;
        if round % 2 == 1 {
            story.unlink(&format!("file {round}"))?;
        }
        story.remount()?;
        story.tidy()?;
        story.commit()?;
        // A remount closes everything.
        debug_assert!(!story.recorder.pair.open.contains(&inode));
    }
    Ok(())
}

fn work_during_commits(story: &mut Story) -> Step {
    story.file("a", 30_000)?;
    story.file("b", 9000)?;
    story.commit()?;
    for round in 0..5 {
        story.write("a", 5000 * round, 6000)?;
        story.file(&format!("new {round}"), 7000)?;
        story.commit_around(
            |story| {
                story.unlink("b")?;
                story.file(&format!("early {round}"), 12_000)?;
                story.write("a", 100, 5000)
            },
            |story| {
                story.file("b", 9000)?;
                story.truncate("a", 29_000 - round)?;
                story.unlink(&format!("new {round}"))
            },
        )?;
    }
    story.commit()
}
