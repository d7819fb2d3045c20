#!/usr/bin/env bash
# Installs what the Makefile's targets need: setup.sh [build] [demo] [test] [soak] [apps] [codecs] [interop] [coverage] [mutants]
#
# build: a C compiler, the libraries of SQLite and zstd, and cargo.  demo: tools for attributes and a Python venv.  test: other filesystems' tools, Linux's
# source, and the conformance suites (from crates.io, into ~/.cache/vexfs/tools).  soak: what only the long runs need.  apps: PostgreSQL and dbench.
# codecs: a second venv, with faiss.  interop: a third, with Arrow, polars, duckdb, faiss, LMDB and sqlite-vec.  coverage: cargo-llvm-cov.
# mutants: a fourth, with a parser of Rust.
# Does nothing, quickly, when all is there; needs root (or sudo) only when something is not.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VEXFS_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/vexfs/venv}
codecs_venv=${VEXFS_CODECS_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/vexfs/codecs-venv}
mutants_venv=${VEXFS_MUTANTS_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/vexfs/mutants-venv}
interop_venv=${VEXFS_INTEROP_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/vexfs/interop-venv}

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

# Debian packages, and of each a file (or a pattern of one) that shows that it is there.
packages_of() {
    case $1 in
    build) echo 'gcc:/usr/bin/gcc libc6-dev:/usr/include/stdio.h libsqlite3-dev:/usr/include/sqlite3.h
                libzstd-dev:/usr/include/zstd.h pkg-config:/usr/bin/pkg-config' ;;
    demo) echo 'attr:/usr/bin/setfattr rsync:/usr/bin/rsync fuse3:/usr/bin/fusermount3 mount:/usr/bin/mount
                python3:/usr/bin/python3 python3-venv:/usr/lib/python3*/ensurepip/__init__.py' ;;
    test) echo 'acl:/usr/bin/setfacl tar:/usr/bin/tar xz-utils:/usr/bin/xz e2fsprogs:/usr/sbin/mkfs.ext4
                xfsprogs:/usr/sbin/mkfs.xfs libcap2-bin:/usr/sbin/setcap util-linux:/usr/bin/unshare
                git:/usr/bin/git vim:/usr/bin/vim libacl1-dev:/usr/include/sys/acl.h linux-source:/usr/src/linux-source-*.tar.xz' ;;
    soak) echo 'stress-ng:/usr/bin/stress-ng fio:/usr/bin/fio' ;;
    apps) echo 'postgresql:/usr/lib/postgresql/*/bin/pgbench dbench:/usr/bin/dbench' ;;
    coverage) echo 'python3:/usr/bin/python3' ;;
    codecs | interop | mutants) echo 'python3:/usr/bin/python3 python3-venv:/usr/lib/python3*/ensurepip/__init__.py' ;;
    *) die "unknown group '$1': build, demo, test, soak, apps, codecs, interop, coverage or mutants" ;;
    esac
}

install_packages() {
    local missing=() entry
    set -f
    for entry in $(for group in "$@"; do packages_of "$group"; done); do
        compgen -G "${entry#*:}" >/dev/null || missing+=("${entry%%:*}")
    done
    set +f
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "missing: ${missing[*]} (this script knows apt-get only; install them by hand)"
    local root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "missing: ${missing[*]}; run as root or install sudo"
        root=(sudo)
    fi
    say "installing ${missing[*]}"
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

check_cargo() {
    local minimum=1.89.0 version
    command -v cargo >/dev/null || die "cargo is missing: install Rust $minimum or newer (https://rustup.rs)"
    version=$(rustc --version | cut -d' ' -f2)
    [ "$(printf '%s\n' "$minimum" "${version%%-*}" | sort -V | head -1)" = "$minimum" ] ||
        die "rustc is $version; VexFS needs $minimum or newer (rustup update)"
}

make_venv() {
    local venv=$1 requirements=$2 stamp wanted
    stamp=$venv/requirements.sha256
    wanted=$(sha256sum <"$requirements")
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "python3 is older than 3.11"
    say "making the Python environment $venv"
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
    echo "$wanted" >"$stamp"
}

# Programs from crates.io, at these versions.
install_programs() {
    local tools=${XDG_CACHE_HOME:-$HOME/.cache}/vexfs/tools suite
    for suite in "$@"; do
        grep -qs "^\"${suite/@/ } " "$tools/.crates.toml" && continue
        say "building $suite"
        env -u CARGO_TARGET_DIR nice cargo install --quiet --locked --root "$tools" "$suite" ||
            die "cannot install $suite with cargo (no network?)"
    done
}

[ $# -gt 0 ] || set -- build demo test
install_packages "$@"
for group in "$@"; do
    case $group in
    build) check_cargo ;;
    demo) make_venv "$venv" scripts/requirements.txt ;;
    test)
        make_venv "$venv" scripts/requirements.txt
        # The conformance suites, at versions whose lists of skips stand in scripts/posix.
        install_programs pjdfstest@0.2.2 fsx@0.3.2
        ;;
    codecs) make_venv "$codecs_venv" scripts/codecs-requirements.txt ;;
    coverage)
        install_programs cargo-llvm-cov@0.9.1
        command -v rustup >/dev/null || die "rustup is missing, which brings Rust's llvm-tools (https://rustup.rs)"
        rustup component add llvm-tools 2>/dev/null || die "cannot add llvm-tools with rustup (no network?)"
        ;;
    mutants) make_venv "$mutants_venv" scripts/mutants-requirements.txt ;;
    interop) make_venv "$interop_venv" scripts/interop-requirements.txt ;;
    esac
done
