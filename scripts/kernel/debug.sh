#!/usr/bin/env bash
# debug.sh: builds a debugging kernel from the tree's source, vexfs.ko for it, and runs the tests in it.
#
# The kernel has what debug.config asks for: lockdep, DEBUG_ATOMIC_SLEEP, KASAN and others. Rust under KASAN wants the
# clang of rustc's own LLVM, which is fetched into the chroot. A report of any of them fails the run (boot-debug.log in
# the cache). It takes a quarter of an hour of two processors the first time, so CI does not run it.
set -euo pipefail
here=$(dirname "$0")
# What is sourced chooses the compiler by it.
export VEXFS_KERNEL_VARIANT=debug
# shellcheck source=scripts/kernel/common.sh
source "$here/common.sh"

# Everything is some times slower than in the stock kernel, which is emulated already.
export KERNEL_SECONDS_MAX=${KERNEL_SECONDS_MAX:-7200}
export KERNEL_ACTS=${KERNEL_ACTS:-150} KERNEL_STATES=${KERNEL_STATES:-1000} KERNEL_MUTANTS=${KERNEL_MUTANTS:-60}

need_root
alone
tree=$("$here/tree.sh" | tail -n 1)
build=$tree/kernel/debug

fetch_compiler() {
  [ ! -x "$tree/usr/bin/$compiler" ] || return 0
  say "fetching $compiler"
  cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
  logged "$cache/debug-apt.log" "cannot fetch $compiler (no network?)" in_chroot "$tree" sh -ec "
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $compiler
    apt-get clean"
}

build_kernel() {
  mkdir -p "$build"
  if ! cmp -s "$here/debug.config" "$build/fragment.config"; then
    cp "$here/debug.config" "$build/fragment.config.new"
    # shellcheck disable=SC2016 # expanded inside
    logged "$cache/debug-config.log" "the debugging kernel cannot be configured" in_chroot "$tree" bash -ec '
      cd /kernel/linux-source-*
      make="make -s O=/kernel/debug LOCALVERSION= CC=$1"
      $make tinyconfig
      scripts/kconfig/merge_config.sh -m -O /kernel/debug /kernel/debug/.config /kernel/debug/fragment.config.new
      $make olddefconfig
      ! grep -vxFf /kernel/debug/.config <(grep -E "^(CONFIG|# CONFIG)" /kernel/debug/fragment.config.new)' \
      configure "$compiler"
    mv "$build/fragment.config.new" "$build/fragment.config"
  fi
  say "building a debugging kernel (long, the first time)"
  # shellcheck disable=SC2016 # expanded inside
  logged "$cache/debug-build.log" "the debugging kernel does not build" in_chroot "$tree" bash -ec '
    cd /kernel/linux-source-*
    nice make -s O=/kernel/debug LOCALVERSION= CC=$1 KRUSTFLAGS=-Cdebuginfo=0 -j"$(nproc)" bzImage modules' \
    build "$compiler"
}

fetch_compiler
build_kernel
"$here/module.sh" "$tree"
"$here/guest.sh" "$tree"
