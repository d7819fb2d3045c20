#!/usr/bin/env bash
# install.sh [RELEASE]: builds vexfs.ko for a kernel of this machine (uname -r) and puts it where modprobe finds it.
#
# The sources go to /usr/src/vexfs-VERSION, with all that the build needs. With DKMS they are built now and again for
# each new kernel; without it, for this kernel alone. The kernel's build folder (/lib/modules/RELEASE/build) must hold
# Rust metadata, and rustc must be the one that built the kernel. Where that is not so, as with Debian's headers
# packages, the module is built in the chroot of tree.sh, if that is of the same release.
set -euo pipefail
# shellcheck source=scripts/kernel/common.sh
source "$(dirname "$0")/common.sh"

release=${1:-$(uname -r)}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
source_folder=/usr/src/vexfs-$version
build=/lib/modules/$release/build

# Says why the kernel's own build folder will not do; nothing if it will.
unfit() {
  local wanted have
  [ -e "$build/Makefile" ] || { echo "$build is missing: install the kernel's headers" && return; }
  grep -qx CONFIG_RUST=y "$build/.config" 2>/dev/null || { echo "the kernel $release is built without CONFIG_RUST" && return; }
  [ -e "$build/rust/libkernel.rmeta" ] || { echo "$build has no Rust metadata (rust/libkernel.rmeta)" && return; }
  wanted=$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="\(.*\)"/\1/p' "$build/.config")
  have=$(rustc --version 2>/dev/null || echo none)
  [ "$wanted" = "$have" ] || echo "the kernel was built by $wanted, and here is $have"
}

lay_out() {
  rm -rf "$source_folder"
  mkdir -p "$source_folder"
  cp -r "$root/kernel" "$root/vexfs_core" "$source_folder/"
  cp -rL "$("$root/scripts/kernel/vendor.sh" "$cache/source" | tail -n 1)" "$source_folder/vendor"
  sed "s/@VERSION@/$version/" "$root/scripts/kernel/dkms.conf" >"$source_folder/dkms.conf"
}

# installed MODULE: copies it, and makes the lists that modprobe reads.
installed() {
  install -D -m 644 "$1" "/lib/modules/$release/updates/vexfs.ko"
  depmod "$release"
  say "/lib/modules/$release/updates/vexfs.ko is there: modprobe vexfs"
}

build_here() {
  lay_out
  if command -v dkms >/dev/null; then
    logged "$cache/dkms.log" "dkms cannot build the module" dkms install --force -m vexfs -v "$version" -k "$release"
    say "dkms has built vexfs $version for $release: modprobe vexfs"
    return
  fi
  logged "$cache/install.log" "the module does not build" nice make -C "$build" M="$source_folder/kernel" \
    CORE="$source_folder/vexfs_core" VENDOR="$source_folder/vendor" modules
  installed "$source_folder/kernel/vexfs.ko"
}

build_in_chroot() {
  local tree
  alone
  tree=$("$root/scripts/kernel/tree.sh" | tail -n 1)
  [ "$(basename "$tree")" = "$release" ] ||
    fail "$1; and the chroot builds for $(basename "$tree"), not for $release (docs/KERNEL.md tells what is needed)"
  installed "$("$root/scripts/kernel/module.sh" "$tree" | tail -n 1)"
}

need_root
command -v depmod >/dev/null || fail "depmod is missing: install the package kmod"
mkdir -p "$cache"
why=$(unfit)
if [ -z "$why" ]; then build_here; else say "$why" && build_in_chroot "$why"; fi
