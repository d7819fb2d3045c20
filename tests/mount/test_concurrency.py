"""Many processes at once: nothing is lost, nothing hangs, and fsck finds nothing."""

import multiprocessing
import os
import random
import threading

import numpy as np

WORKERS = 6
STEPS = 600


def work(root, number, results):
    """What one process does; its model, or its error, goes to `results`."""
    try:
        results.put((number, change(root, number)))
    except BaseException as error:
        results.put((number, error))
        raise


def change(root, number):
    """Random operations in a directory of the worker's own, with a model beside them; and in a shared one, without."""
    choose = random.Random(number)
    own, shared = f"{root}/own{number}", f"{root}/shared"
    os.mkdir(own)
    model = {}
    for step in range(STEPS):
        name = f"f{choose.randrange(40)}"
        path = f"{own}/{name}"
        what = choose.randrange(6)
        if what < 2:
            content, value = choose.randbytes(choose.randrange(30_000)), choose.randbytes(64)
            with open(path, "wb") as file:
                file.write(content)
            os.setxattr(path, "user.vector.together:i8", value)
            model[name] = (content, value)
        elif what == 2 and name in model:
            os.unlink(path)
            del model[name]
        elif what == 3 and name in model:
            to = f"f{choose.randrange(40)}"
            os.rename(path, f"{own}/{to}")
            model[to] = model.pop(name)
        elif what == 4:
            with open(f"{shared}/g{choose.randrange(20)}", "ab") as file:
                file.write(b"x" * 100)
        else:
            try:
                os.rename(f"{shared}/g{choose.randrange(20)}", f"{shared}/g{choose.randrange(20)}")
            except FileNotFoundError:
                pass
    return model


def test_processes_at_once(volume):
    (volume.path / "shared").mkdir()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=work, args=(str(volume.path), i, results)) for i in range(WORKERS)]
    for worker in workers:
        worker.start()
    models = dict(results.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()
    assert all(isinstance(model, dict) for model in models.values()), models
    for _ in range(2):
        for number, model in models.items():
            own = volume.path / f"own{number}"
            assert set(os.listdir(own)) == set(model)
            for name, (content, value) in model.items():
                assert (own / name).read_bytes() == content
                assert os.getxattr(own / name, "user.vector.together") == value
        assert int(volume.collection("together").valid.sum()) == sum(map(len, models.values()))
        volume.again()


def map_and_write(root):
    """One thread maps and sums the matrix, the other sets vectors, until 4,000 are set; an error ends the process."""
    stop = threading.Event()
    failures = []

    def scan():
        while not stop.is_set():
            try:
                np.load(f"{root}/.vexfs/collections/c/vectors.npy", mmap_mode="r").sum()
            except Exception as error:
                failures.append(error)
                return

    scanner = threading.Thread(target=scan)
    scanner.start()
    for i in range(4000):
        os.setxattr(f"{root}/f{i % 200}", "user.vector.c", np.full(1024, i, "<f4").tobytes())
    stop.set()
    scanner.join()
    if failures:
        raise failures[0]


def test_mapping_the_matrix_while_writing_to_the_mount(volume4):
    """Faults on a mapping, growth, invalidations and writes at once: none waits for another, and none is a SIGBUS."""
    for i in range(200):
        (volume4.path / f"f{i}").touch()
        os.setxattr(volume4.path / f"f{i}", "user.vector.c", np.full(1024, i, "<f4").tobytes())
    process = multiprocessing.get_context("spawn").Process(target=map_and_write, args=(str(volume4.path),))
    process.start()
    process.join(timeout=120)
    hangs = process.is_alive()
    if hangs:
        process.kill()
    assert not hangs and process.exitcode == 0, f"exit code {process.exitcode}"
