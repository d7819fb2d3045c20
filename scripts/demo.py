#!/usr/bin/env python3
"""VexFS in five minutes: documents, their embeddings as attributes, and the matrix that numpy maps.

Each step prints what it does and its command, and stops the demo with an error if anything is not as it should be.
Works in a new directory below TMPDIR (or /tmp) and takes it away at the end; always unmounts.
"""

import argparse
import base64
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import documents
import embed

ROOT = Path(__file__).resolve().parent.parent
QUESTIONS = [
    "check and repair a damaged filesystem",
    "compress a file to save disk space",
    "map a file into memory",
]
ATTRIBUTE = f"user.vector.{embed.COLLECTION}"
NEAREST = 3


class Failed(Exception):
    """Something is not as it should be."""


class Demo:
    """One run: the image, its mount, and what was put there."""

    def __init__(self, work, questions):
        self.work = work
        self.image = work / "demo.img"
        self.mount = work / "mnt"
        self.questions = questions
        self.number = 0
        self.model = embed.Model()
        self.contents = {}
        self.vectors = None

    def step(self, text):
        """Announces a step."""
        self.number += 1
        print(f"\n{self.number}. {text}", flush=True)

    def run(self, *command):
        """Shows a command, runs it, gives what it printed."""
        words = [str(word) for word in command]
        print("   $ " + " ".join(shlex.quote(word) for word in words), flush=True)
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise Failed(f"{words[0]} failed with exit code {done.returncode}:\n{done.stdout}")
        return done.stdout

    def format_and_mount(self):
        self.step("Format an image of 2 GiB and mount it")
        show(self.run("mkfs.vexfs", "-L", "demo", self.image, "2G"))
        self.mount.mkdir()
        self.run("mount.vexfs", self.image, self.mount)
        show(self.run("df", "-h", self.mount))

    def copy_documents(self):
        self.step("Copy this machine's manual pages and READMEs onto it")
        found = documents.collect()
        for name, content in found:
            path = self.mount / "docs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.contents = {self.mount / "docs" / name: content for name, content in sorted(found)}
        size = sum(len(content) for content in self.contents.values())
        print(f"   {len(self.contents)} documents, {size / 1e6:.1f} MB")
        self.verify_contents()

    def embed_documents(self):
        self.step(f"Embed them: TF-IDF and a truncated SVD, {embed.DIMENSIONS} dimensions (scripts/embed.py)")
        self.vectors = self.model.fit(embed.text_of(path.read_bytes()) for path in self.contents)
        print(f"   {self.vectors.shape[0]} vectors of {self.vectors.shape[1]} x {self.vectors.dtype}, unit length")

    def attach_vectors(self):
        self.step("Attach each vector to its file")
        print(f'   >>> os.setxattr(path, "{ATTRIBUTE}", vector.tobytes())')
        embed.attach(self.contents, self.vectors)
        self.verify_attributes()
        print(f"   {len(self.contents)} attributes set and read back")

    def show_attributes(self):
        self.step("The same with the shell's tools")
        path = next(iter(self.contents))
        show(shorten(self.run("getfattr", "--absolute-names", "-d", "-m", r"^user\.vector\.", "-e", "base64", path)))
        vector = np.array([0.6, 0.8, 0, 0], "<f4")
        value = "0s" + base64.b64encode(vector.tobytes()).decode()
        self.run("setfattr", "-n", "user.vector.tiny", "-v", value, path)
        show(self.run("getfattr", "--absolute-names", "-n", "user.vector.tiny", "-e", "hex", path))
        expect(os.getxattr(path, "user.vector.tiny") == vector.tobytes(), "getxattr differs from what setfattr stored")
        os.removexattr(path, "user.vector.tiny")

    def map_matrix(self):
        self.step("The whole collection is one matrix; numpy maps it")
        matrix = self.columns()["vectors"]
        print(f'   >>> m = np.load(".vexfs/collections/{embed.COLLECTION}/vectors.npy", mmap_mode="r")')
        print(f"   {type(matrix).__name__} of {matrix.shape[0]} x {matrix.shape[1]}, {matrix.dtype}")
        self.verify_matrix()
        print("   every row is the vector that was stored, byte for byte")

    def ask(self):
        self.step("Nearest neighbours, straight off the mapping")
        print("   >>> np.argsort(-np.where(valid, m @ q, -np.inf))")
        names = embed.paths_by_inode(self.mount / "docs")
        paths = list(self.contents)
        for question in self.questions:
            query = self.model.embed([question])[0]
            if not query.any():
                raise Failed(f"no word of '{question}' occurs in the documents; ask with others")
            before = self.vectors @ query
            best = {paths[i]: before[i] for i in np.argsort(-before, kind="stable")[:NEAREST]}
            mapped = {names[inode]: score for score, inode in embed.nearest(self.mount, query, NEAREST)}
            print(f"   {question}?")
            for path, score in mapped.items():
                print(f"     {score:.3f}  {path.relative_to(self.mount)}")
            expect(list(mapped) == list(best), f"numpy's answer on the vectors before they were stored is {list(best)}")
            expect(np.allclose(list(mapped.values()), list(best.values()), atol=1e-6), "scores differ")
        print("   the same answers as from the vectors in memory before they were stored")

    def copy_away_and_back(self):
        self.step("Copy a tree off the volume and back: the vectors come along")
        away = self.work / "away"
        away.mkdir()
        tree = self.mount / "docs" / "man8"
        if not tree.is_dir():
            tree = next(path.parent for path in self.contents)
        self.run("cp", "-a", tree, away / "cp")
        self.run("rsync", "-aX", f"{tree}/", f"{away / 'rsync'}/")
        self.run("cp", "-a", away / "cp", self.mount / "cp")
        self.run("rsync", "-aX", f"{away / 'rsync'}/", f"{self.mount / 'rsync'}/")
        count = 0
        for path in embed.files_below(tree):
            name = path.relative_to(tree)
            for copy in (away / "cp", away / "rsync", self.mount / "cp", self.mount / "rsync"):
                expect((copy / name).read_bytes() == self.contents[path], f"{copy / name}: content differs")
                expect(os.getxattr(copy / name, ATTRIBUTE) == os.getxattr(path, ATTRIBUTE), f"{copy / name}: vector differs")
                count += 1
        valid = self.columns()["valid"]
        print(f"   {count} copies have their vectors; the collection went from {len(self.contents)} to {int(valid.sum())} rows")
        shutil.rmtree(self.mount / "cp")
        shutil.rmtree(self.mount / "rsync")
        expect(int(self.columns()["valid"].sum()) == len(self.contents), "removed files left rows behind")

    def check_and_mount_again(self):
        self.step("Unmount, check, mount again: it is all still there")
        self.run("umount.vexfs", self.mount)
        show(self.run("fsck.vexfs", "-n", "-f", self.image))
        self.run("mount.vexfs", self.image, self.mount)
        self.verify_contents()
        self.verify_attributes()
        self.verify_matrix()
        print(f"   {len(self.contents)} documents, their attributes and the matrix are as before")
        self.run("umount.vexfs", self.mount)

    def columns(self):
        """The collection's columns, mapped."""
        directory = self.mount / ".vexfs" / "collections" / embed.COLLECTION
        return {name: np.load(directory / f"{name}.npy", mmap_mode="r") for name in ("vectors", "headers", "valid")}

    def verify_contents(self):
        for path, content in self.contents.items():
            expect(path.read_bytes() == content, f"{path}: content differs")

    def verify_attributes(self):
        for path, vector in zip(self.contents, self.vectors, strict=True):
            expect(os.getxattr(path, ATTRIBUTE) == vector.tobytes(), f"{path}: {ATTRIBUTE} differs")

    def verify_matrix(self):
        columns = self.columns()
        row_of = {int(columns["headers"]["file_inode"][row]): row for row in np.flatnonzero(columns["valid"])}
        expect(len(row_of) == len(self.contents), f"{len(row_of)} live rows for {len(self.contents)} files")
        for path, vector in zip(self.contents, self.vectors, strict=True):
            row = columns["vectors"][row_of[path.stat().st_ino]]
            expect(row[: embed.DIMENSIONS].tobytes() == vector.tobytes(), f"{path}: its row differs from its vector")

    def all(self):
        """The whole demo."""
        self.format_and_mount()
        self.copy_documents()
        self.embed_documents()
        self.attach_vectors()
        self.show_attributes()
        self.map_matrix()
        self.ask()
        self.copy_away_and_back()
        self.check_and_mount_again()

    def clean(self):
        """Unmounts, whatever happened, and takes the work directory away."""
        for command in (["umount.vexfs"], ["umount"], ["umount", "-l"]):
            if os.path.ismount(self.mount):
                subprocess.run([*command, self.mount], stdin=subprocess.DEVNULL, check=False)
        if not os.path.ismount(self.mount):
            shutil.rmtree(self.work, ignore_errors=True)


def expect(truth, otherwise):
    if not truth:
        raise Failed(otherwise)


def show(text):
    for line in text.rstrip().splitlines():
        print("   " + line)


def shorten(text, width=100):
    return "\n".join(line if len(line) <= width else line[:width] + "..." for line in text.splitlines())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--question", action="append", default=[], help="one more question to answer")
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{ROOT / 'target' / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="vexfs-demo-"))
    demo = Demo(work, QUESTIONS + [question for question in arguments.question if question])
    try:
        demo.all()
    except Failed as failure:
        sys.exit(f"\ndemo: {failure}")
    finally:
        demo.clean()
    print(f"\nAll of it was as it should be. ({time.monotonic() - started:.0f} s; formatted, mounted and taken away again in {work})")


if __name__ == "__main__":
    main()
