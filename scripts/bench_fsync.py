"""What it costs to make a vector durable: setxattr + fsync on VexFS, and on ext4 on the same disk in the same run.

Both filesystems lie on a loop device over a file that is written in full beforehand. A caller makes a file, attaches
a vector of 384 x f32 and calls fsync on it, over and over; the rounds of the two alternate, with one caller and with
several. Printed are the medians of the rounds, their ratios, and flushes and bytes as the loop device counts them.
Needs root, mkfs.ext4 and the programs in target/bin.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

BIN = Path(__file__).resolve().parent.parent / "target" / "bin"
SECTOR = 512


def run(*command):
    return subprocess.run([str(word) for word in command], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def work(directory, caller, seconds, start, done):
    """One caller; puts the number of its files, or what went wrong."""
    try:
        done.put(make_files(directory, caller, seconds, start))
    except OSError as error:
        done.put(error)


def make_files(directory, caller, seconds, start):
    """Files, vectors and fsyncs until the time is over; gives their number."""
    vector = os.urandom(96) * 16
    vector = bytes(byte & 0xBF if at % 4 == 3 else byte for at, byte in enumerate(vector))
    count = 0
    start.wait()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        path = f"{directory}/{caller}-{count}-{end}"
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
        os.setxattr(descriptor, "user.vector.bench", vector)
        os.fsync(descriptor)
        os.close(descriptor)
        count += 1
    return count


class Filesystem:
    """A filesystem on a loop device of its own."""

    def __init__(self, name, directory, size):
        self.name, self.path = name, directory / name
        self.image = directory / f"{name}.img"
        self.path.mkdir()
        run("dd", "if=/dev/zero", f"of={self.image}", "bs=1M", f"count={size >> 20}", "conv=fsync", "status=none")
        self.device = run("losetup", "--find", "--show", self.image)

    def mount(self):
        if self.name == "ext4":
            options = ("-b", "4096", "-i", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0")
            run("mkfs.ext4", "-q", "-F", *options, self.device)
            run("mount", self.device, self.path)
        else:
            run(BIN / "mkfs.vexfs", "-q", self.device)
            run(BIN / "mount.vexfs", self.device, self.path)

    def unmount(self):
        run(*(["umount"] if self.name == "ext4" else [BIN / "umount.vexfs"]), self.path)

    def close(self):
        if os.path.ismount(self.path):
            self.unmount()
        run("losetup", "--detach", self.device)

    def counters(self):
        """Flushes and bytes written of the device so far (Linux, Documentation/block/stat.rst)."""
        fields = Path(f"/sys/block/{Path(self.device).name}/stat").read_text().split()
        return int(fields[15]), int(fields[6]) * SECTOR

    def round(self, callers, seconds):
        """Operations a second, and flushes and bytes an operation."""
        start, done = multiprocessing.Event(), multiprocessing.Queue()
        processes = [
            multiprocessing.Process(target=work, args=(self.path, caller, seconds, start, done))
            for caller in range(callers)
        ]
        for process in processes:
            process.start()
        flushes, written = self.counters()
        began = time.monotonic()
        start.set()
        counts = [done.get() for _ in processes]
        took = time.monotonic() - began
        for problem in counts:
            if isinstance(problem, OSError):
                raise problem
        count = sum(counts)
        after_flushes, after_written = self.counters()
        for process in processes:
            process.join()
        # Neither timed nor counted: room for the next round.
        for entry in os.scandir(self.path):
            if entry.is_file():
                os.unlink(entry.path)
        os.sync()
        return count / took, (after_flushes - flushes) / count, (after_written - written) / count


def measure(filesystems, callers, rounds, seconds):
    """The medians of alternating rounds, a row for each filesystem."""
    results = {filesystem.name: [] for filesystem in filesystems}
    for _ in range(rounds):
        for filesystem in filesystems:
            results[filesystem.name].append(filesystem.round(callers, seconds))
    return {name: [statistics.median(column) for column in zip(*rows)] for name, rows in results.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each filesystem [5]")
    parser.add_argument("--seconds", type=float, default=3, help="length of a round [3]")
    parser.add_argument("--size", type=int, default=512, help="MiB of each filesystem [512]")
    parser.add_argument("--directory", help="where the images go [a temporary directory]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vexfs-bench-", dir=options.directory) as directory:
        filesystems = [Filesystem(name, Path(directory), options.size << 20) for name in ("ext4", "vexfs")]
        try:
            for filesystem in filesystems:
                filesystem.mount()
            print(f"{'callers':>7}  {'':8} {'setxattr + fsync/s':>20} {'flushes each':>14} {'bytes each':>12} {'ratio':>7}")
            alone = None
            for callers in (1, 2, 4):
                medians = measure(filesystems, callers, options.rounds, options.seconds)
                for name, (rate, flushes, written) in medians.items():
                    ratio = rate / medians["ext4"][0]
                    print(f"{callers:7}  {name:8} {rate:20.0f} {flushes:14.2f} {written:12.0f} {ratio:7.2f}")
                alone = alone or medians
                print(f"         vexfs with {callers} against vexfs with 1: {medians['vexfs'][0] / alone['vexfs'][0]:.2f}")
        finally:
            for filesystem in filesystems:
                filesystem.close()


if __name__ == "__main__":
    main()
