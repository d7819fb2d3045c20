#!/bin/bash
# Damaged images by the hundred thousand: goes on at the seed where the last run ended, until IMAGES were done in all.
#
# target/soak/fuzz.seed holds the next seed, target/soak/fuzz.log one line a batch: date, commit, seeds, counts. A batch
# that fails is logged with what it found, and ends the run; its lines belong into tests/corpus/mutants.txt. MINUTES=N ends it
# after N minutes (default 150) with exit code 3 if there is more to do.
set -euo pipefail
cd "$(dirname "$0")/.."

images=${IMAGES:-1000000}
batch=${BATCH:-5000}
jobs=${JOBS:-$(nproc)}
target=${CARGO_TARGET_DIR:-target}
soak=$target/soak
mkdir -p "$soak"

cargo test --profile fuzz --package vexfs_tests --test mutants --no-run
commit=$(git describe --always --dirty)
# Large blocks are taken and given back all the time: not each by a call of the kernel (mallopt(3)).
export MALLOC_MMAP_THRESHOLD_=$((64 << 20)) MALLOC_TRIM_THRESHOLD_=$((128 << 20))

one() {
	local first=$1 output="$soak/fuzz-$1.txt" status=0
	VEXFS_SEED=$first VEXFS_IMAGES=$batch cargo test --quiet --profile fuzz --package vexfs_tests \
		--test mutants any_image -- --nocapture >"$output" 2>&1 || status=$?
	echo "$(date -u +%FT%TZ) $commit $(grep -m1 '^mutated images' "$output" || echo "seeds from $first: no result")" \
		"$([ "$status" = 0 ] && echo passed || echo FAILED, see "$output")" >>"$soak/fuzz.log"
	[ "$status" != 0 ] || rm "$output"
	return "$status"
}

# Batches side by side; the seed is noted once all of a round passed.
next=$(cat "$soak/fuzz.seed" 2>/dev/null || echo 1000000)
end=$((1000000 + images))
until=$((SECONDS + ${MINUTES:-150} * 60))
while [ "$next" -lt "$end" ]; do
	[ "$SECONDS" -lt "$until" ] || { echo "soak-fuzz: $((next - 1000000)) of $images done, more to do"; exit 3; }
	pids=()
	for ((job = 0; job < jobs; job++)); do
		one $((next + job * batch)) &
		pids+=($!)
	done
	failed=0
	for pid in "${pids[@]}"; do
		wait "$pid" || failed=1
	done
	tail -n "$jobs" "$soak/fuzz.log"
	[ "$failed" = 0 ] || exit 1
	next=$((next + jobs * batch))
	echo "$next" >"$soak/fuzz.seed"
done
echo "soak-fuzz: $((next - 1000000)) images done in all; $soak/fuzz.log has every batch"
