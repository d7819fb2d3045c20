#!/usr/bin/env bash
# guest.sh TREE: boots the stock kernel of TREE in QEMU with vexfs.ko, runs the tests of kernel/guest/tests.sh there,
# then checks the images that the guest wrote with the programs of this machine.
#
# The disk `recorded` is written through QEMU's blklogwrites filter, which keeps every write and flush in order; what a
# power cut could have left of it is made from that record and judged here (tests/src/bin/judge-record.rs).
#
# Both ways: images that FUSE and mkfs made are told by the kernel as FUSE tells them, and an image that the kernel filled
# is told by FUSE as the kernel told it; fsck.vexfs finds nothing in any of them. QEMU emulates (-accel tcg) and runs
# inside a timeout: /dev/kvm is on some machines and hangs a stock guest there.
set -euo pipefail
# shellcheck source=scripts/kernel/common.sh
source "$(dirname "$0")/common.sh"

tree=${1:?the chroot that tree.sh prints}
release=$(basename "$tree")
image=/usr/lib/modules/$release/vmlinuz
[ "$VEXFS_KERNEL_VARIANT" = stock ] || image=/kernel/debug/arch/x86/boot/bzImage
log=$cache/boot.log
[ "$VEXFS_KERNEL_VARIANT" = stock ] || log=$cache/boot-debug.log
bin=$root/target/bin
tools=${XDG_CACHE_HOME:-$HOME/.cache}/vexfs/tools/bin
seconds_max=${KERNEL_SECONDS_MAX:-3600}
# How much: crash states at least, acts of each worker whose disk is recorded, seconds of the eight processes, damaged
# images beside those of the corpus.
states=${KERNEL_STATES:-3000}
acts=${KERNEL_ACTS:-400}
stress_seconds=${KERNEL_STRESS_SECONDS:-60}
mutants=${KERNEL_MUTANTS:-250}
# 1: measure beside ext4, too.
bench=${KERNEL_BENCH:-0}
# Only the tests in the guest whose names match; the images are not checked afterwards then.
only=${KERNEL_ONLY:-}
# Real vectors; where they are missing some are made.
sample=$root/../shared/data/vectors.npy
# Bytes of the recorded volume; what its workload tells lies behind.
recorded=$((48 << 20))
work=$(mktemp -d "${TMPDIR:-/tmp}/vexfs-kernel.XXXXXX")
mounted=()

finish() {
  local point
  for point in "${mounted[@]}"; do
    if mountpoint -q "$point"; then "$bin/umount.vexfs" "$point" || umount -l "$point"; fi
  done
  rm -rf "$work" "$tree/vexfs/run"
}
alone
trap finish EXIT

# on_fuse IMAGE OPTIONS COMMAND...: runs the command with the image mounted through FUSE at $point.
on_fuse() {
  local image=$1 options=$2 point=$work/mount status=0
  shift 2
  mkdir -p "$point"
  mounted=("$point")
  "$bin/mount.vexfs" "$image" "$point" -o "$options,log=$work/fuse.log"
  "$@" "$point" || status=$?
  "$bin/umount.vexfs" "$point"
  mounted=()
  return $status
}

# asked IMAGE FILE: what FUSE answers when it is asked what is near in the image, of which a copy is mounted.
asked() {
  cp --sparse=always "$disks/$1" "$work/copy"
  on_fuse "$work/copy" noatime,allow_other "$guest" ask >"$2"
  rm "$work/copy"
}

build_programs() {
  local name
  for name in mkfs.vexfs fsck.vexfs mount.vexfs umount.vexfs; do
    [ -x "$bin/$name" ] || fail "$bin/$name is missing: run 'make build'"
  done
  # Static, for a guest that has no libraries.
  (cd "$root" && RUSTFLAGS="-C target-feature=+crt-static" logged "$cache/guest.log" "the tester does not build" \
    nice cargo build --release --target x86_64-unknown-linux-gnu -p vexfs_guest)
  guest=${CARGO_TARGET_DIR:-$root/target}/x86_64-unknown-linux-gnu/release/vexfs-guest
  (cd "$root" && logged "$cache/judge.log" "what makes damaged images and judges crash states does not build" \
    nice cargo build --release -p vexfs_tests --bin judge-record --bin make-mutants)
  release_programs=${CARGO_TARGET_DIR:-$root/target}/release
}

# The guest finds a disk by its serial number, which is the image's name.
make_disks() {
  local image
  disks=$tree/vexfs/run
  rm -rf "$disks"
  mkdir -p "$disks" "$work/expected" "$work/answers"
  for image in v1-4k v1-journal-4k v1-8k; do
    gunzip -c "$root/tests/golden/$image.img.gz" >"$disks/golden-$image"
  done
  "$bin/mkfs.vexfs" -q "$disks/made-by-fuse" 256M
  on_fuse "$disks/made-by-fuse" noatime "$guest" populate
  "$bin/mkfs.vexfs" -q "$disks/made-by-kernel" 512M
  "$bin/mkfs.vexfs" -q "$disks/sample-by-fuse" 192M
  on_fuse "$disks/sample-by-fuse" noatime "$guest" load "$sample"
  "$bin/mkfs.vexfs" -q "$disks/sample-by-kernel" 192M
  "$bin/mkfs.vexfs" -q "$disks/small" 24M
  "$bin/mkfs.vexfs" -q "$disks/suites" 512M
  "$bin/mkfs.vexfs" -q "$disks/parallel" 512M
  "$bin/mkfs.vexfs" -q "$disks/stress" 512M
  "$release_programs/make-mutants" "$disks/damaged" "$work/damaged.index" "$mutants" 1 >"$work/mutants.log" ||
    { cat "$work/mutants.log" >&2; fail "no damaged images"; }
  [ "$bench" = 0 ] || { truncate -s 512M "$disks/ext4" && mkfs.ext4 -q -F "$disks/ext4"; }
  "$bin/mkfs.vexfs" -q "$disks/failing" 64M
  "$bin/mkfs.vexfs" -q "$disks/shutdown" 64M
  truncate -s 16M "$disks/not-ours"
  truncate -s 64M "$disks/results"
  "$bin/mkfs.vexfs" -q "$work/recorded" $recorded
  cp "$work/recorded" "$disks/recorded"
  truncate -s +8M "$disks/recorded"
  truncate -s 1G "$disks/.record"
  for image in golden-v1-4k golden-v1-journal-4k made-by-fuse; do
    on_fuse "$disks/$image" ro "$guest" manifest >"$work/expected/$image"
  done
  for image in golden-v1-4k made-by-fuse sample-by-fuse; do
    asked "$image" "$work/answers/$image"
  done
}

make_initramfs() {
  local at=$work/initramfs name
  mkdir -p "$at"/{bin,dev,proc,sys,mnt,modules,expected,answers}
  cp "$tree/usr/bin/busybox" "$guest" "$at/bin/"
  cp "$root/kernel/guest/tests.sh" "$at/init"
  cp "$work"/expected/* "$at/expected/"
  cp "$work"/answers/* "$at/answers/"
  [ ! -e "$sample" ] || cp "$sample" "$at/sample.npy"
  cp "$work/damaged.index" "$at/"
  printf '%s=%q\n' recorded "$recorded" acts "$acts" stress_seconds "$stress_seconds" bench "$bench" only "$only" >"$at/parameters"
  [ "$VEXFS_KERNEL_VARIANT" != stock ] ||
    xz -dc "$tree/usr/lib/modules/$release/kernel/drivers/block/virtio_blk.ko.xz" >"$at/modules/virtio_blk.ko"
  cp "$tree/vexfs/$module_folder/vexfs.ko" "$at/modules/"
  strip -g "$at/modules/vexfs.ko"
  add_suites "$at"
  chmod 755 "$at/init"
  (cd "$at" && find . | in_chroot_cpio) >"$disks.initramfs"
  mv "$disks.initramfs" "$disks/.initramfs"
}

# The conformance suites, with the libraries that they name, and the users that they become.
add_suites() {
  local at=$1 name library
  mkdir -p "$at/other" "$at/etc" "$at/tmp"
  for name in pjdfstest fsx; do
    [ -x "$tools/$name" ] || fail "$tools/$name is missing: run 'scripts/setup.sh test'"
    cp "$tools/$name" "$at/bin/"
    for library in $(ldd "$tools/$name" | grep -o '/[^ ]*'); do
      mkdir -p "$at$(dirname "$library")"
      cp -L "$library" "$at$library"
    done
  done
  cp "$root/scripts/posix/pjdfstest.toml" "$root/scripts/posix/fsx.toml" "$at/"
  sed 's/^allow_remount = .*/allow_remount = true/' "$root/scripts/posix/pjdfstest.toml" >"$at/pjdfstest-remount.toml"
  printf '%s\n' root:x:0:0::/:/bin/sh daemon:x:1:1::/:/bin/sh nobody:x:65534:65534::/:/bin/sh >"$at/etc/passwd"
  printf '%s\n' root:x:0: daemon:x:1: nogroup:x:65534: >"$at/etc/group"
}

in_chroot_cpio() {
  if command -v cpio >/dev/null; then
    cpio -o -H newc --quiet | gzip -1
  else
    # The file names go to the chroot's cpio, which sees the files by a bind mount.
    cat >"$tree/vexfs/run/.names"
    mkdir -p "$tree/vexfs/initramfs"
    unshare --mount --propagation private bash -c '
      mount --bind "$1" "$2/vexfs/initramfs"
      chroot "$2" sh -c "cd /vexfs/initramfs && cpio -o -H newc --quiet </vexfs/run/.names | gzip -1"' bind "$work/initramfs" "$tree"
    rm "$tree/vexfs/run/.names"
  fi
}

boot() {
  local name drives=() status=0
  for name in $(cd "$disks" && ls); do
    # What lies here need not survive this machine; but flushes must reach the filter.
    drives+=(-blockdev "driver=file,filename=/vexfs/run/$name,node-name=file-$name,discard=unmap,cache.no-flush=on")
    if [ "$name" = recorded ]; then
      drives+=(-blockdev "driver=file,filename=/vexfs/run/.record,node-name=record,cache.no-flush=on"
        -blockdev "driver=blklogwrites,file=file-$name,log=record,node-name=disk-$name,discard=unmap")
    elif [ "$name" = failing ]; then
      # One sector in the midst cannot be written.
      drives+=(-blockdev "driver=blkdebug,image=file-$name,node-name=disk-$name,inject-error.0.event=none,\
inject-error.0.iotype=write,inject-error.0.sector=65536,inject-error.0.errno=5,inject-error.0.immediately=off")
    else
      drives+=(-blockdev "driver=raw,file=file-$name,node-name=disk-$name,discard=unmap,cache.no-flush=on")
    fi
    drives+=(-device "virtio-blk-pci,drive=disk-$name,serial=$name")
  done
  say "booting $release ($VEXFS_KERNEL_VARIANT) in QEMU"
  timeout "$seconds_max" "$(dirname "$0")/qemu.sh" "$tree" -accel tcg,thread=multi -cpu max -smp 2 -m 1536 -nodefaults -no-reboot -display none \
    -serial stdio -kernel "$image" -initrd /vexfs/run/.initramfs \
    -append "console=ttyS0 quiet loglevel=5 oops=panic panic=-1 no_timer_check panic_on_warn=0 hung_task_panic=1" "${drives[@]}" \
    </dev/null >"$log" 2>&1 || status=$?
  tr -d '\r' <"$log" >"$work/boot.log"
  grep -E '^(ok|FAILED|exercise|suite|guest:|#)' "$work/boot.log" || true
  [ $status != 124 ] || fail "the guest did not end within $seconds_max s ($log)"
  # "Tainted" alone is what every module from outside says.
  if grep -nE 'BUG:|WARNING:|Oops|Kernel panic|Call Trace|possible circular locking|possible recursive locking|INFO: task .* blocked|rcu: INFO|refcount_t:|VFS: Busy inodes|general protection' "$work/boot.log"; then
    fail "the kernel complained ($log)"
  fi
  grep -q '^guest: .* 0 failed$' "$work/boot.log" || { tail -n 20 "$work/boot.log" >&2; fail "tests failed in the guest ($log)"; }
}

check_images() {
  local image
  mkdir -p "$work/results"
  tar -C "$work/results" -xf "$disks/results"
  # What the workload told lies behind the volume.
  truncate -s "$recorded" "$disks/recorded"
  for image in golden-v1-4k golden-v1-journal-4k made-by-fuse made-by-kernel sample-by-fuse sample-by-kernel small suites parallel stress recorded \
    failing shutdown; do
    "$bin/fsck.vexfs" -n -f "$disks/$image" >"$work/fsck.log" 2>&1 || { cat "$work/fsck.log" >&2; fail "fsck.vexfs finds damage in $image"; }
    say "ok: fsck.vexfs -n $image"
    checked=$((checked + 1))
  done
  for image in made-by-kernel sample-by-kernel; do
    asked "$image" "$work/seen"
    diff "$work/results/$image.answers" "$work/seen" >"$work/differences" ||
      { head -n 20 "$work/differences" >&2; fail "FUSE answers otherwise in $image than the kernel did"; }
    say "ok: FUSE answers in $image as the kernel did, $(grep -c '^[^ ]' "$work/seen") questions"
    checked=$((checked + 1))
  done
  on_fuse "$disks/sample-by-kernel" ro "$guest" loaded "$sample" | sed 's/^exercise/kernel: ok: FUSE reads the/'
  for image in made-by-kernel made-by-fuse sample-by-kernel small suites parallel stress; do
    on_fuse "$disks/$image" ro "$guest" manifest >"$work/seen"
    diff "$work/results/$image" "$work/seen" >"$work/differences" ||
      { head -n 20 "$work/differences" >&2; fail "FUSE shows $image otherwise than the kernel did"; }
    say "ok: FUSE shows $image as the kernel did, $(wc -l <"$work/seen") paths"
    checked=$((checked + 1))
  done
}

# Every state that a power cut could have left of the recorded disk.
judge_record() {
  "$release_programs/judge-record" "$work/recorded" "$disks/.record" "$states" >"$work/judge.log" 2>&1 ||
    { head -c 8000 "$work/judge.log" >&2; fail "crash states are wrong, or too few"; }
  sed 's/^/kernel: ok: /' "$work/judge.log"
  judged=$(sed -n 's/^crash states: \([0-9]*\) distinct, 0 wrong.*/\1/p' "$work/judge.log")
}

need_root
checked=0
build_programs
make_disks
make_initramfs
boot
[ -n "$only" ] || check_images
[ -n "$only" ] && [[ ! "change a recorded disk" =~ $only ]] || judge_record
[ -z "$only" ] || exit 0
tests=$(sed -n 's/^guest: \([0-9]*\) passed.*/\1/p' "$work/boot.log")
paths=$(cat "$work"/expected/* | wc -l)
say "passed: $tests tests in the guest ($release), $paths paths as FUSE shows them, $checked checks of its images afterwards,
  $judged crash states"
