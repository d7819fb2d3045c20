#!/usr/bin/env bash
# module.sh TREE: builds vexfs.ko in the chroot that tree.sh made; its path is the last line.
#
# The sources are copied in: the work tree is only read. What did not change since the last run is not compiled again.
set -euo pipefail
# shellcheck source=scripts/kernel/common.sh
source "$(dirname "$0")/common.sh"

tree=${1:?the chroot that tree.sh prints}
place=$tree/vexfs

# copy FROM TO: with the times of the sources, so that make sees what changed; without what is no longer there.
copy() {
  mkdir -p "$2"
  rsync -a --delete --exclude='*.o' --exclude='*.ko' --exclude='*.rmeta' --exclude='.*.cmd' --exclude='*.d' --exclude='*.mod' \
    --exclude='*.mod.c' --exclude=Module.symvers --exclude=modules.order --exclude=.module-common.o "$1/" "$2/"
}

need_root
alone
command -v rsync >/dev/null || logged "$cache/apt.log" "cannot install rsync" apt-get install -y -qq --no-install-recommends rsync
mkdir -p "$place"
"$(dirname "$0")/vendor.sh" "$place" >/dev/null
copy "$root/kernel" "$place/$module_folder"
copy "$root/vexfs_core" "$place/core"
say "building vexfs.ko for $(basename "$tree") ($VEXFS_KERNEL_VARIANT)"
logged "$cache/module.log" "vexfs.ko does not build" in_chroot "$tree" nice make -s -C "/kernel/$kernel_build" M="/vexfs/$module_folder" \
  CC="$compiler" CORE=/vexfs/core VENDOR=/vexfs/vendor KCFLAGS=-Werror modules
# objtool knows by a list of names which of Rust's functions never return, and takes the end of a function that ends
# with a call of another for a mistake.
grep -E 'WARNING|warning:' "$cache/module.log" | grep -v 'objtool: .* falls through to next function' && fail "vexfs.ko builds with warnings ($cache/module.log)"
"$(dirname "$0")/frames.py" "$place/$module_folder/vexfs.ko" >&2 || fail "vexfs.ko needs too much stack"
echo "$place/$module_folder/vexfs.ko"
