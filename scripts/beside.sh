#!/usr/bin/env bash
# beside.sh LOG COMMAND COMMAND: runs the first command in the background, into LOG, and the second meanwhile.
#
# Shows the log when both have ended, and fails if either did. If the second fails, the first is ended: nobody waits for
# what cannot mend it any more. An emulated guest has most of the time use for one processor only; this is for the other.
set -euo pipefail
log=${1:?LOG} behind=${2:?the command in the background} front=${3:?the other command}

mkdir -p "$(dirname "$log")"
# A process group of its own, so that all of it can be ended.
set -m
bash -c "$behind" >"$log" 2>&1 </dev/null &
pid=$!
set +m
ended() { kill -- "-$pid" 2>/dev/null || true; }
trap ended EXIT
echo "meanwhile, its output follows at the end ($log): $behind"

bash -c "$front"
status=0
wait "$pid" || status=$?
trap - EXIT
echo "== $behind"
cat "$log"
[ "$status" = 0 ] || { echo "FAILED ($status): $behind" >&2 && exit 1; }
