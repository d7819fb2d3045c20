"""The option `discard`: what files free goes back to the filesystem that a sparse image lies on."""

import os
import random
import re
import threading

from volume import wait_for

MIB = 1 << 20


def used(volume):
    """Bytes that the image takes where it lies, as du tells them."""
    return os.stat(volume.image).st_blocks * 512


def fill(volume, mib):
    with open(volume.path / "big", "wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())


def discarded(volume):
    return int(re.search(r"^vexfs_discarded_bytes_total (\d+)$", (volume.path / ".vexfs" / "metrics").read_text(), re.M)[1])


def test_space_of_a_removed_file_comes_back(make_volume):
    volume = make_volume(options=["discard"])
    volume.sync()
    before = used(volume)
    fill(volume, 48)
    assert used(volume) >= before + 48 * MIB
    os.unlink(volume.path / "big")
    wait_for(lambda: volume.sync() or used(volume) < before + MIB, "the image's space")
    assert discarded(volume) >= 48 * MIB
    # A part of a file, too.
    fill(volume, 16)
    os.truncate(volume.path / "big", 4 * MIB)
    wait_for(lambda: volume.sync() or used(volume) < before + 5 * MIB, "the image's space")
    volume.again()


def test_without_the_option_the_image_keeps_its_space(make_volume):
    volume = make_volume()
    fill(volume, 16)
    before = used(volume)
    os.unlink(volume.path / "big")
    for _ in range(3):
        (volume.path / "other").touch()
        volume.sync()
    assert used(volume) >= before and discarded(volume) == 0


def test_nothing_that_is_still_there_is_discarded(make_volume):
    """Files come, change and go while one commit follows the other: whatever is left has its bytes."""
    choose = random.Random(11)
    volume = make_volume(size="48M", options=["discard"])
    model, done = {}, threading.Event()

    def commits():
        while not done.is_set():
            volume.sync()

    committing = threading.Thread(target=commits)
    committing.start()
    try:
        for _ in range(1500):
            path = volume.path / f"f{choose.randrange(60)}"
            what = choose.randrange(5)
            if what < 3:
                model[path] = choose.randbytes(choose.randrange(1, 300_000))
                path.write_bytes(model[path])
            elif what == 3 and path in model:
                os.unlink(path)
                del model[path]
            elif path in model:
                model[path] = model[path][: choose.randrange(len(model[path]) + 1)]
                os.truncate(path, len(model[path]))
    finally:
        done.set()
        committing.join()
    assert discarded(volume) > 48 * MIB, "blocks were not used again"
    volume.again()
    assert {path: path.read_bytes() for path in volume.path.iterdir()} == model
