#!/usr/bin/env bash
# module.sh TREE: builds vexfs.ko in the chroot that tree.sh made; it lands in TREE/vexfs/module/vexfs.ko.
#
# The sources are copied in: the work tree is only read. What did not change since the last run is not compiled again.
set -euo pipefail
# shellcheck source=scripts/kernel/common.sh
source "$(dirname "$0")/common.sh"

tree=${1:?the chroot that tree.sh prints}
place=$tree/vexfs

# The crates that become objects, at Cargo.lock's versions; fetched once for each lock.
vendor() {
  local lock stamp names=(cfg-if bitflags crc32fast)
  lock=$(awk -v names="${names[*]}" '
    BEGIN { RS = ""; split(names, list, " "); for (i in list) wanted["\"" list[i] "\""] = 1 }
    $1 == "[[package]]" && $4 in wanted { print $0 "\n" }' "$root/Cargo.lock" | sha256sum | cut -c1-16)
  stamp=$place/vendor-$lock
  if [ ! -e "$stamp" ]; then
    say "fetching the crates ${names[*]}"
    rm -rf "$place/fetch" "$place"/vendor*
    mkdir -p "$place/fetch/src"
    cp "$root/Cargo.lock" "$place/fetch/"
    : >"$place/fetch/src/lib.rs"
    sed '/^vexfs/d' >"$place/fetch/Cargo.toml" <<-'TOML'
	[package]
	name = "vexfs_core"
	version = "0.1.0"
	edition = "2024"
	[workspace]
	[dependencies]
	bitflags = { version = "2", default-features = false }
	crc32fast = { version = "1", default-features = false }
	TOML
    (cd "$place/fetch" && logged "$cache/vendor.log" "cannot fetch the crates ${names[*]} with cargo (no network?)" \
      cargo vendor "$stamp.new")
    rm -rf "$place/fetch"
    mv -T "$stamp.new" "$stamp"
  fi
  ln -sfn "vendor-$lock" "$place/vendor"
}

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
vendor
copy "$root/kernel" "$place/module"
copy "$root/vexfs_core" "$place/core"
say "building vexfs.ko for $(basename "$tree")"
logged "$cache/module.log" "vexfs.ko does not build" in_chroot "$tree" nice make -s -C /kernel/build M=/vexfs/module \
  CC=x86_64-linux-gnu-gcc-14 CORE=/vexfs/core VENDOR=/vexfs/vendor KCFLAGS=-Werror modules
# objtool knows by a list of names which of Rust's functions never return, and takes the end of a function that ends
# with a call of another for a mistake.
grep -E 'WARNING|warning:' "$cache/module.log" | grep -v 'objtool: .* falls through to next function' && fail "vexfs.ko builds with warnings ($cache/module.log)"
echo "$place/module/vexfs.ko"
