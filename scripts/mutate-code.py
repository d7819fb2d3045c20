#!/usr/bin/env python3
"""Mutation testing of the code that keeps a volume consistent: journal, commit, recovery, free space.

One small change at a time (a comparison turned, a sum off by one, a condition negated, a statement gone); the core's own tests
and the crash, fault, corruption, repair and model suites run on it, and one must fail. A change that none notices survives.

All changes are built at once, into a copy of the sources below target/soak: each stands beside the original, and the switch of
the planted bugs (`vexfs_core/src/bugs.rs`) chooses one when a test starts. (Untch, Offutt and Harrold: Mutation Analysis Using Mutant
Schemata, 1993.) What does not compile is left out. Goes on where the last run ended, file by file until one changed; prints
date, commit, command and counts, and keeps them in the log.
"""

import argparse
import concurrent.futures
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import random
import re
import resource
import shutil
import subprocess
import sys
import threading
import time

import tree_sitter
import tree_sitter_rust

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORE = pathlib.Path("vexfs_core/src")
FILES = ["journal.rs", "journal/reader.rs", "commit.rs", "recover.rs", "patches.rs", "space.rs"]
# What becomes of an operator.
TURNS = {
    "==": ["!="], "!=": ["=="], "<": ["<="], "<=": ["<"], ">": [">="], ">=": [">"], "&&": ["||"], "||": ["&&"],
    "+": ["-"], "-": ["+"], "+=": ["-="], "-=": ["+="],
}
# Equal to the original for every caller, or only a matter of speed: each with its reason.
EQUAL = {
    "debug_assert": "tells our own mistakes, changes nothing",
    "memory::reserve": "room that is made later anyway",
    "sort_unstable": "order of writes before one flush: any is right",
    "drop(": "memory that is given back a little later anyway",
}
# The same of single changes, by the line and what it becomes there.
SAME = {
    ("let mut next = bit + 1;", "bit"): "the first bit is looked at too, and is as it is",
    ("if bit % 8 == 0 && bit + 8 <= last {", "bit + 8 < last"): "the last byte is taken bit by bit",
    ("if next % 8 == 0 && byte == whole && next + 8 <= self.layout.data_blocks {", "next + 8 < self.layout.data_blocks"):
        "the last byte is taken bit by bit",
    ("while at <= start + LOG_RECORD_MAX as u64 {", "at < start + LOG_RECORD_MAX as u64"): "no record is so long that one begins there",
    ("block.saturating_sub(self.layout.data_start).min(self.layout.data_blocks - 1)", "self.layout.data_blocks + 1"):
        "where to begin to look: any place will do",
    ("block.saturating_sub(self.layout.data_start).min(self.layout.data_blocks - 1)", "self.layout.data_blocks"):
        "where to begin to look: any place will do",
    ("header.length = U32::new((LOG_HEADER + body.len()) as u32);", ""): "it is that already, but where a planted bug left something out",
    ("(start < end).then(|| (part(first), part(second)))", "start <= end"): "an overlap of no bytes changes none",
    ("let mut head = [0; LOG_HEADER];", "1"): "it is read over",
    (".is_ok_and(|head| head.magic.get() == NODE_MAGIC && head.block.get() == block);",
     "head.magic.get() == NODE_MAGIC || head.block.get() == block"): "the tree, which decides, is asked more often",
}
# What cannot hold a change that is chosen at run time, or is no code that runs.
CLOSED = {
    "attribute_item", "const_item", "static_item", "macro_invocation", "macro_definition", "use_declaration", "match_pattern",
    "let_condition", "enum_item", "struct_item", "type_arguments", "type_parameters", "parameters", "array_type",
}
PLAIN = {"call_expression", "try_expression", "assignment_expression", "compound_assignment_expr", "macro_invocation"}
SUITES = ["crash", "faults", "corruption", "repair", "model", "memory"]
PLANTED = re.compile(r'planted\("m(\d+)"\)')
MEMORY = 8 << 30


@dataclasses.dataclass
class Mutant:
    """A change of some code, and where that is."""

    file: str
    line: int
    before: str
    original: str
    changed: str
    number: int = 0

    def key(self):
        return f"{self.before}: {self.original} => {self.changed}"

    def __str__(self):
        return f"{self.file}:{self.line}: {self.original} => {self.changed}"


class Source:
    """A file with all its changes in it, each behind a switch."""

    def __init__(self, name, left_out, numbers):
        self.name, self.left_out, self.numbers = name, left_out, numbers
        self.bytes = (ROOT / CORE / name).read_bytes()
        self.lines = self.bytes.decode().splitlines()
        self.end = self.bytes.find(b"#[cfg(test)]") % (len(self.bytes) + 1)
        self.mutants, self.seen = [], {}
        parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))
        self.text = self.node(parser.parse(self.bytes).root_node)

    def raw(self, node):
        return self.bytes[node.start_byte : node.end_byte].decode()

    def children(self, node, skipped=()):
        """The text of a node, whose children may have changes."""
        parts, at = [], node.start_byte
        for child in node.children:
            parts.append(self.bytes[at : child.start_byte].decode())
            parts.append(self.raw(child) if child in skipped else self.node(child))
            at = child.end_byte
        parts.append(self.bytes[at : node.end_byte].decode())
        return "".join(parts)

    def node(self, node):
        closed = node.type in CLOSED or node.start_byte >= self.end or self.constant(node) or self.bug(node)
        if closed or any(word in self.lines[node.start_point[0]] for word in EQUAL) and node.type == "expression_statement":
            return self.raw(node)
        text = self.children(node, [child for child in node.children if self.names_only(node, child)])
        for changed in self.changes(node):
            text = self.switched(node, text, changed)
        return text

    def constant(self, node):
        """A function that is run by the compiler, too."""
        return node.type == "function_item" and any(
            child.type == "function_modifiers" and "const" in self.raw(child).split() for child in node.children)

    def bug(self, node):
        """What only a planted bug does."""
        return node.type == "if_expression" and self.raw(node.child_by_field_name("condition")).startswith("planted(")

    def names_only(self, node, child):
        """An integer that is the name of a field, a pattern, or a type."""
        field = node.type == "field_expression" and child == node.child_by_field_name("field")
        return field or child.type.endswith(("_pattern", "_type")) or (node.type == "for_expression" and child == node.child_by_field_name("pattern"))

    def changes(self, node):
        """What can be made of an expression or a statement."""
        raw = self.raw(node)
        if node.type in ("binary_expression", "compound_assignment_expr"):
            left, operator, right = (node.child_by_field_name(name) for name in ("left", "operator", "right"))
            if "planted(" in raw:
                return
            sides = [self.raw(side) for side in (left, right)]
            yield from (f"{sides[0]} {turn} {sides[1]}" for turn in TURNS.get(self.raw(operator), []))
            if self.raw(operator) in "+-" and sides[1] == "1":
                yield sides[0]
        elif node.type == "boolean_literal":
            yield {"true": "false", "false": "true"}[raw]
        elif node.type == "integer_literal" and re.fullmatch(r"0([iu]\w+)?", raw):
            yield "1" + raw[1:]
        elif node.type == "expression_statement" and node.children[0].type in PLAIN and "planted(" not in raw:
            yield ""
        parent = node.parent
        condition = parent is not None and parent.type == "if_expression" and node == parent.child_by_field_name("condition")
        if condition and node.type != "let_chain" and "planted(" not in raw:
            yield f"!({raw})"

    def switched(self, node, text, changed):
        line = node.start_point[0]
        if (self.lines[line].strip(), changed) in SAME:
            return text
        mutant = Mutant(self.name, line + 1, self.lines[line].strip(), self.raw(node), changed)
        same = self.seen[mutant.key()] = self.seen.get(mutant.key(), 0) + 1
        mutant.before += f" ({same})" if same > 1 else ""
        mutant.number = self.numbers.setdefault((self.name, mutant.key()), len(self.numbers))
        if mutant.number in self.left_out:
            return text
        self.mutants.append(mutant)
        switch = f'crate::bugs::planted("m{mutant.number}")'
        if node.type == "expression_statement":
            return f"if !{switch} {{ {text} }}"
        return f"(if {switch} {{ {changed} }} else {{ {text} }})"


def cargo(copy, *arguments, messages=False):
    """Runs cargo in the copy; its messages, by line."""
    environment = {**os.environ, "CARGO_TARGET_DIR": str(copy.parent / "mutants-target"),
                   "RUSTFLAGS": "--cfg vexfs_bugs --cap-lints warn",
                   "CARGO_PROFILE_RELEASE_OPT_LEVEL": "2", "CARGO_PROFILE_RELEASE_DEBUG": "false"}
    done = subprocess.run(["cargo", *arguments, "--message-format=json"], cwd=copy, env=environment, check=False,
                          stdout=subprocess.PIPE, stderr=None if messages else subprocess.DEVNULL, text=True)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def blamed(copy, found):
    """Numbers of the changes that the compiler's errors are about: the last switch before each."""
    numbers = set()
    for message in (each["message"] for each in found if each.get("reason") == "compiler-message"):
        if message["level"] != "error":
            continue
        for span in message["spans"]:
            text = (copy / span["file_name"]).read_bytes()[: span["byte_end"] + 40].decode(errors="ignore")
            switches = PLANTED.findall(text)
            numbers.update(int(number) for number in switches[-1:])
    return numbers


def instrument(copy):
    """Writes all changes into the copy, but what does not compile; gives them."""
    left_out, numbers = set(), {}
    while True:
        sources = [Source(name, left_out, numbers) for name in FILES]
        for source in sources:
            (copy / CORE / source.name).write_text(source.text)
        failed, found = cargo(copy, "check", "--release", "--package", "vexfs_core")
        if not failed:
            return [mutant for source in sources for mutant in source.mutants], len(left_out)
        more = blamed(copy, found) - left_out
        if not more:
            sys.exit("the changed sources do not compile, for another reason than a change")
        left_out |= more


def programs(copy):
    """The test programs, as (name, path, directory)."""
    wanted = [["--package", "vexfs_core", "--lib", "--tests"], ["--package", "vexfs_tests", "--no-default-features"]]
    wanted[1] += [word for suite in SUITES for word in ("--test", suite)]
    made = []
    for arguments in wanted:
        failed, found = cargo(copy, "test", "--release", "--no-run", *arguments, messages=True)
        if failed:
            sys.exit("the tests do not compile")
        made += [(each["target"]["name"], each["executable"], pathlib.Path(each["manifest_path"]).parent)
                 for each in found if each.get("executable") and each["profile"]["test"]]
    return made


def passes(program, number, seconds):
    """True if the test program passes with this change (none: with None); one that hangs does not."""
    environment = {**os.environ, "VEXFS_LIMITS": "few", "RUST_BACKTRACE": "0"}
    environment.pop("VEXFS_BUG", None)
    if number is not None:
        environment["VEXFS_BUG"] = f"m{number}"
    try:
        done = subprocess.run([program[1], "--quiet"], cwd=program[2], env=environment, check=False, timeout=seconds,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)))
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def in_order(made):
    """The programs, fastest first, each with the seconds after which it counts as hanging."""
    timed = []
    for program in made:
        begin = time.monotonic()
        if not passes(program, None, None):
            sys.exit(f"{program[0]} fails without any change")
        timed.append((time.monotonic() - begin, program))
    timed.sort(key=lambda each: each[0])
    return [(program, max(60, 20 * seconds)) for seconds, program in timed]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=150)
    parser.add_argument("--count", type=int, default=sys.maxsize, help="changes to try in this run")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--log", type=pathlib.Path, required=True)
    parser.add_argument("--state", type=pathlib.Path, required=True)
    wanted = parser.parse_args()
    end = time.monotonic() + 60 * wanted.minutes
    copy = wanted.state.resolve().parent / "mutants-source"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("target", ".git", "*.img"))
    everything, no_mutants = instrument(copy)
    suites = in_order(programs(copy))
    print(f"{len(everything)} changes, {no_mutants} more do not compile; suites: {', '.join(program[0] for program, _ in suites)}", flush=True)
    random.Random(1).shuffle(everything)

    state = json.loads(wanted.state.read_text()) if wanted.state.exists() else {}
    known = {}
    for name in FILES:
        digest = hashlib.sha256((ROOT / CORE / name).read_bytes()).hexdigest()
        if state.get(name, {}).get("sha256") != digest:
            state[name] = {"sha256": digest, "verdicts": {}}
        known[name] = state[name]["verdicts"]
    todo = [mutant for mutant in everything if mutant.key() not in known[mutant.file]]
    lock, tried = threading.Lock(), 0

    def judge(mutant):
        nonlocal tried
        if time.monotonic() > end:
            return
        noticed = next((program[0] for program, seconds in suites if not passes(program, mutant.number, seconds)), None)
        with lock:
            tried += 1
            known[mutant.file][mutant.key()] = noticed or "survived"
            print(f"{f'killed by {noticed}' if noticed else 'survived'}: {mutant}", flush=True)
            wanted.state.write_text(json.dumps(state, indent=0))

    with concurrent.futures.ThreadPoolExecutor(wanted.jobs) as pool:
        list(pool.map(judge, todo[: wanted.count]))
    verdicts = [known[mutant.file].get(mutant.key()) for mutant in everything]
    survived = verdicts.count("survived")
    killed = len(verdicts) - verdicts.count(None) - survived
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%FT%TZ")
    told = (f"{stamp} {commit} '{' '.join(sys.argv)}' {tried} tried now, {killed + survived} of {len(everything)} in all: "
            f"{killed} killed, {survived} survived; {no_mutants} do not compile")
    print(told)
    with open(wanted.log, "a", encoding="utf-8") as log:
        log.write(told + "\n")
    if killed + survived and killed < 0.9 * (killed + survived):
        sys.exit("fewer than 90 % are killed")
    if None in verdicts:
        print("soak-mutants: more to do")
        sys.exit(3)


main()
