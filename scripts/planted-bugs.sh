#!/bin/sh
# Plants one bug after the other into the core (the places say `planted("...")`) and runs a short part of the suites,
# which must pass without it and fail with it: a suite that finds no planted bug would find no real one. Before them, the suite
# in which every allocation fails, which needs the same build.
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
batch_before_told           told        -
compaction_before_told      told        -
superblock_in_one_slot      corruption  -
log_of_any_base             crash       create-and-append+sync,replace-by-rename+sync,set-vectors+sync
replay_over_nodes           repair      -
bound_before_bytes          crash       ace-overwrite-replace-vector+sync,ace-overwrite-first-vector+sync
shrunk_forgotten            crash       ace-shrink-overwrite+commit,ace-shrink-overwrite+sync
history_forgotten           crash       superseded-vectors,superseded-goes
recode_passes_changes       crash       recode-while-it-changes,recode-and-go-on
'

# Every name in the core must be in the list, and the other way round.
in_core=$(grep -rhoE 'planted\("[a-z_]+"\)' vexfs_core/src | cut -d'"' -f2 | sort -u)
in_list=$(printf '%s\n' "$bugs" | awk 'NF { print $1 }' | sort -u)
if [ "$in_core" != "$in_list" ]; then
    echo "the bugs planted in the core and those in the list of $0 differ:" >&2
    printf 'core: %s\nlist: %s\n' "$in_core" "$in_list" >&2
    exit 1
fi

# One build has them all, and the environment says which is there. The wrapper gives the flag to our own crates alone, and
# keeps what it made apart.
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/planted-bugs"
target=$(cd "$target/planted-bugs" && pwd)
wrapper=$target/rustc.sh
printf '#!/bin/sh\nrustc=$1\nshift\nexec "$rustc" "$@" --cfg vexfs_bugs\n' >"$wrapper"
chmod +x "$wrapper"
export CARGO_TARGET_DIR="$target" RUSTC_WORKSPACE_WRAPPER="$wrapper" RUST_BACKTRACE=0 VEXFS_LIMITS=few
export CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=false

# run SUITE WORKLOADS LOG [NAME=VALUE]: the suite, cut short.
run() {
    workloads=$2
    [ "$workloads" != - ] || workloads=
    env ${workloads:+"VEXFS_WORKLOADS=$workloads"} ${4:+"$4"} \
        cargo test --quiet --package vexfs_tests --no-default-features --release --test "$1" >"$3" 2>&1
}

suites=$(printf '%s\n' "$bugs" | awk 'NF { print "--test " $2 }' | sort -u)
# shellcheck disable=SC2086 # words
cargo test --quiet --package vexfs_tests --no-default-features --release --no-run --test memory $suites

# In the same build allocations fail on purpose.
if ! cargo test --package vexfs_tests --no-default-features --release --test memory -- --nocapture >"$target/memory.log" 2>&1; then
    cat "$target/memory.log" >&2
    exit 1
fi
grep '^memory:' "$target/memory.log"

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
    planted=$((planted + 1))
    # A suite that fails by itself proves nothing.
    if ! run "$suite" "$workloads" "$target/none.log"; then
        cat "$target/none.log" >&2
        echo "the suite $suite fails without a planted bug" >&2
        exit 1
    fi
    if run "$suite" "$workloads" "$target/$name.log" "VEXFS_BUG=$name"; then
        echo "  $name: NOT FOUND by the suite $suite"
    else
        found=$((found + 1))
        echo "  $name: found by the suite $suite"
    fi
done
echo "planted bugs: $found of $planted found"
[ "$found" -eq "$planted" ]
