#!/bin/bash
# kernel-core.sh [DIR]: proves that the crate vexfs_core (or the one in DIR or $VEXFS_CORE_DIR) can be part of a
# kernel module: it compiles as the kernel would compile it, and needs no symbol that a module cannot have.
#
# The compiler is the one that builds Debian's kernels, the flags are the kernel's: no std, soft-float, panic=abort,
# overflow checks, and `alloc` without infallible allocation. The methods of Volume, which are generic, are compiled
# for a host too. So floats, 128-bit division, Vec::push and the like end here.
#
# Always true: nothing in the work tree is written. The first run fetches the compiler (Debian packages, from the
# mirror this machine's apt uses) and the dependencies (at Cargo.lock's versions); both are kept, with the objects
# built from them, under ${XDG_CACHE_HOME:-~/.cache}/vexfs. A later run compiles our crate only, without a network.
set -euo pipefail

RUST=1.85.1
SUITE=trixie

root=$(cd "$(dirname "$0")/.." && pwd)
dir=$(realpath -e -- "${1:-${VEXFS_CORE_DIR:-$root/vexfs_core}}")
base=${XDG_CACHE_HOME:-$HOME/.cache}/vexfs/kernel-core-$RUST
tool=$base/toolchain # extracted packages; `rustc` in it runs on any Debian of this architecture

# What the kernel passes to rustc on x86 (its Makefile, arch/x86/Makefile and rust/Makefile). The built-in target
# takes the place of the kernel's target.json: both are soft-float without MMX and SSE.
KERNEL=(
  --target x86_64-unknown-none --sysroot /dev/null -Zunstable-options
  -Cpanic=abort -Copt-level=2 -Ccodegen-units=1 -Coverflow-checks=on -Cdebug-assertions=off
  -Crelocation-model=static -Ccode-model=kernel -Cno-redzone=yes -Ctarget-cpu=x86-64 -Ztune-cpu=generic
  -Cembed-bitcode=no -Clto=no -Cforce-unwind-tables=no -Csymbol-mangling-version=v0
  --cfg no_fp_fmt_parse --cfg no_global_oom_handling
)
# Nightly features of `alloc` that the core may use: the fallible forms of push and Arc::new.
FEATURES=(-Zcrate-attr='feature(vec_push_within_capacity)' -Zcrate-attr='feature(allocator_api)')

# The dependencies that become objects, and those that only run in the compiler.
LINKED=(cfg-if bitflags crc32fast zerocopy)
HOST=(unicode-ident proc-macro2 quote syn zerocopy-derive)

# Symbols that a module gets from elsewhere: our allocator's (kernel module), and the kernel's exports.
ALLOCATOR='__rust_alloc __rust_dealloc __rust_realloc __rust_alloc_zeroed __rust_no_alloc_shim_is_unstable'
MEMORY='memcpy memmove memset memcmp bcmp'

say() { echo "kernel-core: $*"; }
fail() {
  say "FAILED: $*" >&2
  exit 1
}

# logged MESSAGE COMMAND...: runs quietly; if it fails, shows the end of what it said.
logged() {
  local message=$1 log
  shift
  log=$(mktemp "$work/log.XXXXXX")
  if ! "$@" >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    fail "$message"
  fi
}

need() {
  local name
  for name in "$@"; do
    command -v "$name" >/dev/null || fail "$name is needed and not installed"
  done
}

# ---- the compiler

fetch_toolchain() {
  local apt=$work/apt mirror codename keyring version deb options
  need apt-get dpkg-deb
  # shellcheck disable=SC1091
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  # shellcheck disable=SC2016 # apt's own variables
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v release="$codename" '$2 == release && $3 == "main" && !found { print $1; found = 1 }')
  [ -n "$mirror" ] || fail "no Debian mirror (suite '$codename', component main) in this machine's apt configuration"

  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  mkdir -p "$apt"/{state/lists/partial,cache/archives/partial} "$work/toolchain"
  : >"$apt/status"
  echo "deb [arch=amd64$([ -e $keyring ] && echo " signed-by=$keyring")] $mirror $SUITE main" >"$apt/sources.list"
  options=(
    -q -o "Dir::State=$apt/state" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache"
    -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o APT::Install-Recommends=false -o APT::Sandbox::User=
    -o APT::Update::Error-Mode=any -o Acquire::Languages=none -o Acquire::Retries=3 -o Debug::NoLocking=1
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false
  )
  say "fetching rustc $RUST and rust-src (150 MB) from Debian $SUITE"
  logged "cannot fetch the package list of Debian $SUITE with this machine's apt (no network?)" \
    apt-get "${options[@]}" update
  version=$(apt-cache "${options[@]}" policy rustc | sed -n 's/^ *Candidate: //p')
  [[ $version == "$RUST+"* ]] || fail "Debian $SUITE has rustc '$version', and this check is for $RUST"
  # libstd-rust-dev, not rustc: rustc would bring gcc, and the machine's own linker serves.
  logged "cannot fetch libstd-rust-dev, rust-src and what they depend on (no network?)" \
    apt-get "${options[@]}" -y --download-only install libstd-rust-dev rust-src
  (cd "$apt/cache/archives" && logged "cannot fetch the package rustc (no network?)" apt-get "${options[@]}" download rustc)
  for deb in "$apt"/cache/archives/*.deb; do
    case $deb in
      */rust-src_*) dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/toolchain" --wildcards './usr/src/rustc-*/library/*' ;;
      *) nice dpkg-deb -x "$deb" "$work/toolchain" ;;
    esac
  done
  rm -rf "$work/toolchain/usr/share"

  # By its own loader and libraries, so that neither a chroot nor root is needed.
  cat >"$work/toolchain/rustc" <<-'SH'
	#!/bin/sh
	lib=${0%/*}/usr/lib/x86_64-linux-gnu
	exec "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "${0%/*}/usr/bin/rustc" "$@"
	SH
  chmod +x "$work/toolchain/rustc"
  [[ $("$work/toolchain/rustc" -V) == "rustc $RUST "* ]] || fail "the fetched rustc does not run, or is not $RUST"
  mv -T "$work/toolchain" "$tool"
}

# ---- the dependencies

# The Cargo.lock that holds for the crate: in its directory or the nearest above.
find_lock() {
  local at=$dir
  while [ ! -e "$at/Cargo.lock" ]; do
    [ "$at" != / ] || fail "no Cargo.lock in $dir or above it"
    at=$(dirname "$at")
  done
  echo "$at/Cargo.lock"
}

# The lock's entries for our dependencies. They, the flags and the recipe below are the name of the cached objects.
locked() {
  awk -v names="${LINKED[*]} ${HOST[*]}" '
    BEGIN { RS = ""; split(names, list, " "); for (i in list) wanted["\"" list[i] "\""] = 1 }
    $1 == "[[package]]" && $4 in wanted { print $0 "\n" }' "$lock"
}

# Third-party sources at the locked versions, into $1.
fetch_sources() {
  mkdir -p "$work/fetch/src"
  cp "$lock" "$work/fetch/Cargo.lock"
  : >"$work/fetch/src/lib.rs"
  cat >"$work/fetch/Cargo.toml" <<-'TOML'
	[package]
	name = "vexfs_core"
	version = "0.1.0"
	edition = "2024"
	[workspace]
	[dependencies]
	zerocopy = { version = "=0.8.54", default-features = false }
	zerocopy-derive = "=0.8.54"
	bitflags = { version = "2", default-features = false }
	crc32fast = { version = "1", default-features = false }
	TOML
  say "fetching the dependencies' sources"
  (cd "$work/fetch" && logged "cannot fetch the crates ${LINKED[*]} ${HOST[*]} with cargo (no network?)" cargo vendor "$1")
}

# crate NAME OPTION...: compiles the vendored crate NAME, its build script's cfgs included.
crate() {
  local name=$1 out=$work/deps/build/$1 source=$work/deps/vendor/$1 edition line cfgs=()
  shift
  edition=$(sed -n 's/^edition = "\(.*\)"/\1/p' "$source/Cargo.toml")
  if [ -e "$source/build.rs" ]; then
    mkdir -p "$out"
    "$tool/rustc" --cap-lints=allow --edition="$edition" "${features[@]}" "$source/build.rs" -o "$out/build-script"
    while IFS= read -r line; do
      [[ $line =~ ^cargo:{1,2}rustc-cfg=(.*) ]] && cfgs+=(--cfg "${BASH_REMATCH[1]}")
    done < <(cd "$source" && CARGO_MANIFEST_DIR=$source OUT_DIR=$out RUSTC=$tool/rustc TARGET=$triple HOST=x86_64-unknown-linux-gnu \
      "$out/build-script")
  fi
  # zerocopy's documentation names its version.
  CARGO_PKG_VERSION=$(sed -n '0,/^version = /s/^version = "\(.*\)"/\1/p' "$source/Cargo.toml") \
    "$tool/rustc" --cap-lints=allow --edition="$edition" --crate-name "${name//-/_}" "${features[@]}" "${cfgs[@]}" "$@" "$source/src/lib.rs"
}

# object NAME OPTION...: the same flags for all that becomes an object of the kernel.
object() {
  local name=$1
  shift
  RUSTC_BOOTSTRAP=1 "$@" "${KERNEL[@]}" -L "$work/deps" --crate-type rlib \
    --emit="obj=$work/deps/$name.o,metadata=$work/deps/lib$name.rmeta"
}

build_dependencies() {
  local library=$tool/usr/src/rustc-$RUST/library old=(--cap-lints=allow --edition=2021) name features triple
  local host=(-Copt-level=1 -Ccodegen-units=1 -L "$work/deps/host" --out-dir "$work/deps/host")
  need cargo cc # cc: the linker of zerocopy-derive
  mkdir -p "$work/deps/host"
  fetch_sources "$work/deps/vendor"

  say "building core, alloc and the dependencies"
  # Every no_std crate names compiler_builtins; the kernel gives it an empty one too.
  echo '#![feature(compiler_builtins)] #![allow(internal_features)] #![compiler_builtins] #![no_std]' >"$work/deps/compiler_builtins.rs"
  object core nice "$tool/rustc" "${old[@]}" --crate-name core "$library/core/src/lib.rs"
  object compiler_builtins "$tool/rustc" "${old[@]}" --crate-name compiler_builtins "$work/deps/compiler_builtins.rs"
  object alloc nice "$tool/rustc" "${old[@]}" --crate-name alloc "$library/alloc/src/lib.rs"

  features=() triple=x86_64-unknown-none
  object cfg_if crate cfg-if
  object bitflags crate bitflags
  object crc32fast crate crc32fast --extern cfg_if
  object zerocopy crate zerocopy

  features=(--cfg 'feature="default"' --cfg 'feature="proc-macro"') triple=x86_64-unknown-linux-gnu
  crate unicode-ident --crate-type rlib "${host[@]}"
  crate proc-macro2 --crate-type rlib "${host[@]}" --extern unicode_ident
  crate quote --crate-type rlib "${host[@]}" --extern proc_macro2
  for name in derive parsing printing clone-impls full; do features+=(--cfg "feature=\"$name\""); done
  crate syn --crate-type rlib "${host[@]}" --extern proc_macro2 --extern quote --extern unicode_ident
  features=()
  crate zerocopy-derive --crate-type proc-macro "${host[@]}" --extern proc_macro --extern proc_macro2 --extern quote --extern syn

  cp "$work/deps/host/libzerocopy_derive.so" "$work/deps/"
  rm -rf "$work/deps"/{host,build,vendor}
  mv -T "$work/deps" "$deps"
}

# Fills the cache: one run at a time, each part whole or absent.
prepare() {
  [ -e "$tool" ] && [ -e "$deps" ] && return
  [ "$(uname -m)" = x86_64 ] || fail "this check runs on x86_64 only"
  mkdir -p "$base"
  exec 9>"$base/lock"
  flock --nonblock 9 || { say "waiting for another run, which is filling the cache" && flock 9; }
  rm -rf "$base"/new.*
  work=$(mktemp -d "$base/new.XXXXXX")
  [ -e "$tool" ] || fetch_toolchain
  [ -e "$deps" ] || build_dependencies
  find "$base" -maxdepth 1 -name 'deps-*' -mtime +30 -exec rm -rf {} +
  rm -rf "$work"
  exec 9>&-
}

# ---- the crate

# The core is generic over its host, and generic code becomes machine code where it is used. So a crate is made
# that takes the address of each public method of Volume, over a disk of which nothing is known.
write_instances() {
  local methods
  methods=$(find "$dir/src" -name '*.rs' -exec awk '
    /^impl<[^{]* Volume<[^{]*\{$/ && !/ for / { inside = 1 }
    /^}/ { inside = 0 }
    inside && /^    pub fn / { signature = ""; reading = 1 }
    reading { signature = signature $0 }
    reading && /\{$/ {
      reading = 0
      name = signature; sub(/^ *pub fn /, "", name); sub(/[^A-Za-z0-9_].*/, "", name)
      if (signature !~ /impl |fn [a-z_]*<[^'"'"']/) print "    Volume::<Host>::" name " as *const (),"
    }' {} + | sort -u)
  [ -n "$methods" ] || return 1
  cat >"$work/instances.rs" <<-RS
	#![no_std]
	use vexfs_core::device::{BlockDevice, Direct};
	use vexfs_core::volume::Volume;
	type Host = Direct<&'static dyn BlockDevice>;
	pub fn instances() -> [*const (); $(wc -l <<<"$methods")] {
	    [
	$methods
	    ]
	}
	RS
}

# compile NAME SOURCE OPTION...: one crate of ours. Small functions too become machine code that the check sees,
# instead of being left to the crates that inline them.
compile() {
  local name=$1 source=$2
  shift 2
  RUSTC_BOOTSTRAP=1 "$tool/rustc" "${KERNEL[@]}" "${FEATURES[@]}" --edition=2024 --crate-type rlib --crate-name "$name" \
    -Zcross-crate-inline-threshold=never -Cdebuginfo=line-tables-only -Aunexpected_cfgs -L "$deps" "$@" \
    --emit="obj=$work/$name.part.o,metadata=$work/lib$name.rmeta" "$source"
}

compile_core() {
  local parts=("$work/vexfs_core.part.o")
  # From the root, so that rustc names the files as a person does.
  cd "$root"
  compile vexfs_core "${dir#"$root"/}/src/lib.rs" --extern zerocopy --extern zerocopy_derive --extern bitflags --extern crc32fast ||
    fail "vexfs_core does not compile for the kernel (rustc $RUST, no_global_oom_handling)"
  if write_instances; then
    compile instances "$work/instances.rs" -L "$work" --extern vexfs_core || fail "the methods of Volume cannot be compiled for a host"
    say "$(grep -c 'as \*const' "$work/instances.rs") methods of Volume compiled for a host"
    parts+=("$work/instances.part.o")
  fi
  ld -r -o "$work/vexfs_core.o" "${parts[@]}"
}

# classify OBJECT: a line "CLASS<tab>SYMBOL" for each undefined symbol.
classify() {
  local provider
  {
    for provider in "$work/vexfs_core.o" "$deps"/{core,alloc,cfg_if,bitflags,crc32fast,zerocopy}.o; do
      nm -g --defined-only "$provider" | awk -v from="$(basename "$provider" .o)" '{ print "in", $3, from }'
    done
    nm -u "$1" | awk '{ print "want", $2 }'
  } | awk -v allocator="$ALLOCATOR" -v memory="$MEMORY" '
    BEGIN {
      split(allocator, list, " "); for (i in list) class[list[i]] = "allocator"
      split(memory, list, " "); for (i in list) class[list[i]] = "memory"
    }
    $1 == "in" { if (!($2 in class)) class[$2] = $3; next }
    {
      name = $2
      if (name in class) found = class[name]
      else if (name ~ /^__.*(ti[0-9]?|tisf|tidf)$/ && name !~ /^__(fix|float)/) found = "BAD 128-bit arithmetic routine"
      else if (name ~ /^__.*([shdxt]f|[shdxt]f[sdt]i)[0-9]?$/ || name ~ /^(f(ma|mod|min|max|loor)|ceil|trunc|round|rint|sqrt|pow|exp|log|sin|cos|tan)[0-9]*f?$/) found = "BAD float routine"
      else if (name == "__rust_alloc_error_handler") found = "BAD infallible allocation"
      else found = "BAD unknown"
      print found "\t" name
    }' | sort
}

# Without the crates' hashes.
demangle() {
  c++filt | sed -E 's/\[[0-9a-f]{10,16}\]//g'
}

# Where OBJECT needs SYMBOL: each place as its function and the crate's own line nearest to it.
show_uses() {
  local section offset
  objdump -r "$1" | awk -v symbol="$2" '
    /^RELOCATION RECORDS FOR/ { section = $4; gsub(/^\[|\]:$/, "", section) }
    { name = $3; sub(/[-+]0x[0-9a-f]+$/, "", name) }
    section ~ /^\.text/ && name == symbol { print section, $1 }' |
    while read -r section offset; do
      addr2line -e "$1" -j "$section" -ifp "0x$offset" | demangle | awk -v crate="$dir/" -v root="$root/" '
        function path(at) { return index(at, root) == 1 ? substr(at, length(root) + 1) : at }
        { at = $NF == ")" || $NF ~ /^\(disc/ ? $(NF - 2) : $NF }
        NR == 1 { sub(/ at .*/, ""); where = $0; line = at }
        !own && index(at, crate) == 1 { own = 1; line = at }
        END { print "      " path(line) " in " where }'
    done | sort -u | awk 'NR <= 20'
}

check_symbols() {
  local name class symbol bad=0 code
  for name in vexfs_core alloc bitflags cfg_if crc32fast zerocopy; do
    local file=$deps/$name.o
    [ "$name" != vexfs_core ] || file=$work/vexfs_core.o
    classify "$file" >"$work/$name.symbols"
    while IFS=$'\t' read -r class symbol; do
      bad=$((bad + 1))
      echo "  $name.o needs ${class#BAD }: $(demangle <<<"$symbol")"
      show_uses "$file" "$symbol"
    done < <(grep '^BAD' "$work/$name.symbols")
  done
  code=$(size "$work/vexfs_core.o" | awk 'NR == 2 { print $1 + $2 + $3 }')
  size "$work/vexfs_core.o" | awk 'NR == 2 { print "vexfs_core.o: text " $1 ", data " $2 ", bss " $3 " bytes" }'
  demangle <"$work/vexfs_core.symbols" | awk -F '\t' '
    $1 != last { print "undefined, " ($1 ~ /^BAD/ ? "not to be had (" substr($1, 5) ")" : $1 == "memory" || $1 == "allocator" ? "from the module (" $1 ")" : "from " $1) ":"; last = $1 }
    { print "    " $2 }'
  [ "$bad" = 0 ] || fail "$bad symbols that a kernel module cannot have"
  say "ok: vexfs_core.o $(((code + 1023) / 1024)) KiB, $(wc -l <"$work/vexfs_core.symbols") undefined symbols, all known"
}

need nm size objdump addr2line c++filt ld
lock=$(find_lock)
deps=$base/deps-$({
  echo "${KERNEL[@]}"
  declare -f fetch_sources crate object build_dependencies
  locked
} | sha256sum | cut -c1-16)
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT
prepare
touch "$deps"
work=$(mktemp -d)
compile_core
check_symbols
