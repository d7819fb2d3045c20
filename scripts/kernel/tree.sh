#!/usr/bin/env bash
# tree.sh: makes the place where the module is built, and prints its path as the last line.
#
# A Debian chroot with the compilers that built Debian's kernel, and that kernel's source, configured and prepared as
# Debian's own, so that a module built in it loads in the stock kernel. Always true: a tree that is printed is whole;
# one that is there already is used without a network. KERNEL is taken if the index of the suite's backports lists it,
# else the newest release of SERIES.
set -euo pipefail
# shellcheck source=scripts/kernel/common.sh
source "$(dirname "$0")/common.sh"

COMPILERS=(gcc-14 libc6-dev make flex bison bc libelf-dev libssl-dev libdw-dev dwarves rustc rust-src bindgen kmod cpio
  xz-utils python3-minimal)
GUEST=(busybox-static qemu-system-x86)

# The mirror that this machine's apt uses for its own release.
mirror() {
  local codename found
  # shellcheck disable=SC1091
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  # shellcheck disable=SC2016 # apt's own variables
  found=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v release="$codename" '$2 == release && $3 == "main" && !found { print $1; found = 1 }')
  [ -n "$found" ] || fail "no Debian mirror (suite '$codename', component main) in this machine's apt configuration: run apt-get update"
  echo "$found"
}

# The packages' index of the suite and its backports, with a state of its own: the machine's apt is not touched.
read_index() {
  local apt=$work/apt keyring=/usr/share/keyrings/debian-archive-keyring.gpg signed="" suite
  mkdir -p "$apt"/{state/lists/partial,cache/archives/partial}
  : >"$apt/status"
  [ ! -e $keyring ] || signed=" signed-by=$keyring"
  for suite in "$SUITE" "$SUITE-backports"; do
    echo "deb [arch=amd64$signed] $from $suite main"
  done >"$apt/sources.list"
  index=(-q -o "Dir::State=$apt/state" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache"
    -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o APT::Architecture=amd64
    -o APT::Architectures=amd64 -o APT::Sandbox::User= -o APT::Update::Error-Mode=any -o Acquire::Languages=none
    -o Acquire::Retries=3 -o Debug::NoLocking=1)
  logged "$work/index.log" "cannot fetch the package lists of $SUITE and its backports (no network?)" \
    apt-get "${index[@]}" update
}

# The wanted release if the index lists it, else the newest of the series, as Debian names it: 7.2.12+deb13-cloud-amd64.
choose_release() {
  local listed pattern="^linux-headers-${SERIES//./\\.}\\.[0-9]+\\+deb[0-9]+-$FLAVOUR\$"
  listed=$(apt-cache "${index[@]}" pkgnames "linux-headers-$SERIES." | grep -E "$pattern" | sed 's/^linux-headers-//' | sort -V)
  [ -n "$listed" ] || fail "the index of $SUITE-backports lists no kernel $SERIES.x of the flavour $FLAVOUR"
  release=$(grep -F "$KERNEL+" <<<"$listed" | tail -n 1 || true)
  if [ -z "$release" ]; then
    release=$(tail -n 1 <<<"$listed")
    say "$KERNEL is no longer listed: taking $release" >&2
  fi
}

make_chroot() {
  local version packages
  version=$(apt-cache "${index[@]}" show "linux-headers-$release" | sed -n 's/^Version: //p' | sort -V | tail -n 1)
  packages=("${COMPILERS[@]}" "${GUEST[@]}" "linux-source-$SERIES=$version" "linux-headers-$release=$version"
    "linux-binary-$release=$version" "linux-modules-$release=$version")
  command -v mmdebstrap >/dev/null ||
    logged "$work/apt.log" "cannot install mmdebstrap" apt-get install -y -qq --no-install-recommends mmdebstrap
  say "making a chroot of Debian $SUITE with the kernel $release (some minutes, 4 GB)" >&2
  logged "$work/mmdebstrap.log" "mmdebstrap failed" nice mmdebstrap --variant=apt --mode=root \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --include="$(IFS=, && echo "${packages[*]}")" \
    "$SUITE" "$work/root" "deb $from $SUITE main" "deb $from $SUITE-backports main"
  rm -rf "$work"/root/var/cache/apt/archives/*.deb
}

prepare_kernel() {
  local dir=$work/root
  say "preparing the kernel's source" >&2
  mkdir -p "$dir/kernel/build"
  tar -C "$dir/kernel" -xf "$dir/usr/src/linux-source-$SERIES.tar.xz"
  cp "$dir/usr/src/linux-headers-$release/.config" "$dir/kernel/build/.config"
  printf '%s' "+${release#*+}" >"$dir/kernel/build/localversion"
  # modules_prepare, not prepare: without scripts/module.lds the last link of a module fails.
  # shellcheck disable=SC2016 # expanded inside
  logged "$work/prepare.log" "the kernel's source cannot be prepared" in_chroot "$dir" bash -ec '
    cd /kernel/linux-source-*
    for target in olddefconfig modules_prepare; do
      nice make -s O=/kernel/build LOCALVERSION= CC=x86_64-linux-gnu-gcc-14 KRUSTFLAGS=-Cdebuginfo=0 -j"$(nproc)" $target
    done'
  [ "$(cat "$dir/kernel/build/include/config/kernel.release")" = "$release" ] ||
    fail "the prepared source calls itself $(cat "$dir/kernel/build/include/config/kernel.release"), not $release"
  cp "$dir/usr/src/linux-headers-$release/Module.symvers" "$dir/kernel/build/"
  check_rust_symbols "$dir"
}

# What our compiler calls the kernel's Rust functions must be what the stock kernel exports.
check_rust_symbols() {
  local ours theirs
  ours=$(sed -n 's/.*EXPORT_SYMBOL_RUST_GPL(\(.*\));/\1/p' "$1"/kernel/build/rust/exports_*_generated.h | sort -u)
  theirs=$(awk '{ print $2 }' "$1/kernel/build/Module.symvers" | sort -u)
  [ -n "$ours" ] && [ -z "$(comm -23 <(echo "$ours") <(echo "$theirs"))" ] ||
    fail "the kernel's Rust symbols as built here are not those of the stock kernel: another rustc built it"
  say "$(wc -l <<<"$ours") Rust symbols as the stock kernel exports them" >&2
}

# A whole tree of the series, the wanted release before any other.
find_tree() {
  local found
  found=$(ls -d "$cache/$KERNEL+"*-"$FLAVOUR" 2>/dev/null | sort -V | tail -n 1 || true)
  [ -n "$found" ] || found=$(ls -d "$cache/$SERIES."*-"$FLAVOUR" 2>/dev/null | sort -V | tail -n 1 || true)
  echo "$found"
}

need_root
mkdir -p "$cache"
exec 9>"$cache/lock"
flock --nonblock 9 || { say "waiting for another run, which is filling $cache" >&2 && flock 9; }
tree=$(find_tree)
if [ -z "$tree" ]; then
  rm -rf "$cache"/new.*
  work=$(mktemp -d "$cache/new.XXXXXX")
  chmod 755 "$work"
  from=$(mirror)
  read_index
  choose_release
  make_chroot
  prepare_kernel
  tree=$cache/$release
  mv -T "$work/root" "$tree"
  rm -rf "$work"
fi
echo "$tree"
