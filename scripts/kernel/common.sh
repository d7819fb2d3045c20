# shellcheck shell=bash
# common.sh: what the scripts of the kernel module share: where things are kept, and how failures are told.
#
# Sourced, never run. Nothing here writes into the work tree: all that is fetched or built lives in the cache, keyed by
# the kernel's release, and holds no source of ours that a later run would trust.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${VEXFS_KERNEL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vexfs-kernel}

# The kernel that is built for, and what is taken in its place once Debian has a newer one of the same series.
KERNEL=7.2.12
SERIES=7.2
SUITE=trixie
FLAVOUR=cloud-amd64

# Which kernel of the tree is meant: Debian's own, or the debugging one that debug.sh builds beside it.
case ${VEXFS_KERNEL_VARIANT:=stock} in
stock) kernel_build=build module_folder=module compiler=x86_64-linux-gnu-gcc-14 ;;
debug) kernel_build=debug module_folder=module-debug compiler=clang-19 ;;
*) echo "kernel: VEXFS_KERNEL_VARIANT is stock or debug" >&2 && exit 1 ;;
esac

say() { echo "kernel: $*"; }
fail() {
  echo "kernel: FAILED: $*" >&2
  exit 1
}

# logged LOG MESSAGE COMMAND...: runs quietly into LOG; if it fails, shows the end of what it said.
logged() {
  local log=$1 message=$2
  shift 2
  mkdir -p "$(dirname "$log")"
  if ! "$@" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    fail "$message (all of it: $log)"
  fi
}

# Waits for other runs that build or boot in the cache's trees; the lock is kept until this run ends.
alone() {
  [ -z "${VEXFS_KERNEL_ALONE:-}" ] || return 0
  mkdir -p "$cache"
  exec 8>"$cache/run.lock"
  flock --nonblock 8 || { say "waiting for another run in $cache" >&2 && flock 8; }
  export VEXFS_KERNEL_ALONE=1
}

need_root() {
  [ "$(id -u)" = 0 ] || fail "the kernel is built in a chroot: run this as root"
  [ "$(uname -m)" = x86_64 ] || fail "the module is built on x86_64 only"
}

# in_chroot DIR COMMAND...: with /proc and /dev there, in a mount namespace of its own, so that nothing stays mounted. The
# namespace has nothing but that: a mount of somebody else that it held could not end before the command does.
in_chroot() {
  local dir=$1
  shift
  mkdir -p "$dir/.outside"
  # shellcheck disable=SC2016 # expanded inside
  unshare --mount --propagation private bash -c '
    set -e; dir=$1; shift
    mount --bind "$dir" "$dir"; mount --rbind /proc "$dir/proc"; mount --rbind /dev "$dir/dev"
    cd "$dir" && pivot_root . .outside
    exec /usr/sbin/chroot . /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
      /bin/sh -ec "busybox umount -l /.outside && exec \"\$@\"" in_chroot "$@"' in_chroot "$dir" "$@"
}
