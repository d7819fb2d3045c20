"""What a removed vector leaves in the image: after the commit that removes it, and the work behind that, nothing of its bytes.

The image is searched raw, as who gets hold of the disk would do it.
"""

import os
import time

import numpy as np
import pytest
from volume import BIN, run, wait_for

DIMENSIONS = 96
COUNT = 300
# A whole vector is looked for by pieces of it: a torn copy is a trace, too.
PIECE = 32


class Marked:
    """Vectors whose bytes are found nowhere by chance: random ones, of a seed of their own."""

    def __init__(self, seed, count=COUNT):
        self.vectors = np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype("<f4")

    def bytes(self, i):
        return self.vectors[i].tobytes()

    def pieces(self, i):
        whole = self.bytes(i)
        return [whole[at : at + PIECE] for at in range(0, len(whole), PIECE)]


def traces(volume, marked, gone):
    """Offsets in the image of pieces of the vectors `gone`: (vector, offset)."""
    found = []
    for start, data in segments(volume.image):
        # Candidates by their first element, wherever it begins: the search has to be quick, it is made often.
        heads = {piece[:4]: (piece, i) for i in gone for piece in marked.pieces(i)}
        known = np.sort(np.frombuffer(b"".join(heads), "<u4"))
        for shift in range(4):
            words = np.frombuffer(data, "<u4", (len(data) - shift) // 4, shift)
            places = np.minimum(np.searchsorted(known, words), len(known) - 1)
            for at in np.flatnonzero(known[places] == words) * 4 + shift:
                piece, i = heads[data[at : at + 4]]
                if data[at : at + PIECE] == piece:
                    found.append((i, start + int(at)))
    return found


def segments(image):
    """Offset and bytes of each part of a sparse file that is no hole."""
    descriptor = os.open(image, os.O_RDONLY)
    try:
        end, at = os.fstat(descriptor).st_size, 0
        while at < end:
            try:
                start = os.lseek(descriptor, at, os.SEEK_DATA)
            except OSError:
                return
            at = os.lseek(descriptor, start, os.SEEK_HOLE)
            yield start, os.pread(descriptor, at - start, start)
    finally:
        os.close(descriptor)


def settled(volume, marked, gone):
    """Waits for the commit and what follows it; fails with the place of a trace that stays."""
    wait_for(lambda: not traces(volume, marked, gone), f"no trace: {traces(volume, marked, gone)[:5]}", seconds=25)


def fill(volume, marked, name="things", durable=True):
    for i in range(len(marked.vectors)):
        path = volume.path / f"f{i}"
        path.write_bytes(b"content")
        os.setxattr(path, f"user.vector.{name}", marked.bytes(i))
        if durable and i % 10 == 0:
            # Their bytes ride in a record of the journal.
            volume.sync()
    volume.sync()
    time.sleep(1.5)


def remove_attributes(volume, marked, gone):
    for i in gone:
        os.removexattr(volume.path / f"f{i}", "user.vector.things")


def unlink(volume, marked, gone):
    for i in gone:
        os.unlink(volume.path / f"f{i}")


def overwrite(volume, marked, gone):
    for i in gone:
        os.setxattr(volume.path / f"f{i}", "user.vector.things", np.full(DIMENSIONS, i, "<f4").tobytes())


def remove_and_compact(volume, marked, gone):
    remove_attributes(volume, marked, gone)
    run(BIN / "vexfs", "compact", volume.path / ".vexfs/collections/things")


def remove_what_was_moved(volume, marked, gone):
    """First the others go, and compaction moves those that are to leave no trace afterwards."""
    for i in set(range(COUNT)) - set(gone):
        os.removexattr(volume.path / f"f{i}", "user.vector.things")
    run(BIN / "vexfs", "compact", volume.path / ".vexfs/collections/things")
    remove_attributes(volume, marked, gone)


def remove_collection(volume, marked, gone):
    """At once behind the last vector: its rows are not blanked by then."""
    remove_attributes(volume, marked, range(COUNT))
    os.rmdir(volume.path / ".vexfs/collections/things")


def recode(volume, marked, gone):
    """The matrix before has every vector as it was set."""
    run(BIN / "vexfs", "recode", volume.path / ".vexfs/collections/things", "--codec", "sq8")
    remove_attributes(volume, marked, gone)


@pytest.mark.parametrize(
    "remove",
    [remove_attributes, unlink, overwrite, remove_and_compact, remove_what_was_moved, remove_collection, recode],
    ids=lambda remove: remove.__name__,
)
def test_no_trace_of_a_removed_vector_stays_in_the_image(make_volume, remove):
    volume = make_volume(size="64M", options=["commit=1"])
    marked = Marked(7)
    fill(volume, marked)
    gone = range(100, 200)
    assert len({i for i, _ in traces(volume, marked, gone)}) == len(gone), "the search finds what is there"
    remove(volume, marked, gone)
    settled(volume, marked, gone)
    volume.again()
    assert not traces(volume, marked, gone)
