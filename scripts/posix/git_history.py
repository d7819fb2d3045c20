#!/usr/bin/env python3
"""A repository with much history, as a stream for `git fast-import`: git_history.py COMMITS

Always the same one. Each commit changes, adds or removes some of a few hundred files in directories; every hundredth merges
a branch that left the main line fifty commits before and has a file of its own.
"""

import random
import sys

NAMES = 8
WORDS = [f"word{number}" for number in range(500)]


def data(text):
    raw = text.encode("ascii")
    return b"data %d\n%s\n" % (len(raw), raw)


def line(choose):
    return " ".join(choose.choices(WORDS, k=8)) + "\n"


def changes(choose, files):
    """Edits a few files and gives the lines of the stream that say so."""
    for _ in range(choose.randrange(1, 5)):
        name = f"d{choose.randrange(20)}/sub{choose.randrange(4)}/f{choose.randrange(NAMES)}"
        lines = files.get(name)
        if lines and choose.random() < 0.05:
            del files[name]
            yield f"D {name}\n".encode("ascii")
            continue
        lines = files.setdefault(name, [])
        at = choose.randrange(len(lines) + 1)
        lines[at : at + choose.randrange(3)] = [line(choose) for _ in range(choose.randrange(1, 20))]
        del lines[200:]
        mode = "100755" if name.endswith("7") else "100644"
        yield f"M {mode} inline {name}\n".encode("ascii") + data("".join(lines))


def commit(out, branch, mark, *parents):
    """The head of a commit; its changes follow."""
    lines = [f"commit refs/heads/{branch}", f"mark :{mark}", f"committer t <t@t> {1_700_000_000 + mark * 60} +0000"]
    out.write("\n".join(lines).encode("ascii") + b"\n" + data(f"change {mark}"))
    for word, parent in zip(("from", "merge"), parents):
        out.write(f"{word} :{parent}\n".encode("ascii"))


def main():
    commits = int(sys.argv[1])
    choose, files, out = random.Random(1), {}, sys.stdout.buffer
    for mark in range(1, commits + 1):
        parents, merged = [mark - 1] if mark > 1 else [], b""
        if mark % 100 == 0:
            merged = f"M 100644 inline side/{mark}\n".encode("ascii") + data(line(choose))
            commit(out, "side", commits + mark, mark - 50)
            out.write(merged)
            parents.append(commits + mark)
        commit(out, "master", mark, *parents)
        out.write(merged)
        out.writelines(changes(choose, files))
        out.write(b"\n")
        if mark % 1000 == 0:
            out.write(f"tag v{mark}\nfrom :{mark}\ntagger t <t@t> {1_700_000_000 + mark * 60} +0000\n".encode("ascii"))
            out.write(data(f"version {mark}"))


main()
