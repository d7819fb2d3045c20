#!/usr/bin/env bash
# soak.sh SUITE: the long runs, each of which goes on where it was ended and keeps a log.
#
#   crash     power cuts: random workloads by seed, until STATES (5,000,000) distinct states were judged
#   faults    every read, write and flush fails once and for ever, by seed, until FAULTS (100,000) runs were done
#   kill      the daemon killed under load, until KILLS (2,000) were done; what was acknowledged is there each time
#   posix     the conformance suites of posix.sh, longer than `make test` runs them
#   apps      real programs: the suites of soak-apps.sh
#   mutants   one change after the other in the code that keeps the volume consistent; the suites must notice (mutate-code.py)
#   all       these, and damaged images (soak-fuzz.sh), one after the other
#
# target/soak/SUITE.log has one line a batch: date, commit, command, counts, passed or FAILED; target/soak/SUITE.next holds
# where the next batch begins, SUITE.done which parts of posix and apps passed on which commit. A batch that fails ends the run and keeps its output. MINUTES=N ends it after N minutes
# (default 150) with exit code 3 if there is more to do: run it again.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=${1:?a suite: crash, faults, kill, posix, apps, mutants or all}
target=${CARGO_TARGET_DIR:-target}
soak=$target/soak
mkdir -p "$soak"
soak=$(cd "$soak" && pwd)
log=$soak/$suite.log
commit=$(git describe --always --dirty)
end=$((SECONDS + ${MINUTES:-150} * 60))

next() { cat "$soak/$suite.next" 2>/dev/null || echo "${1:-0}"; }
done_so_far() { cat "$soak/$suite.count" 2>/dev/null || echo 0; }
add() { echo $(($(done_so_far) + $1)) >"$soak/$suite.count"; }

# batch NAME PATTERN COMMAND...: runs it; notes the lines that match the pattern, and the first number in them.
batch() {
	local name=$1 pattern=$2 output="$soak/$suite-$1.txt" status=0 line
	shift 2
	"$@" >"$output" 2>&1 || status=$?
	line=$(grep -E "$pattern" "$output" | paste -sd ';')
	line=${line:-no result}
	echo "$(date -u +%FT%TZ) $commit '$*' $line: $([ "$status" = 0 ] && echo passed || echo "FAILED, see $output")" |
		tee -a "$log"
	[ "$status" = 0 ] || exit 1
	rm "$output"
	counted=$(grep -oE "$pattern" <<<"$line" | grep -oE '[0-9]+' | head -1) || counted=0
}

# until COUNT SIZE: calls `one FROM TO` for batches of SIZE seeds until so much was counted.
until_counted() {
	local wanted=$1 size=$2 from counted=0
	while [ "$(done_so_far)" -lt "$wanted" ]; do
		[ "$SECONDS" -lt "$end" ] || { echo "soak-$suite: $(done_so_far) of $wanted done, more to do"; exit 3; }
		from=$(next 1000000)
		one "$from" $((from + size))
		echo $((from + size)) >"$soak/$suite.next"
		add "$counted"
	done
	echo "soak-$suite: $(done_so_far) of $wanted done; $log has every batch"
}

# parts NAME=VALUE... SCRIPT SUITE...: suites of a script, one after the other. What passed on this very commit is not run again
# before all have.
parts() {
	local settings=() script part
	while [[ $1 = *=* ]]; do
		settings+=("$1")
		shift
	done
	script=$1
	shift
	for part in "$@"; do
		[ "${commit%-dirty}" != "$commit" ] || ! grep -qsxF "$commit $part" "$soak/$suite.done" || continue
		[ "$SECONDS" -lt "$end" ] || { echo "soak-$suite: more to do, from $part on"; exit 3; }
		batch "$part" '^(posix|soak-apps): ' env "${settings[@]}" "$script" "$part"
		echo "$commit $part" >>"$soak/$suite.done"
	done
	rm -f "$soak/$suite.done"
	echo "soak-$suite: all of it done: $*; $log has every part"
}

case $suite in
crash)
	cargo test --release --package vexfs_tests --no-default-features --test crash --no-run
	# Batches have states in common: the hashes of all, 16 bytes each, are kept, and each counts once.
	done_so_far() { echo $(($(stat -c %s "$soak/crash.states" 2>/dev/null || echo 0) / 16)); }
	add() { :; }
	one() {
		batch "$1" '[0-9]+ distinct states.*' env VEXFS_SEEDS="$1..$2" VEXFS_LIMITS=all VEXFS_STATES="$soak/crash.states" \
			cargo test --quiet --release --package vexfs_tests --no-default-features --test crash -- --nocapture
	}
	until_counted "${STATES:-5000000}" "${BATCH:-64}"
	;;
faults)
	cargo test --release --package vexfs_tests --no-default-features --test faults --no-run
	one() {
		batch "$1" '[0-9]+ runs with a failing disk.*' env VEXFS_SEEDS="$1..$2" \
			cargo test --quiet --release --package vexfs_tests --no-default-features --test faults every_call -- --nocapture
	}
	until_counted "${FAULTS:-100000}" "${BATCH:-16}"
	;;
kill)
	python=$(make -s python)
	one() {
		batch "$1" '[0-9]+ kills.*' env VEXFS_SEED="$1" VEXFS_KILLS="${BATCH:-10}" \
			"$python" -B -m pytest -p no:cacheprovider -rP tests/mount/test_kill.py
	}
	until_counted "${KILLS:-2000}" 1
	;;
posix)
	parts SEEDS="1 2 3 4 5" KILLS=100 SECONDS_EACH="${SECONDS_EACH:-10}" \
		scripts/posix.sh ext4 pjdfstest fsx git sqlite stress fio
	;;
apps)
	parts scripts/soak-apps.sh history cargo sqlite postgres dbench linux
	;;
mutants)
	scripts/setup.sh mutants
	python=${VEXFS_MUTANTS_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/vexfs/mutants-venv}/bin/python
	exec "$python" scripts/mutate-code.py --minutes "${MINUTES:-150}" --log "$log" --state "$soak/mutants.json" ${MUTANTS:+--count "$MUTANTS"}
	;;
all)
	more=()
	for each in crash faults kill posix apps fuzz mutants; do
		status=0
		case $each in
		fuzz) scripts/soak-fuzz.sh || status=$? ;;
		*) scripts/soak.sh "$each" || status=$? ;;
		esac
		[ "$status" = 0 ] || [ "$status" = 3 ] || exit "$status"
		[ "$status" = 0 ] || more+=("$each")
	done
	[ ${#more[@]} = 0 ] || { echo "soak: more to do in ${more[*]}: run it again"; exit 3; }
	;;
*)
	echo "$0: no suite is called $suite" >&2
	exit 2
	;;
esac
