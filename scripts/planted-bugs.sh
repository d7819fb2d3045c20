#!/bin/sh
# Plants one bug after the other into the core (the places say `cfg(vexfs_bug = "...")`) and runs a short part of
# the suites, which must fail each time: a suite that finds no planted bug would find no real one.
# Usage: scripts/planted-bugs.sh [NAME ...]      without names: all of them.
set -eu
cd "$(dirname "$0")/.."

# Name, suite, and the workloads that make its run short.
bugs='
no_flush_before_superblock  crash       create-and-append,replace-by-rename
no_flush_after_superblock   crash       create-and-append,replace-by-rename
superblock_before_nodes     crash       create-and-append,replace-by-rename
reuse_before_durable        crash       reuse-freed-blocks,commit-by-commit,directory-grows-and-shrinks
blank_before_durable        crash       remove-vectors-and-tidy,reuse-rows,replace-vectors,unlink-with-vectors
node_checksum_ignored       corruption  -
no_flush_after_log          crash       create-and-append+sync,set-vectors+sync
log_before_data             crash       shrink-a-large-file+sync,run-full+sync,reuse-freed-blocks+sync
log_without_bytes           crash       create-and-append+sync,set-vectors+sync
replay_without_bytes        crash       create-and-append+sync,set-vectors+sync
log_checksum_ignored        crash       create-and-append+sync,set-vectors+sync,replace-by-rename+sync
overwrite_before_stale      crash       write-under-vectors,write-under-vectors+sync
orphan_forgotten            crash       unlink-while-open,unlink-open-with-vectors
vector_before_told          told        -
compaction_before_told      told        -
superblock_in_one_slot      corruption  -
log_of_any_base             crash       create-and-append+sync,replace-by-rename+sync,set-vectors+sync
replay_over_nodes           repair      -
bound_before_bytes          crash       ace-overwrite-replace-vector+sync,ace-overwrite-first-vector+sync
shrunk_forgotten            crash       ace-shrink-overwrite+commit,ace-shrink-overwrite+sync
'

# Every name in the core must be in the list, and the other way round.
in_core=$(grep -rhoE 'vexfs_bug = "[a-z_]+"' vexfs_core/src | cut -d'"' -f2 | sort -u)
in_list=$(printf '%s\n' "$bugs" | awk 'NF { print $1 }' | sort -u)
if [ "$in_core" != "$in_list" ]; then
    echo "the bugs planted in the core and those in the list of $0 differ:" >&2
    printf 'core: %s\nlist: %s\n' "$in_core" "$in_list" >&2
    exit 1
fi

# A wrapper for each bug: cargo keeps what different wrappers made apart, and builds the libraries only once.
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/planted-bugs"
target=$(cd "$target/planted-bugs" && pwd)
export CARGO_TARGET_DIR="$target" RUST_BACKTRACE=0
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=false

planted=0
found=0
for name in ${*:-$in_list}; do
    line=$(printf '%s\n' "$bugs" | awk -v name="$name" '$1 == name')
    if [ -z "$line" ]; then
        echo "no planted bug is called $name" >&2
        exit 1
    fi
    suite=$(echo "$line" | awk '{ print $2 }')
    workloads=$(echo "$line" | awk '{ print $3 }')
    wrapper=$target/$name.sh
    printf '#!/bin/sh\nrustc=$1\nshift\nexec "$rustc" "$@" --cfg %s\n' "'vexfs_bug=\"$name\"'" >"$wrapper"
    chmod +x "$wrapper"
    export RUSTC_WORKSPACE_WRAPPER="$wrapper"
    run="cargo test --quiet --package vexfs_tests --release --test $suite"
    # A suite that does not compile fails as well, and proves nothing.
    $run --no-run
    planted=$((planted + 1))
    if [ "$workloads" != - ]; then
        export VEXFS_WORKLOADS="$workloads"
    else
        unset VEXFS_WORKLOADS || true
    fi
    if VEXFS_LIMITS=few $run >"$target/$name.log" 2>&1; then
        echo "  $name: NOT FOUND by the suite $suite"
    else
        found=$((found + 1))
        echo "  $name: found by the suite $suite"
    fi
done
echo "planted bugs: $found of $planted found"
[ "$found" -eq "$planted" ]
