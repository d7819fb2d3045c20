# Sourced by posix.sh and soak-apps.sh: a fresh volume for each suite, and what is compared at its end.
#
# start: a fresh image, mounted. finish: all that is on it is listed with its bytes, the volume unmounted, checked by
# fsck.vexfs -n -f, mounted and listed again. stop: unmounted and checked. `fail` ends the run.
set -Eeuo pipefail

program=$(basename "$0" .sh)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=$root/target/bin
data=$root/scripts/posix
work=$(mktemp -d "${VEXFS_WORK:-${TMPDIR:-/tmp}}/vexfs-$program.XXXXXX")
image=$work/volume.img
mnt=$work/mnt
suite=

say() { echo "$program: $*"; }
fail() {
    say "$suite FAILED: $*" >&2
    exit 1
}

# What nothing else explains: where the script stopped, what is mounted, and the daemon's last words.
stopped() {
    say "$suite FAILED: exit code $1 in line $2" >&2
    grep -F "$work" /proc/self/mounts >&2 || say "nothing is mounted" >&2
    tail -n 20 "$work/messages" >&2
}
trap 'stopped $? $LINENO' ERR

clean_up() {
    local at
    for at in "$mnt" "$work/other"; do
        mountpoint -q "$at" && { umount "$at" || umount -l "$at"; }
    done
    rm -rf "$work"
}
trap clean_up EXIT
mkdir "$mnt" "$work/other"

# logged COMMAND...: output to $work/log; its end is shown if the command fails.
logged() {
    local code=0
    "$@" >"$work/log" 2>&1 || code=$?
    [ "$code" = 0 ] || { tail -n 40 "$work/log" >&2; fail "exit code $code of: $*"; }
}

# start SIZE [OPTIONS]: a fresh volume at $mnt.
start() {
    rm -f "$image"
    "$bin/mkfs.vexfs" -q "$image" "$1"
    "$bin/mount.vexfs" "$image" "$mnt" -o "${2:+$2,}log=$work/messages"
}

# Names, types, modes, owners, sizes, times, links and bytes of all below $mnt.
listing() {
    (cd "$mnt" && find . -printf '%p %y %m %U %G %s %T@ %n %l\n' | sort &&
        find . -type f -print0 | sort -z | xargs -0 -r sha256sum)
}

# finish [OPTIONS]: unmount, check, mount, compare. Leaves the volume mounted.
finish() {
    listing >"$work/before"
    "$bin/umount.vexfs" "$mnt"
    "$bin/fsck.vexfs" -n -f "$image" >"$work/fsck" || { cat "$work/fsck" >&2; fail "fsck.vexfs finds damage"; }
    "$bin/mount.vexfs" "$image" "$mnt" -o "${1:+$1,}log=$work/messages"
    listing >"$work/after"
    cmp -s "$work/before" "$work/after" ||
        { diff "$work/before" "$work/after" | head -n 20 >&2; fail "the mount shows other things after a remount"; }
}

stop() {
    "$bin/umount.vexfs" "$mnt"
    "$bin/fsck.vexfs" -n -f "$image" >"$work/fsck" || { cat "$work/fsck" >&2; fail "fsck.vexfs finds damage"; }
}

# run_suites SUITE...: one after the other.
run_suites() {
    [ "$(id -u)" = 0 ] || { echo "$program: mounting needs root" >&2; exit 1; }
    for suite in "$@"; do
        declare -F "suite_$suite" >/dev/null || { echo "$program: no suite '$suite'" >&2; exit 2; }
        "suite_$suite"
    done
    say "passed: $*"
}
