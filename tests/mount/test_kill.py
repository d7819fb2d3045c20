"""kill -9 of the daemon under load: what fsync said is durable is there after the next mount (P1, P3)."""

import hashlib
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
from volume import attribute

KILLS = 20
CALLERS = 3
DIMENSIONS = 96


def vector_of(name):
    """The vector that belongs to a file's name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    return np.random.default_rng(seed).standard_normal(DIMENSIONS).astype("<f4")


def content_of(name, length):
    return hashlib.shake_128(name.encode()).digest(length)


def work(directory, caller, round_number, told):
    """Makes, overwrites, renames and removes files, and tells what fsync promised, until the daemon is gone."""
    chance = random.Random(f"{caller}-{round_number}")
    mine = []
    try:
        directory_fd = os.open(directory, os.O_RDONLY)
        for count in range(1_000_000):
            name = f"{round_number}-{caller}-{count}"
            path = f"{directory}/{name}"
            length = chance.choice([10, 700, 3000, 5000, 70_000])
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
            os.write(descriptor, content_of(name, length))
            os.setxattr(descriptor, attribute("kill"), vector_of(name).tobytes())
            os.fsync(descriptor)
            os.close(descriptor)
            told.send(("there", name, name, length))
            mine.append((name, length))
            if chance.random() < 0.3:
                victim, length = mine.pop(chance.randrange(len(mine)))
                if chance.random() < 0.5:
                    # Until the fsync it may be at either place.
                    told.send(("moving", victim, None, 0))
                    os.rename(f"{directory}/{victim}", f"{directory}/{victim}-moved")
                    os.fsync(directory_fd)
                    told.send(("there", f"{victim}-moved", victim, length))
                else:
                    told.send(("moving", victim, None, 0))
                    os.unlink(f"{directory}/{victim}")
                    os.fsync(directory_fd)
                told.send(("gone", victim, None, 0))
    except (OSError, BrokenPipeError):
        # The daemon is gone, as planned.
        pass
    told.close()


def collect(pipes):
    """What was promised, from all that the callers managed to tell."""
    there, gone = {}, set()
    for pipe in pipes:
        while True:
            try:
                what, name, origin, length = pipe.recv()
            except EOFError:
                break
            if what == "there":
                there[name] = (origin, length)
            else:
                there.pop(name, None)
            if what == "gone":
                gone.add(name)
    return there, gone


@pytest.mark.parametrize("block", ["4K", "16K"])
def test_what_was_synced_survives_kills_of_the_daemon(make_volume, block):
    volume = make_volume(block, size="2G", options=("commit=2",))
    promised, removed, replays = {}, set(), 0
    chance = random.Random(block)
    for round_number in range(KILLS // 2):
        pairs = [multiprocessing.Pipe(duplex=False) for _ in range(CALLERS)]
        callers = [
            multiprocessing.Process(target=work, args=(volume.path, caller, round_number, sender))
            for caller, (_, sender) in enumerate(pairs)
        ]
        for process in callers:
            process.start()
        for _, sender in pairs:
            sender.close()
        time.sleep(chance.uniform(0.2, 1.2))
        volume.kill(signal.SIGKILL)
        there, gone = collect([receiver for receiver, _ in pairs])
        for process in callers:
            process.join()
        promised = {name: value for name, value in promised.items() if name not in gone} | there
        removed |= gone
        volume.fsck()
        volume.mount("commit=2")
        replays += "replayed" in volume.log()
        names = set(os.listdir(volume.path))
        assert promised.keys() <= names, f"lost: {sorted(promised.keys() - names)[:5]}"
        assert not removed & names, f"back again: {sorted(removed & names)[:5]}"
        for name, (origin, length) in there.items():
            assert (volume.path / name).read_bytes() == content_of(origin, length), name
            value = os.getxattr(volume.path / name, attribute("kill"))
            assert value == vector_of(origin).tobytes(), name
    assert len(promised) > 100 and replays > KILLS // 4, (len(promised), replays)
    print(f"\n  {KILLS // 2} kills, {len(promised)} files promised and there, {replays} mounts by the journal")
