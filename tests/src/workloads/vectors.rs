//! Workloads of vectors and collections.

use vexfs_core::format::{Codec, Element};

use super::{Op, Step, Story, Workload};

/// All of them.
pub(super) fn workloads() -> Vec<Workload> {
    vec![
        Workload::new("set-vectors", set_vectors),
        Workload::new("set-vectors-16k", set_vectors).with(8 << 20, 16384),
        Workload::new("replace-vectors", replace_vectors),
        Workload::new("remove-vectors", remove_vectors),
        Workload::new("remove-vectors-and-tidy", remove_vectors_and_tidy),
        Workload::new("reuse-rows", reuse_rows),
        Workload::new("unlink-with-vectors", unlink_with_vectors),
        Workload::new("unlink-open-with-vectors", unlink_open_with_vectors),
        Workload::new("rename-over-vectors", rename_over_vectors),
        Workload::new("write-under-vectors", write_under_vectors),
        Workload::new("truncate-under-vectors", truncate_under_vectors),
        Workload::new("all-elements", all_elements),
        Workload::new("all-codecs", all_codecs),
        Workload::new("batches", batches),
        Workload::new("batches-16k", batches).with(8 << 20, 16384),
        Workload::new("compaction", compaction),
        Workload::new("metadata", metadata),
        Workload::new("saved-over", saved_over),
        Workload::new("attributes-before-data", attributes_before_data),
        Workload::new("collections-come-and-go", collections_come_and_go),
        Workload::new("remove-a-used-collection", remove_a_used_collection),
        Workload::new("chunks-of-a-document", chunks_of_a_document).with(4 << 20, 4096),
        Workload::new("hard-links-with-vectors", hard_links_with_vectors),
        Workload::new("vectors-during-commits", vectors_during_commits),
        Workload::new("matrix-grows-and-shrinks", matrix_grows_and_shrinks).with(4 << 20, 4096),
    ]
}

fn set_vectors(story: &mut Story) -> Step {
    for index in 0..4 {
        let path = format!("document {index}");
        story.file(&path, 2000 * index + 10)?;
        story.vector(&path, "minilm", 0, 100)?;
        story.commit()?;
    }
    Ok(())
}

fn replace_vectors(story: &mut Story) -> Step {
    story.file("a", 100)?;
    story.file("b", 100)?;
    story.vector("a", "clip", 0, 64)?;
    story.vector("b", "clip", 0, 64)?;
    story.commit()?;
    for _ in 0..4 {
        story.vector("a", "clip", 0, 64)?;
        story.commit()?;
        story.vector("b", "clip", 0, 64)?;
        story.vector("a", "clip", 0, 64)?;
        story.tidy()?;
        story.commit()?;
    }
    Ok(())
}

fn remove_vectors(story: &mut Story) -> Step {
    for path in ["a", "b", "c"] {
        story.file(path, 100)?;
        story.vector(path, "minilm", 0, 96)?;
    }
    story.commit()?;
    story.remove_vector("b", "minilm", 0)?;
    story.commit()?;
    story.remove_vector("c", "minilm", 0)?;
    story.vector("b", "minilm", 0, 96)?;
    story.commit()?;
    story.remove_vector("a", "minilm", 0)?;
    story.commit()
}

fn remove_vectors_and_tidy(story: &mut Story) -> Step {
    for index in 0..6 {
        story.file(&format!("f{index}"), 100)?;
        story.vector(&format!("f{index}"), "minilm", 0, 96)?;
    }
    story.commit()?;
    for index in [1, 4, 5] {
        story.remove_vector(&format!("f{index}"), "minilm", 0)?;
        story.tidy()?;
        story.commit()?;
        story.tidy()?;
        story.commit()?;
    }
    Ok(())
}

fn reuse_rows(story: &mut Story) -> Step {
    story.file("keeper", 10)?;
    story.file("other", 10)?;
    story.vector("keeper", "minilm", 0, 128)?;
    story.commit()?;
    for round in 0..5 {
        story.vector("other", "minilm", round, 128)?;
        story.commit()?;
        story.remove_vector("other", "minilm", round)?;
        // Before the row may be reused, its freeing is durable and it is blanked.
        story.vector("keeper", "minilm", 1, 128)?;
        story.commit()?;
        story.tidy()?;
    }
    story.commit()
}

fn unlink_with_vectors(story: &mut Story) -> Step {
    for path in ["a", "b", "c"] {
        story.file(path, 5000)?;
        story.vector(path, "minilm", 0, 96)?;
        story.vector(path, "minilm", 7, 96)?;
        story.vector(path, "other", 0, 30)?;
    }
    story.commit()?;
    story.unlink("b")?;
    story.commit()?;
    story.tidy()?;
    story.file("d", 100)?;
    story.vector("d", "minilm", 0, 96)?;
    story.commit()?;
    story.unlink("a")?;
    story.unlink("c")?;
    story.commit()?;
    story.tidy()?;
    story.commit()
}

fn unlink_open_with_vectors(story: &mut Story) -> Step {
    story.file("a", 5000)?;
    story.vector("a", "minilm", 0, 96)?;
    story.vector("a", "minilm", 3, 96)?;
    story.commit()?;
    let inode = story.open("a")?;
    story.unlink("a")?;
    story.commit()?;
    story.file("b", 100)?;
    story.vector("b", "minilm", 0, 96)?;
    story.tidy()?;
    story.commit()?;
    story.close(inode)?;
    story.commit()
}

fn rename_over_vectors(story: &mut Story) -> Step {
    story.file("document", 3000)?;
    story.vector("document", "minilm", 0, 96)?;
    story.commit()?;
    for round in 0..3 {
        story.file("document.tmp", 3000 + round)?;
        story.vector("document.tmp", "minilm", 0, 96)?;
        story.commit()?;
        story.rename("document.tmp", "document")?;
        story.commit()?;
    }
    story.tidy()?;
    story.commit()
}

fn write_under_vectors(story: &mut Story) -> Step {
    story.file("document", 20_000)?;
    story.vector("document", "minilm", 0, 96)?;
    story.commit()?;
    story.write("document", 100, 5000)?;
    story.write("document", 9000, 100)?;
    story.commit()?;
    story.vector("document", "minilm", 0, 96)?;
    story.commit()?;
    story.write("document", 8192, 4096)?;
    story.append("document", 4000)?;
    story.commit()?;
    story.vector("document", "minilm", 1, 96)?;
    story.write("document", 0, 10)?;
    story.commit()
}

fn truncate_under_vectors(story: &mut Story) -> Step {
    story.file("document", 20_000)?;
    story.vector("document", "minilm", 0, 96)?;
    story.commit()?;
    story.truncate("document", 7000)?;
    story.commit()?;
    story.vector("document", "minilm", 0, 96)?;
    story.commit()?;
    story.truncate("document", 9000)?;
    story.write("document", 7100, 50)?;
    story.commit()
}

fn all_elements(story: &mut Story) -> Step {
    story.file("file", 100)?;
    for element in Element::ALL {
        let name = format!("as-{}", element.name());
        story.typed_vector("file", &name, element, 0, 104)?;
        story.typed_vector("file", &name, element, 2, 104)?;
        story.commit()?;
    }
    for element in Element::ALL {
        story.remove_vector("file", &format!("as-{}", element.name()), 0)?;
        story.commit()?;
    }
    Ok(())
}

// Rows of every stored form: set, set again, freed and blanked.
fn all_codecs(story: &mut Story) -> Step {
    story.file("file", 100)?;
    for codec in Codec::ALL {
        let (name, element) = (codec.name().to_owned(), Element::F32);
        story.op(Op::CreateCollection { name, element, codec, dimensions: 0 })?;
        story.vector("file", codec.name(), 0, 100)?;
        story.vector("file", codec.name(), 1, 100)?;
        story.commit()?;
    }
    for codec in Codec::ALL {
        story.vector("file", codec.name(), 1, 100)?;
        story.remove_vector("file", codec.name(), 0)?;
        story.commit()?;
    }
    Ok(())
}

// Batches: new vectors, others in their place, in rows that were freed and behind all; files of the same batch share
// it, and one of them twice.
fn batches(story: &mut Story) -> Step {
    for path in ["a", "b", "c", "d"] {
        story.file(path, 200)?;
    }
    story.vector("a", "minilm", 0, 96)?;
    story.commit()?;
    story.vectors("minilm", &[("a", 1), ("b", 0), ("b", 1), ("c", 0), ("d", 0)], 96, false)?;
    story.commit()?;
    story.remove_vector("a", "minilm", 0)?;
    story.remove_vector("b", "minilm", 1)?;
    story.metadata("c", "minilm", 0, 300)?;
    story.commit()?;
    story.tidy()?;
    story.vectors("minilm", &[("a", 0), ("b", 0), ("c", 0), ("c", 0), ("d", 1), ("d", 2)], 96, false)?;
    story.commit()?;
    story.vectors("minilm", &[("a", 0), ("a", 5), ("b", 1), ("b", 1), ("d", 0)], 96, true)?;
    story.write("c", 0, 100)?;
    story.commit()?;
    story.unlink("d")?;
    story.commit()?;
    story.tidy()?;
    story.vectors("minilm", &[("c", 0), ("b", 3), ("b", 4)], 96, false)?;
    story.commit()
}

// Metadata goes where its vector goes: to a new row, to a file that is saved over, to its end.
fn metadata(story: &mut Story) -> Step {
    for (path, len) in [("a", 60), ("b", 4096), ("c", 1500)] {
        story.file(path, 300)?;
        story.vector(path, "minilm", 0, 96)?;
        story.vector(path, "minilm", 1, 96)?;
        story.metadata(path, "minilm", 0, len)?;
        story.commit()?;
    }
    story.metadata("a", "minilm", 0, 2000)?;
    story.vector("b", "minilm", 0, 96)?;
    story.commit()?;
    story.metadata("b", "minilm", 0, 40)?;
    story.remove_metadata("c", "minilm", 0)?;
    story.commit()?;
    story.file("new", 500)?;
    story.rename("new", "a")?;
    story.commit()?;
    story.unlink("b")?;
    story.tidy()?;
    story.commit()?;
    story.op(Op::Compact { name: "minilm".into() })?;
    story.commit()?;
    story.tidy()?;
    story.commit()
}

// As tar does it: the new file's vectors, then its bytes; they are bound when it is closed.
fn attributes_before_data(story: &mut Story) -> Step {
    for (name, synced) in [("whole", false), ("synced", true)] {
        story.create(name)?;
        let inode = story.open(name)?;
        story.vector(name, "minilm", 0, 96)?;
        story.vector(name, "minilm", 1, 96)?;
        story.write(name, 0, 9000)?;
        if synced {
            story.commit()?;
            story.write(name, 9000, 500)?;
        }
        story.close(inode)?;
        story.commit()?;
        story.write(name, 100, 50)?;
        story.commit()?;
    }
    Ok(())
}

// A file with vectors saved anew: by a rename over it, and by making its name anew after renaming it.
fn saved_over(story: &mut Story) -> Step {
    story.file("file", 300)?;
    story.vector("file", "minilm", 0, 96)?;
    story.vector("file", "minilm", 3, 96)?;
    story.vector("file", "second", 0, 40)?;
    story.commit()?;
    story.file("new", 500)?;
    story.vector("new", "second", 0, 40)?;
    story.rename("new", "file")?;
    story.commit()?;
    story.rename("file", "file~")?;
    story.file("file", 700)?;
    story.commit()?;
    story.unlink("file~")?;
    story.commit()?;
    story.vector("file", "minilm", 0, 96)?;
    story.commit()
}

// Gaps that are closed in steps, with and without commits between, and new vectors meanwhile.
fn compaction(story: &mut Story) -> Step {
    for number in 0..40 {
        let name = format!("file-{number}");
        story.file(&name, 30)?;
        story.vector(&name, "minilm", 0, 300)?;
    }
    story.commit()?;
    for number in (0..40).filter(|number| number % 5 < 3) {
        story.remove_vector(&format!("file-{number}"), "minilm", 0)?;
    }
    story.commit()?;
    story.op(Op::Tidy)?;
    let step = || Op::Compact { name: "minilm".into() };
    story.op(step())?;
    story.commit()?;
    story.op(Op::Tidy)?;
    story.vector("file-0", "minilm", 0, 300)?;
    story.op(step())?;
    story.remove_vector("file-4", "minilm", 0)?;
    story.commit()?;
    story.op(Op::Tidy)?;
    story.op(step())?;
    story.commit()?;
    story.op(Op::Tidy)?;
    story.commit()
}

fn collections_come_and_go(story: &mut Story) -> Step {
    let create = |name: &str| Op::CreateCollection {
        name: name.into(),
        element: Element::F32,
        codec: Codec::None,
        dimensions: 0,
    };
    story.op(create("first"))?;
    story.commit()?;
    story.op(create("second"))?;
    story.op(Op::RenameCollection { from: "first".into(), to: "renamed".into() })?;
    story.commit()?;
    story.op(Op::RemoveCollection { name: "second".into() })?;
    story.file("file", 10)?;
    story.vector("file", "renamed", 0, 300)?;
    story.commit()?;
    story.op(create("first"))?;
    story.commit()
}

fn remove_a_used_collection(story: &mut Story) -> Step {
    for index in 0..8 {
        story.file(&format!("f{index}"), 10)?;
        story.vector(&format!("f{index}"), "brief", 0, 500)?;
    }
    story.commit()?;
    for index in 0..8 {
        story.remove_vector(&format!("f{index}"), "brief", 0)?;
    }
    story.commit()?;
    story.op(Op::RemoveCollection { name: "brief".into() })?;
    story.commit()?;
    story.tidy()?;
    story.commit()?;
    story.file("taker", 60_000)?;
    story.vector("taker", "brief", 0, 20)?;
    story.commit()
}

fn chunks_of_a_document(story: &mut Story) -> Step {
    story.file("book", 30_000)?;
    for n in 0..40 {
        story.vector("book", "chunks", n, 256)?;
    }
    story.commit()?;
    for n in (0..40).step_by(3) {
        story.vector("book", "chunks", n, 256)?;
    }
    story.commit()?;
    story.unlink("book")?;
    story.commit()?;
    story.tidy()?;
    story.commit()
}

fn hard_links_with_vectors(story: &mut Story) -> Step {
    story.file("a", 100)?;
    story.vector("a", "minilm", 0, 96)?;
    story.link("a", "b")?;
    story.commit()?;
    story.unlink("a")?;
    story.commit()?;
    story.vector("b", "minilm", 0, 96)?;
    story.commit()?;
    story.unlink("b")?;
    story.commit()
}

fn matrix_grows_and_shrinks(story: &mut Story) -> Step {
    // 4 KiB a row, 64 KiB a chunk: several chunks come and go.
    for index in 0..40 {
        story.create(&format!("f{index}"))?;
        story.vector(&format!("f{index}"), "wide", 0, 1000)?;
        if index % 13 == 12 {
            story.commit()?;
        }
    }
    story.commit()?;
    for index in (10..40).rev() {
        story.unlink(&format!("f{index}"))?;
        if index % 10 == 0 {
            story.commit()?;
            story.tidy()?;
        }
    }
    story.commit()?;
    story.create("last")?;
    story.vector("last", "wide", 0, 1000)?;
    story.commit()
}

fn vectors_during_commits(story: &mut Story) -> Step {
    for path in ["a", "b", "c"] {
        story.file(path, 100)?;
        story.vector(path, "minilm", 0, 96)?;
    }
    story.commit()?;
    for round in 0..5 {
        story.remove_vector("b", "minilm", 0)?;
        story.commit_around(
            |story| {
                story.tidy()?;
                story.vector("a", "minilm", round, 96)?;
                story.vector("c", "minilm", 0, 96)
            },
            |story| {
                story.tidy()?;
                story.vector("b", "minilm", 0, 96)?;
                story.tidy()
            },
        )?;
        story.tidy()?;
        story.commit()?;
    }
    story.tidy()?;
    story.commit()
}
