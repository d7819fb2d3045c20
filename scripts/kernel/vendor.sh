#!/usr/bin/env bash
# vendor.sh PLACE: the crates that become objects of vexfs.ko, at Cargo.lock's versions, in PLACE/vendor; prints that path.
#
# Fetched once for each lock.
set -euo pipefail
# shellcheck source=scripts/kernel/common.sh
source "$(dirname "$0")/common.sh"

place=${1:?where the crates go}
mkdir -p "$place"
names=(cfg-if bitflags crc32fast)
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
  sed '/^vexfs/d' >"$place/fetch/Cargo.toml" <<'TOML'
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
echo "$place/vendor"
