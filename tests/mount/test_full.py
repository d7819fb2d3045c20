"""A full volume under many hands: calls that wait for a commit to bring space hold no other up for ever, and a call
that fails changes nothing."""

import errno
import multiprocessing
import os
import random

WORKERS = 8
STEPS = 500
FILES = 40
BYTES_MAX = 120_000


def work(root, number, results):
    """Changes files of its own; gives the model of them, and how often there was no space."""
    choose = random.Random(number)
    model, refused = {}, 0
    try:
        for _ in range(STEPS):
            path = f"{root}/{number}.{choose.randrange(FILES)}"
            try:
                change(choose, model, path)
            except OSError as error:
                assert error.errno == errno.ENOSPC, f"{path}: {error}"
                refused += 1
        results.put((model, refused))
    except BaseException as error:
        results.put(error)
        raise


def change(choose, model, path):
    """One random call; the model follows once it succeeded."""
    what = choose.randrange(8)
    if path not in model:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR))
        model[path] = b""
    before = model[path]
    descriptor = os.open(path, os.O_RDWR)
    try:
        if what < 4:
            offset, content = choose.randrange(len(before) + 9000), choose.randbytes(choose.randrange(1, BYTES_MAX))
            # The kernel may send it in parts, of which the last find no space.
            content = content[: os.pwrite(descriptor, content, offset)]
            model[path] = before[:offset].ljust(offset, b"\0") + content + before[offset + len(content) :]
        elif what == 4:
            size = choose.randrange(2 * len(before) + 5000)
            os.ftruncate(descriptor, size)
            model[path] = before[:size].ljust(size, b"\0")
        elif what == 5:
            end = choose.randrange(1, BYTES_MAX)
            os.posix_fallocate(descriptor, 0, end)
            model[path] = before.ljust(end, b"\0")
        elif what == 6:
            os.fsync(descriptor)
        else:
            os.unlink(path)
            del model[path]
    finally:
        os.close(descriptor)


def test_a_full_volume_under_many_hands(make_volume):
    volume = make_volume(size="12M", options=["commit=1"])
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=work, args=(str(volume.path), number, results)) for number in range(WORKERS)]
    for worker in workers:
        worker.start()
    found = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    assert not [error for error in found if isinstance(error, BaseException)], found
    assert sum(refused for _, refused in found) > 0, "the volume never was full"
    expected = {path: content for model, _ in found for path, content in model.items()}
    for again in (False, True):
        if again:
            volume.again()
        assert {str(path) for path in volume.path.iterdir()} == set(expected)
        for path, content in expected.items():
            with open(path, "rb") as file:
                assert file.read() == content, f"{path}, {'after a remount' if again else 'at once'}"
    for path in expected:
        os.unlink(path)
