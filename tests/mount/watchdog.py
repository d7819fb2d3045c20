"""Ends the daemons of a test that hangs: watchdog.py SECONDS DIRECTORY

A call into a daemon that never answers can be interrupted by nothing in the process that waits. So this one waits
beside it, and after SECONDS kills every process that has an image below DIRECTORY open; the call then fails.
"""

import os
import signal
import sys
import time


def holders(directory):
    """Processes of VexFS that have an image below the directory open."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if "vexfs" not in os.path.basename(os.readlink(f"/proc/{name}/exe")):
                continue
            opened = [os.readlink(f"/proc/{name}/fd/{entry}") for entry in os.listdir(f"/proc/{name}/fd")]
        except OSError:
            continue
        if any(path.startswith(directory + "/") for path in opened):
            yield int(name)


def main():
    seconds, directory = float(sys.argv[1]), sys.argv[2]
    parent = os.getppid()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(1)
        if os.getppid() != parent:
            return
    for pid in holders(directory):
        print(f"watchdog: the test took more than {seconds:.0f} s; killing its daemon {pid}", file=sys.stderr)
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
