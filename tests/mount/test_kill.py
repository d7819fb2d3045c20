"""The daemon is killed in the midst of work, again and again: what was acknowledged is there (P1), a file replaced by
rename is the old one or the new one, with its own vector (P2, P7), and the next mount needs no fsck (P3)."""

import multiprocessing
import os
import random
import time

from volume import wait_for

# `make soak-kill` goes on with other seeds.
KILLS = int(os.environ.get("VEXFS_KILLS", "20"))
SEED = int(os.environ.get("VEXFS_SEED", "7"))
WORKERS = 4
NAMES = 12
VECTOR = "user.vector.v:i8"


def content(worker, name, version):
    """What the file holds in this version, and its vector."""
    choose = random.Random(f"{worker}.{name}.{version}")
    return choose.randbytes(choose.randrange(1, 40_000)), choose.randbytes(64)


def work(root, acknowledged, worker, versions, seed):
    """Replaces files until the daemon is gone; notes a version once it must survive."""
    choose = random.Random(seed)
    with open(acknowledged, "a", buffering=1, encoding="ascii") as notes:
        try:
            # By the mount itself: its path leads elsewhere once it is gone.
            os.chdir(root)
            directory = os.open(".", os.O_RDONLY)
            while True:
                name = f"{worker}.{choose.randrange(NAMES)}"
                version = versions.get(name, 0) + 1
                data, vector = content(worker, name, version)
                synchronous = version % 2
                file = os.open(f"{name}.new", os.O_CREAT | os.O_TRUNC | os.O_WRONLY | (os.O_DSYNC if synchronous else 0))
                os.setxattr(file, VECTOR, vector)
                assert os.write(file, data) == len(data)
                if not synchronous:
                    os.fsync(file)
                os.close(file)
                os.rename(f"{name}.new", name)
                os.fsync(directory)
                versions[name] = version
                notes.write(f"{name} {version}\n")
        except OSError:
            # The daemon is gone.
            os._exit(0)


def size(path):
    return path.stat().st_size if path.exists() else 0


def acknowledged_versions(path, found):
    """Name -> the last version that must survive: one that was acknowledged, or was found after an earlier kill."""
    versions = dict(found)
    for line in path.read_text().splitlines():
        name, version = line.split()
        versions[name] = max(versions.get(name, 0), int(version))
    return versions


def test_what_was_acknowledged_survives_the_daemon(make_volume, tmp_path):
    choose = random.Random(SEED)
    volume = make_volume(size="256M", options=["commit=1"])
    context = multiprocessing.get_context("fork")
    notes = [tmp_path / f"acknowledged{worker}" for worker in range(WORKERS)]
    versions = [{} for _ in range(WORKERS)]
    for kill in range(KILLS):
        workers = [
            context.Process(target=work, args=(str(volume.path), str(notes[worker]), worker, versions[worker], f"{SEED}.{kill}.{worker}"))
            for worker in range(WORKERS)
        ]
        before = [(note, size(note)) for note in notes]
        for process in workers:
            process.start()
        wait_for(lambda: all(size(note) > least for note, least in before), "the first note of each worker")
        time.sleep(choose.random() / 2)
        volume.kill()
        for process in workers:
            process.join()
        volume.fsck()
        volume.mount("commit=1")
        for worker, note in enumerate(notes):
            versions[worker] = survived(volume, worker, acknowledged_versions(note, versions[worker]))
    acknowledged = sum(len(note.read_text().splitlines()) for note in notes)
    print(f"{KILLS} kills, {acknowledged} acknowledged versions, all of them there")
    assert acknowledged > KILLS * WORKERS


def survived(volume, worker, must):
    """Checks a worker's files; gives the versions that are there."""
    found = {}
    for number in range(NAMES):
        name = f"{worker}.{number}"
        path = volume.path / name
        least = must.get(name, 0)
        if not path.exists():
            assert least == 0, f"{name}: version {least} must be there, and the file is gone"
            continue
        data, vector = path.read_bytes(), os.getxattr(path, VECTOR)
        for version in (least, least + 1):
            if (data, vector) == content(worker, name, version):
                found[name] = version
        assert name in found, f"{name}: neither version {least}, which must have survived, nor the next one"
    return found
