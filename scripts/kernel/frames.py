#!/usr/bin/env python3
"""The stack that a mount needs in vexfs.ko, by the frames of its functions: a kernel task has 16 KiB, of which the way to mount(2)
and from there to a disk takes a third.

Usage: frames.py vexfs.ko     fails if the frames of a mount add up to more than LIMIT, or any is larger than LARGEST.
"""

import re
import subprocess
import sys

LIMIT = 8192
LARGEST = 4096
# Called one by the other, down to where the first block is read (`vexfs_core/src/volume/open.rs`).
MOUNT = ["vexfs_kernel::mount::Mount>::new", "vexfs_kernel::mount::open", "::mount", "::open_damaged", "::open_generation",
         "::space_of"]


def frames(module):
    """The bytes that each function takes from the stack at once, by its name."""
    text = subprocess.run(["objdump", "-d", "-C", "--no-show-raw-insn", module], check=True, capture_output=True, text=True).stdout
    found, name = {}, ""
    for line in text.splitlines():
        if match := re.match(r"^[0-9a-f]+ <(.+)>:$", line):
            name = match[1]
        elif match := re.search(r"sub\s+\$0x([0-9a-f]{1,7}),%rsp", line):
            found[name] = max(found.get(name, 0), int(match[1], 16))
    return found


def main():
    found = frames(sys.argv[1])
    largest = max(found, key=found.get)
    if found[largest] > LARGEST:
        sys.exit(f"frames: {largest} takes {found[largest]} bytes of the stack at once; {LARGEST} are too many for a kernel's 16 KiB")
    total = 0
    for part in MOUNT:
        # One that is not there is part of its caller's.
        names = [name for name in found if re.split(r"::<vexfs_kernel", name)[0].endswith(part)]
        total += max((found[name] for name in names), default=0)
    if not total:
        sys.exit("frames: no function of a mount was found: have they other names now?")
    if total > LIMIT:
        sys.exit(f"frames: a mount's functions take {total} bytes of the stack; more than {LIMIT} are too many for a kernel's 16 KiB")
    print(f"frames: ok: {total} bytes of stack for a mount, {found[largest]} for the largest function ({largest})")


main()
