#!/usr/bin/env bash
# debug.sh TREE: builds a small kernel with lockdep, KASAN and the other checkers from TREE's source, and vexfs.ko for it.
#
# Prints the place, which guest.sh takes with KERNEL_DEBUG=PLACE. Kept in the cache; the module is built anew each time.
set -euo pipefail
# shellcheck source=scripts/kernel/common.sh
source "$(dirname "$0")/common.sh"

tree=${1:?the chroot that tree.sh prints}
build=/kernel/debug

OPTIONS=(64BIT SMP MODULES MODULE_UNLOAD RUST BLOCK BLK_DEV BLK_DEV_INITRD RD_GZIP PRINTK BUG TTY SERIAL_8250
  SERIAL_8250_CONSOLE BINFMT_ELF BINFMT_SCRIPT PROC_FS PROC_SYSCTL SYSFS SYSCTL DEVTMPFS PCI ACPI VIRTIO_MENU VIRTIO_PCI
  VIRTIO_BLK SHMEM TMPFS TMPFS_XATTR FILE_LOCKING MULTIUSER FUTEX EPOLL SIGNALFD EVENTFD TIMERFD POSIX_TIMERS
  HIGH_RES_TIMERS KALLSYMS ADVISE_SYSCALLS MEMBARRIER RSEQ NET UNIX INET FS_POSIX_ACL EXT4_FS EXT4_FS_POSIX_ACL
  FS_IOMAP CRC32 TRANSPARENT_HUGEPAGE COMPACTION MIGRATION AIO
  DEBUG_KERNEL PROVE_LOCKING DEBUG_ATOMIC_SLEEP KASAN KASAN_GENERIC KASAN_VMALLOC DEBUG_STACK_USAGE SCHED_STACK_END_CHECK
  DEBUG_LIST DEBUG_VM DETECT_HUNG_TASK FRAME_POINTER UNWINDER_FRAME_POINTER)

if [ ! -e "$tree$build/.prepared" ]; then
  say "building a kernel with lockdep and KASAN (many minutes)" >&2
  mkdir -p "$tree$build"
  # shellcheck disable=SC2016 # expanded inside
  logged "$cache/debug.log" "the debugging kernel does not build" in_chroot "$tree" bash -ec '
    build=$1; shift; cd /kernel/linux-source-*
    make="nice make -s O=$build LOCALVERSION= CC=x86_64-linux-gnu-gcc-14 KRUSTFLAGS=-Cdebuginfo=0"
    $make tinyconfig
    for option; do scripts/config --file "$build/.config" -e "$option"; done
    scripts/config --file "$build/.config" -d KASAN_INLINE -e KASAN_OUTLINE -d MODVERSIONS
    $make olddefconfig
    for option in RUST PROVE_LOCKING KASAN DEBUG_ATOMIC_SLEEP; do grep -qx "CONFIG_$option=y" "$build/.config"; done
    $make -j"$(nproc)" vmlinux bzImage modules
    touch "$build/.prepared"' debug "$build" "${OPTIONS[@]}"
fi
mkdir -p "$tree/vexfs/debug"
rsync -a --exclude='*.o' --exclude='*.ko' --exclude='*.rmeta' --exclude='.*.cmd' "$root/kernel/" "$tree/vexfs/debug/"
logged "$cache/debug-module.log" "vexfs.ko does not build for the debugging kernel" in_chroot "$tree" nice make -s \
  -C "$build" M=/vexfs/debug CC=x86_64-linux-gnu-gcc-14 CORE=/vexfs/core VENDOR=/vexfs/vendor modules
echo "$tree$build"
