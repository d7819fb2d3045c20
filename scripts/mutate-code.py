#!/usr/bin/env python3
"""Mutation testing of the code that keeps a volume consistent: journal, commit, recovery, free space.

One small change of a line at a time (a comparison turned, a sum off by one, a condition negated, a statement gone); the
core's own tests and the crash, fault and corruption suites run on it and must fail. A change that does not compile is
none; one that no suite notices survives. The work is done in a copy of the sources below target/soak, so the tree stays as it
is. Goes on where the last run ended; prints date, commit, command and counts, and keeps them in the log.
"""

import argparse
import datetime
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = ["journal.rs", "commit.rs", "recover.rs", "patches.rs", "space.rs"]
# From, to: each place where it fits is a mutant.
TURNS = [
    (r" == ", " != "), (r" != ", " == "), (r" < ", " <= "), (r" <= ", " < "), (r" > ", " >= "), (r" >= ", " > "),
    (r" && ", " || "), (r" \|\| ", " && "), (r" \+ 1\b", ""), (r" - 1\b", ""), (r" \+= ", " -= "), (r" -= ", " += "),
    (r" \+ ", " - "), (r" - ", " + "), (r"\btrue\b", "false"), (r"\bfalse\b", "true"), (r"\b0\b", "1"),
    (r"if (?!let\b|cfg!)([^{]+) \{", r"if !(\1) {"),
]
STATEMENT = re.compile(r"^\s+[a-z_][\w.:]*(\(|\.)[^{}]*;$|^\s+[\w.]+ [+-]?= [^{}]*;$")
# Equal to the original for every caller, or only a matter of speed: each with its reason.
EQUAL = {
    "memory::reserve": "room that is made later anyway",
    "debug_assert": "tells our own mistakes, changes nothing",
    "sort_unstable": "order of writes before one flush: any is right",
}
SUITES = [
    ["--package", "vexfs_core"],
    ["--package", "vexfs_tests", "--no-default-features", "--test", "crash", "--test", "faults", "--test", "corruption", "--test", "repair", "--test", "model"],
]


def mutants():
    """All of them, as (file, line number from 1, original, changed), in an order that is the same every time."""
    found = []
    for name in FILES:
        lines = (ROOT / "vexfs_core/src" / name).read_text().splitlines()
        end = next((i for i, line in enumerate(lines) if "#[cfg(test)]" in line), len(lines))
        for number, line in enumerate(lines[:end], 1):
            code = line.split("//")[0].rstrip()
            if not code.strip() or code.lstrip().startswith(("use ", "#", "const ", "pub const ")) or "planted(" in code:
                continue
            if any(word in code for word in EQUAL):
                continue
            for pattern, replacement in TURNS:
                for match in re.finditer(pattern, code):
                    changed = code[: match.start()] + match.expand(replacement) + code[match.end() :]
                    found.append((name, number, line, changed))
            if STATEMENT.match(code) and "return" not in code:
                found.append((name, number, line, re.sub(r"\S.*", "{}", code)))
    random.Random(1).shuffle(found)
    return found


def build(copy, arguments, wanted_seconds):
    """Exit code of `cargo test` in the copy; 0 also means that nothing was noticed."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(copy.parent / "mutants-target"), "VEXFS_LIMITS": "few"}
    environment |= {"CARGO_PROFILE_RELEASE_OPT_LEVEL": "1", "CARGO_PROFILE_RELEASE_DEBUG": "false", "RUST_BACKTRACE": "0"}
    try:
        done = subprocess.run(["cargo", "test", "--quiet", "--release", *arguments], cwd=copy, env=environment, check=False,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=wanted_seconds)
    except subprocess.TimeoutExpired:
        # It hangs: whoever waits for it notices.
        return 1
    return done.returncode


def judge(copy, mutant):
    name, number, _, changed = mutant
    path = copy / "vexfs_core/src" / name
    before = path.read_text()
    lines = before.splitlines(keepends=True)
    lines[number - 1] = changed + "\n"
    path.write_text("".join(lines))
    try:
        if build(copy, ["--package", "vexfs_core", "--no-run"], 3600):
            return "no mutant"
        return "killed" if any(build(copy, suite, 3600) for suite in SUITES) else "survived"
    finally:
        path.write_text(before)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=150)
    parser.add_argument("--count", type=int, default=None, help="mutants to try in this run")
    parser.add_argument("--log", type=pathlib.Path, required=True)
    parser.add_argument("--state", type=pathlib.Path, required=True)
    wanted = parser.parse_args()
    copy = wanted.state.resolve().parent / "mutants-source"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("target", ".git", "*.img"))
    known = json.loads(wanted.state.read_text()) if wanted.state.exists() else {}
    end, tried = time.monotonic() + 60 * wanted.minutes, 0
    everything = mutants()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    left = False
    for mutant in everything:
        key = f"{mutant[0]}: {mutant[2].strip()} => {mutant[3].strip()}"
        if key in known:
            continue
        left = time.monotonic() > end or tried == wanted.count
        if left:
            break
        known[key] = judge(copy, mutant)
        tried += 1
        print(f"{known[key]}: {mutant[0]}:{mutant[1]}: {mutant[2].strip()} => {mutant[3].strip()}", flush=True)
        wanted.state.write_text(json.dumps(known, indent=0))
    killed, survived = (list(known.values()).count(word) for word in ("killed", "survived"))
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%FT%TZ")
    told = f"{stamp} {commit} '{' '.join(sys.argv)}' {tried} tried now, {len(known)} of {len(everything)} in all: {killed} killed, {survived} survived"
    print(told)
    with open(wanted.log, "a", encoding="utf-8") as log:
        log.write(told + "\n")
    if killed + survived and killed < 0.9 * (killed + survived):
        sys.exit("fewer than 90 % are killed")
    if left:
        print("soak-mutants: more to do")
        sys.exit(3)


main()
