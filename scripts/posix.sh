#!/usr/bin/env bash
# posix.sh SUITE...: conformance suites and real programs on a VexFS mount (the programs from target/bin).
#
#   pjdfstest   calls and their errors, by users and root; every skip must be on scripts/posix/pjdfstest.skips
#   ext4        the same tests on ext4, for comparison
#   fsx         100,000 operations on one file, each read compared; seeds in $SEEDS (default 1)
#   git         clone, commits, gc --aggressive, fsck --strict
#   sqlite      journals delete and wal, the writer killed in the middle again and again
#   stress      stress-ng's filesystem class with --verify, $SECONDS_EACH (default 3) a stressor
#   fio         fio's verification: psync, mmap, O_DIRECT of any alignment; all of it again on a volume 99 % full
#
# Each suite has a fresh image; afterwards all that it left is listed with its bytes, the volume unmounted, checked by
# fsck.vexfs -n -f, mounted and listed again. The first failure ends the run with exit code 1. `scripts/setup.sh`
# installs what is needed. VEXFS_WORK=DIR: where the images lie (default: a temporary directory).
set -Eeuo pipefail

here=$(dirname "$0")
# shellcheck source=scripts/posix/volume.sh
. "$here/posix/volume.sh"
# shellcheck source=scripts/posix/programs.sh
. "$here/posix/programs.sh"
tools=${XDG_CACHE_HOME:-$HOME/.cache}/vexfs/tools/bin

# unlisted FILE NAMES...: those of the names that the list of allowed skips in FILE does not have.
unlisted() {
    local list=$1 name
    shift
    for name in "$@"; do
        awk -v name="$name" '$1 == name { found = 1 } END { exit !found }' "$list" || echo "$name"
    done
}

# ---- pjdfstest

# run_pjdfstest: on what is mounted at $mnt; tells the counts and sets `skipped`. The tests of a read-only filesystem
# run apart: what other tests leave open keeps ext4 from being remounted.
run_pjdfstest() {
    # Its users must get to the mount. And mount(8), which it calls to remount, would look for helpers that are not
    # installed: -i leaves it to the kernel.
    chmod 755 "$work" "$mnt"
    mkdir -p "$work/path"
    printf '#!/bin/sh\nexec "%s" -i "$@"\n' "$(command -v mount)" >"$work/path/mount"
    chmod +x "$work/path/mount"
    mount -t tmpfs -o size=64M tmpfs "$work/other"
    : >"$work/results"
    pjdfstest false ::
    pjdfstest true ::erofs_
    umount "$work/other"
    mapfile -t skipped < <(awk '$2 == "skipped" { print $1 }' "$work/results")
    local count passed
    count=$(wc -l <"$work/results")
    passed=$(grep -c ' ok$' "$work/results")
    say "$suite: $count tests, $passed passed, ${#skipped[@]} skipped, 0 failed"
}

# pjdfstest REMOUNT PATTERN: one run; adds `NAME RESULT` lines to $work/results.
pjdfstest() {
    local code=0
    sed "s/^allow_remount = .*/allow_remount = $1/" "$data/pjdfstest.toml" >"$work/pjdfstest.toml"
    PATH=$work/path:$PATH NO_COLOR=1 RUST_BACKTRACE=0 "$tools/pjdfstest" -c "$work/pjdfstest.toml" -p "$mnt" \
        -s "$work/other" "$2" >"$work/pjdfstest" 2>&1 || code=$?
    if [ "$code" != 0 ]; then
        grep -A 4 'FAILED\|^Error' "$work/pjdfstest" | head -n 100 >&2
        fail "$(grep ^Summary "$work/pjdfstest")"
    fi
    awk -v remount="$1" 'NF == 2 && $1 ~ /::/ && (remount == "true" || $1 !~ /::erofs_/)' "$work/pjdfstest" \
        >>"$work/results"
}

suite_pjdfstest() {
    start 512M allow_other,dev,suid
    run_pjdfstest
    local more
    more=$(unlisted "$data/pjdfstest.skips" "${skipped[@]}")
    [ -z "$more" ] || fail "skipped without a reason in scripts/posix/pjdfstest.skips: $more"
    finish allow_other,dev,suid
    stop
}

suite_ext4() {
    truncate -s 512M "$work/ext4.img"
    mkfs.ext4 -q "$work/ext4.img"
    mount -o loop "$work/ext4.img" "$mnt"
    run_pjdfstest
    umount "$mnt"
}

# ---- fsx

suite_fsx() {
    local seed
    for seed in ${SEEDS:-1}; do
        start 256M
        logged "$tools/fsx" -q -f "$data/fsx.toml" -N 100000 -S "$seed" -P "$work" "$mnt/file"
        finish
        stop
        say "fsx: seed $seed, 100000 operations"
    done
}

# ---- stress-ng

suite_stress() {
    local more
    start 2G allow_other,dev,suid
    stress-ng --class filesystem --sequential 1 --timeout "${SECONDS_EACH:-3}s" --verify --temp-path "$mnt" \
        >"$work/stress" 2>&1 || true
    if grep -q 'fail:\|error:' "$work/stress"; then
        grep 'fail:\|error:' "$work/stress" | head -n 40 >&2
        fail "$(grep -c 'fail:' "$work/stress") lines of failures"
    fi
    mapfile -t skipped < <(sed -n 's/.* \([a-z-]*\): .*skipping str.*/\1/p' "$work/stress" | sort -u)
    more=$(unlisted "$data/stress.skips" "${skipped[@]}")
    [ -z "$more" ] || fail "skipped without a reason in scripts/posix/stress.skips: $more"
    grep -q 'run completed' "$work/stress" || { tail "$work/stress" >&2; fail "stress-ng did not end"; }
    finish allow_other,dev,suid
    stop
    local count
    count=$(sed -n 's/.*dispatching hogs: //p' "$work/stress" | tr ',' '\n' | wc -l)
    say "stress: $((count - ${#skipped[@]})) stressors, ${#skipped[@]} skipped, 0 failures"
}

# ---- fio

# fio_all SIZE: every engine and alignment, in files of SIZE.
fio_all() {
    local common=(--directory="$mnt" --size="$1" --rw=randrw --verify=crc32c --verify_fatal=1 --do_verify=1
        --randrepeat=1 --end_fsync=1 --unlink=1 --output="$work/fio" --group_reporting)
    (cd "$work" &&
        logged fio "${common[@]}" --name=psync --ioengine=psync --bsrange=512-64k --bs_unaligned &&
        logged fio "${common[@]}" --name=mmap --ioengine=mmap --bs=4k &&
        logged fio "${common[@]}" --name=direct4k --ioengine=psync --direct=1 --bs=4k &&
        logged fio "${common[@]}" --name=direct512 --ioengine=psync --direct=1 --bs=512 &&
        logged fio "${common[@]}" --name=directany --ioengine=psync --direct=1 --bsrange=100-100000 --bs_unaligned &&
        logged fio "${common[@]}" --name=libaio --ioengine=libaio --iodepth=8 --direct=1 --bsrange=4k-256k)
}

suite_fio() {
    start 1G
    fio_all 64M
    finish
    stop
    say "fio: psync, mmap, O_DIRECT"
    start 1G
    # One part in a hundred stays free: fio's files go there, and all that an overwrite takes.
    local size free
    size=$(($(stat -f -c '%b * %S' "$mnt")))
    free=$(($(stat -f -c '%a * %S' "$mnt")))
    fallocate -l $((free - size / 100)) "$mnt/fill"
    fio_all 8M
    dd if=/dev/zero of="$mnt/rest" bs=64k 2>"$work/log" && fail "a full volume took everything"
    grep -q 'No space left' "$work/log" || fail "not ENOSPC: $(cat "$work/log")"
    rm "$mnt/rest"
    fio_all 4M
    finish
    stop
    say "fio: the same at 99 % and after ENOSPC"
}

[ $# -gt 0 ] || { sed -n '2,16s/^# \{0,1\}//p' "$0"; exit 2; }
run_suites "$@"
