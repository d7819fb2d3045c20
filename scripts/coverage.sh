#!/usr/bin/env bash
# coverage.sh: which lines of the core its tests run (`make coverage`); fails below the share that docs/RELIABILITY.md promises.
#
# The suites of vexfs_core and tests/ run once, instrumented, at the effort of an unoptimized build: two threads that count
# lines in the same places are slow. Lines of the tests themselves do not count. VEXFS_COVERAGE_MIN=95 is the least
# share in percent.
set -euo pipefail
cd "$(dirname "$0")/.."

least=${VEXFS_COVERAGE_MIN:-95}
tools=${XDG_CACHE_HOME:-$HOME/.cache}/vexfs/tools
export PATH=$tools/bin:$PATH VEXFS_LIMITS=few VEXFS_EFFORT=few
export VEXFS_WORKLOADS=create-and-append,create-and-append+sync,replace-by-rename+sync,shrink-a-large-file+sync,run-full+sync
VEXFS_WORKLOADS+=,set-vectors+sync,reuse-rows,compaction,metadata,batches,unlink-open-with-vectors,attributes-before-data
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/coverage

# Measured in the core alone: the files that test it, and what only planted bugs need, are left out.
ignored='/(tests|vexfs_search|vexfs_host|vexfs_fuse|vexfs_cli|mkfs|kernel)/|/tests\.rs$|/bugs\.rs$'
cargo llvm-cov clean --workspace
cargo llvm-cov --no-report --release --package vexfs_core --package vexfs_tests -- --quiet
cargo llvm-cov report --release --json --summary-only --ignore-filename-regex "$ignored" >"$CARGO_TARGET_DIR/coverage.json"
python3 - "$CARGO_TARGET_DIR/coverage.json" "$least" <<'PY'
import json
import sys

report, least = sys.argv[1], float(sys.argv[2])
data = json.load(open(report))["data"][0]
rows = [(file["filename"].split("vexfs_core/src/")[1], file["summary"]["lines"]) for file in data["files"] if "vexfs_core/src/" in file["filename"]]
for name, lines in sorted(rows, key=lambda row: row[1]["percent"]):
    print(f"{lines['percent']:6.1f} %  {lines['count'] - lines['covered']:5} of {lines['count']:5} lines not run  {name}")
count, covered = (sum(lines[key] for _, lines in rows) for key in ("count", "covered"))
share = 100 * covered / count
print(f"coverage of the core: {share:.2f} % of {count} lines")
sys.exit(share < least and f"make coverage: less than {least} %")
PY
