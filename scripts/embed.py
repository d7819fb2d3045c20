#!/usr/bin/env python3
"""Embeds text files and keeps the embeddings with the files, as the attribute user.vector.COLLECTION.

The embedding is TF-IDF reduced by a truncated SVD (scikit-learn), 256 dimensions of f32, unit length: it is made
from the documents themselves, needs no download, and the same documents give the same model.

    embed.py attach DIRECTORY --model FILE     fits the model to the files below DIRECTORY, sets their attributes
    embed.py ask MOUNT QUESTION --model FILE   prints the files of a VexFS mount nearest to a question
"""

import argparse
import os
import re
import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

DIMENSIONS = 256
SEED = 0
COLLECTION = "tfidf"

ROFF_MACRO = re.compile(r"^[.'][ \t]*(\\\".*|[A-Za-z]+)", re.MULTILINE)
ROFF_ESCAPE = re.compile(r"\\(f\[[^\]]*\]|f\(..|f.|s[-+]?\d+|\*\[[^\]]*\]|\*\(..|\[[^\]]*\]|\((?:..)|[&|^%:,/])")


class Model:
    """Turns texts into unit vectors of `DIMENSIONS` floats."""

    def __init__(self):
        self.terms = TfidfVectorizer(
            stop_words="english",
            sublinear_tf=True,
            max_df=0.3,
            min_df=2,
            max_features=40_000,
            token_pattern=r"(?u)\b[a-zA-Z][a-zA-Z0-9]+\b",
        )
        self.reduction = TruncatedSVD(DIMENSIONS, random_state=SEED)

    def fit(self, texts):
        """Learns words and axes from the texts; gives their vectors, one a row."""
        return self._unit(self.reduction.fit_transform(self.terms.fit_transform(texts)))

    def embed(self, texts):
        """Vectors of texts, with what `fit` learnt."""
        return self._unit(self.reduction.transform(self.terms.transform(texts)))

    @staticmethod
    def _unit(vectors):
        return np.ascontiguousarray(normalize(vectors).astype("<f4"))


def text_of(content):
    """The words of a document: UTF-8 or Latin-1, with a manual page's markup taken out."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if re.search(r"^[.'](TH|Dd|SH|Sh|so)\b", text, re.MULTILINE):
        text = ROFF_ESCAPE.sub("", ROFF_MACRO.sub("", text)).replace("\\-", "-")
    return text


def files_below(directory):
    """All regular files below a directory, in the order of their paths."""
    return sorted(path for path in Path(directory).rglob("*") if path.is_file() and not path.is_symlink())


def attach(paths, vectors, collection=COLLECTION):
    """Sets each file's vector as its attribute."""
    name = f"user.vector.{collection}"
    for path, vector in zip(paths, vectors, strict=True):
        os.setxattr(path, name, vector.tobytes())


def paths_by_inode(directory):
    """Inode number -> path, of the files below a directory: what a row of headers.npy names."""
    return {path.stat().st_ino: path for path in files_below(directory)}


def nearest(mount, question, count=3, collection=COLLECTION):
    """The rows nearest to a question's vector, best first: (score, inode), from the mapped matrix alone."""
    columns = Path(mount) / ".vexfs" / "collections" / collection
    matrix = np.load(columns / "vectors.npy", mmap_mode="r")
    valid = np.load(columns / "valid.npy", mmap_mode="r")
    inodes = np.load(columns / "headers.npy", mmap_mode="r")["file_inode"]
    scores = np.where(valid, matrix[:, : len(question)] @ question, -np.inf)
    return [(float(scores[row]), int(inodes[row])) for row in np.argsort(-scores, kind="stable")[:count]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("attach", help="embed the files below a directory")
    command.add_argument("directory")
    command.add_argument("--model", required=True, help="file to keep the fitted model in")
    command = commands.add_parser("ask", help="print the files nearest to a question")
    command.add_argument("mount")
    command.add_argument("question")
    command.add_argument("--model", required=True, help="file that `attach` kept the model in; run only your own")
    arguments = parser.parse_args()

    if arguments.command == "attach":
        paths = files_below(arguments.directory)
        if len(paths) <= DIMENSIONS:
            sys.exit(f"{arguments.directory}: {len(paths)} files; a model of {DIMENSIONS} dimensions needs more than that")
        model = Model()
        attach(paths, model.fit(text_of(path.read_bytes()) for path in paths))
        joblib.dump(model, arguments.model)
        print(f"{len(paths)} files have user.vector.{COLLECTION}")
    else:
        question = joblib.load(arguments.model).embed([arguments.question])[0]
        paths = paths_by_inode(arguments.mount)
        for score, inode in nearest(arguments.mount, question):
            print(f"{score:.3f}  {paths.get(inode, f'inode {inode}')}")


if __name__ == "__main__":
    main()
