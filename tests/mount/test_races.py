"""Opens against unlinks and renames: a file that was opened keeps its bytes until its last close, whoever removes
its names meanwhile, and its space comes back afterwards."""

import multiprocessing
import os
import stat

ROUNDS = 80
READERS = 3
# Every other block is a hole, so that the file has more extents than an unlink frees by itself.
BLOCKS = 260
CONTENT = b"".join(bytes([number % 251]) * 4096 if number % 2 else bytes(4096) for number in range(BLOCKS))


def make(path):
    with open(path, "xb", buffering=0) as file:
        for number in range(1, BLOCKS, 2):
            os.pwrite(file.fileno(), bytes([number % 251]) * 4096, number * 4096)


def read(root, results):
    """Opens the file by either name for as long as there is a `going`; what it reads must be all of it."""
    opened, unlinked = 0, 0
    try:
        while os.path.exists(f"{root}/going"):
            for name in ("one", "two"):
                try:
                    descriptor = os.open(f"{root}/{name}", os.O_RDONLY)
                except FileNotFoundError:
                    continue
                with open(descriptor, "rb") as file:
                    found = os.fstat(descriptor)
                    assert stat.S_ISREG(found.st_mode) and found.st_size == len(CONTENT), found
                    assert file.read() == CONTENT, f"{name}: other bytes, {found.st_nlink} links"
                    opened += 1
                    unlinked += os.fstat(descriptor).st_nlink == 0
        results.put((opened, unlinked))
    except BaseException as error:
        results.put(error)
        raise


def remove(root, name, order, done):
    """Removes `name` each time it is told to."""
    while order.get():
        os.unlink(f"{root}/{name}")
        done.put(name)


def test_an_open_file_keeps_its_bytes_while_its_names_go(volume4):
    root = str(volume4.path)
    empty = volume4.settle(still_seconds=1)
    (volume4.path / "going").touch()
    context = multiprocessing.get_context("spawn")
    results, done = context.Queue(), context.Queue()
    orders = {name: context.Queue() for name in ("one", "two")}
    readers = [context.Process(target=read, args=(root, results)) for _ in range(READERS)]
    removers = [context.Process(target=remove, args=(root, name, orders[name], done)) for name in orders]
    for process in readers + removers:
        process.start()
    for number in range(ROUNDS):
        make(f"{root}/new")
        os.link(f"{root}/new", f"{root}/two")
        os.rename(f"{root}/new", f"{root}/one")
        if number % 4 == 0:
            # Replaced instead of removed.
            make(f"{root}/other")
            os.rename(f"{root}/other", f"{root}/one")
        for order in orders.values():
            order.put(True)
        for _ in orders:
            done.get(timeout=60)
    os.unlink(f"{root}/going")
    for order in orders.values():
        order.put(False)
    found = [results.get(timeout=60) for _ in readers]
    for process in readers + removers:
        process.join(timeout=60)
    assert not [error for error in found if isinstance(error, BaseException)], found
    assert sum(unlinked for _, unlinked in found) > 0, f"no reader ever had the file open without a name: {found}"
    assert os.listdir(root) == []
    assert volume4.settle(still_seconds=1) == empty, "space did not come back"
