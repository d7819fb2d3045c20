#!/usr/bin/env bash
# soak-apps.sh SUITE...: real programs on a VexFS mount, longer than posix.sh runs them (the programs from target/bin).
#
#   history     git: a clone of $COMMITS (default 10,000) commits, gc --aggressive, fsck --strict, every tag checked out
#   cargo       a workspace built twice: the second time, and once more after a remount, nothing is done
#   sqlite      journals delete and wal, the writer killed in the middle $KILLS (default 50) times
#   postgres    initdb -k, pgbench, immediate stop, recovery, the sums of all accounts, pg_checksums
#   linux       Linux's source unpacked, cp -a, rsync -aHAX, and rsync finds nothing left to do
#   dbench      the file server's load, 4 clients for $SECONDS_EACH (default 60)
#
# Each suite has a fresh image; afterwards all that it left is listed with its bytes, the volume unmounted, checked by
# fsck.vexfs -n -f, mounted and listed again, and the program looks at its files once more. The first failure ends the run
# with exit code 1. `scripts/setup.sh apps` installs what is needed. VEXFS_WORK=DIR: where the images lie (8 GB of room).
set -Eeuo pipefail

here=$(dirname "$0")
# shellcheck source=scripts/posix/volume.sh
. "$here/posix/volume.sh"
# shellcheck source=scripts/posix/programs.sh
. "$here/posix/programs.sh"

# ---- git, with much history

suite_history() {
    local commits=${COMMITS:-10000} tag
    export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
    git init -q -b master "$work/history"
    python3 -B "$data/git_history.py" "$commits" | git -C "$work/history" fast-import --quiet
    start 2G
    logged git clone -q --no-local "$work/history" "$mnt/clone"
    cd "$mnt/clone"
    logged git gc -q --aggressive --prune=now
    logged git fsck --strict --no-progress
    for tag in $(git tag); do
        logged git checkout -q --detach "$tag"
        logged git diff-files --quiet
    done
    logged git checkout -q master
    cd "$root"
    finish
    cd "$mnt/clone"
    logged git fsck --strict --no-progress
    logged git diff-files --quiet
    [ -z "$(git status --porcelain)" ] || fail "git status is not clean after a remount"
    [ "$(git rev-list --all | sort)" = "$(git -C "$work/history" rev-list --all | sort)" ] ||
        fail "other commits than the source's"
    say "history: $(git rev-list --count --all) commits cloned, packed, checked, $(git tag | wc -l) tags checked out"
    cd "$root"
    stop
    rm -r "$work/history"
}

# ---- cargo

# built_nothing: cargo finds all of it built, and says so of every package.
built_nothing() {
    logged cargo build --locked --verbose --package mkfs
    ! grep -E '^ *(Compiling|Dirty|Running)' "$work/log" >&2 || fail "cargo builds again what is built"
    grep -q '^ *Fresh vexfs_core ' "$work/log" || fail "cargo does not say that vexfs_core is fresh"
}

suite_cargo() {
    start 4G
    mkdir "$mnt/source"
    tar -C "$root" -c --exclude=./target --exclude=./.git . | tar -C "$mnt/source" -x
    cd "$mnt/source"
    local count
    export CARGO_TARGET_DIR=$mnt/target
    logged cargo build --locked --package mkfs
    count=$(grep -c '^ *Compiling' "$work/log") || fail "cargo built nothing"
    built_nothing
    cd "$root"
    finish
    cd "$mnt/source"
    built_nothing
    # What was built does its work.
    logged "$mnt/target/debug/mkfs_vexfs" -q "$work/other.img" 64M
    cd "$root"
    stop
    say "cargo: $count packages built, none of them again, and none after a remount"
}

# ---- PostgreSQL

postgres_bin=
# as_postgres PROGRAM ARGUMENTS...: PostgreSQL's server does not run as root.
as_postgres() {
    logged setpriv --reuid=postgres --regid=postgres --clear-groups env -C / "$postgres_bin/$1" "${@:2}"
}

start_postgres() {
    as_postgres pg_ctl -D "$mnt/db" -s -w -t 300 -l "$mnt/db/server.log" \
        -o "-c listen_addresses= -c unix_socket_directories=$work/socket" start
}

# Every transaction of pgbench moves one sum in three tables and notes it in a fourth; prints how many were done.
postgres_sums() {
    as_postgres psql -h "$work/socket" -d postgres -At -c 'select
        (select sum(abalance) from pgbench_accounts), (select sum(bbalance) from pgbench_branches),
        (select sum(tbalance) from pgbench_tellers), (select coalesce(sum(delta), 0) from pgbench_history),
        (select count(*) from pgbench_history)'
    awk -F'|' '{ exit !($1 == $2 && $2 == $3 && $3 == $4 && $5 > 0) }' "$work/log" ||
        fail "the sums of accounts, branches, tellers and history differ: $(cat "$work/log")"
    cut -d'|' -f5 "$work/log"
}

suite_postgres() {
    postgres_bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1) || fail "no /usr/lib/postgresql"
    chmod 755 "$work"
    install -d -o postgres -g postgres "$work/socket"
    start 2G allow_other,dev,suid
    install -d -o postgres -g postgres -m 700 "$mnt/db"
    as_postgres initdb -k -D "$mnt/db"
    start_postgres
    as_postgres pgbench -h "$work/socket" -i -q -s 10 postgres
    local round client told=0 count=0
    for round in $(seq "${ROUNDS:-3}"); do
        # Stopped in the middle, as a crash of the server would: what pgbench was told and noted is there, and of each of its
        # clients one transaction more at most.
        # Not vacuumed first (-n), by which pgbench empties its history.
        setpriv --reuid=postgres --regid=postgres --clear-groups env -C "$work/socket" "$postgres_bin/pgbench" \
            -n -h "$work/socket" -c 4 -T 600 --log --log-prefix="told$round" postgres >"$work/pgbench" 2>&1 &
        client=$!
        sleep "${SECONDS_EACH:-20}"
        as_postgres pg_ctl -D "$mnt/db" -s -w stop -m immediate
        wait "$client" || true
        start_postgres
        count=$(postgres_sums)
        told=$(cat "$work"/socket/told* | wc -l)
        [ "$count" -ge "$told" ] && [ "$count" -le $((told + 4 * round)) ] ||
            fail "$count transactions are there, $told were acknowledged"
    done
    as_postgres pg_ctl -D "$mnt/db" -s -w stop -m fast
    as_postgres pg_checksums --check -D "$mnt/db"
    finish allow_other,dev,suid
    as_postgres pg_checksums --check -D "$mnt/db"
    start_postgres
    [ "$(postgres_sums)" = "$count" ] || fail "other transactions after a remount"
    as_postgres pg_ctl -D "$mnt/db" -s -w stop -m fast
    stop
    say "postgres: $count transactions, $round immediate stops, all sums and checksums right"
}

# ---- Linux's source

# same A B: rsync, comparing bytes, finds nothing to do, attributes, ACLs and links among it.
same() {
    rsync -aHAXic --delete --dry-run "$1/" "$2/" >"$work/differs"
    [ ! -s "$work/differs" ] || { head -n 20 "$work/differs" >&2; fail "$1 and $2 differ"; }
}

suite_linux() {
    local tar tree files
    tar=$(compgen -G '/usr/src/linux-source-*.tar.xz' | sort -V | tail -n 1) || fail "no /usr/src/linux-source-*.tar.xz"
    mkdir "$work/unpacked"
    # Directories' times last: tar sets them too early where a file's name sorts into a directory's entries.
    tar -C "$work/unpacked" --delay-directory-restore -xf "$tar"
    start 8G
    mkdir "$mnt/tar" "$mnt/rsync"
    tar -C "$mnt/tar" --delay-directory-restore -xf "$tar"
    touch -r "$work/unpacked" "$mnt/tar"
    same "$work/unpacked" "$mnt/tar"
    rm -r "$work/unpacked"
    # Attributes and links for the copies to keep.
    tree=$(compgen -G "$mnt/tar/linux-source-*")
    ln "$tree/README" "$tree/README.linked"
    setfattr -n user.vector.readme:i8 -v 0x010203ff "$tree/README"
    setfacl -m u:1000:rw "$tree/COPYING"
    cp -a "$mnt/tar" "$mnt/copied"
    rsync -aHAX "$mnt/tar/" "$mnt/rsync/"
    rsync -aHAXi --delete "$mnt/tar/" "$mnt/rsync/" >"$work/differs"
    [ ! -s "$work/differs" ] || { head -n 20 "$work/differs" >&2; fail "rsync finds something to do the second time"; }
    same "$mnt/tar" "$mnt/copied"
    same "$mnt/tar" "$mnt/rsync"
    files=$(find "$mnt/tar" | wc -l)
    finish
    same "$mnt/tar" "$mnt/copied"
    stop
    say "linux: $files files unpacked, copied by cp -a and rsync -aHAX, compared"
}

# ---- dbench

suite_dbench() {
    start 2G
    logged dbench -c /usr/share/dbench/client.txt -D "$mnt" -t "${SECONDS_EACH:-60}" 4
    # Without System V semaphores in the kernel its clients do not wait for one another at the start.
    grep -v '^failed to create barrier semaphore' "$work/log" >"$work/dbench"
    ! grep -iE 'failed|error|mismatch' "$work/dbench" >&2 || fail "dbench met an error"
    grep -q '^Throughput' "$work/dbench" || fail "dbench did not end"
    finish
    stop
    say "dbench: $(grep '^Throughput' "$work/dbench"), $(awk '/^ [A-Z][A-Za-z]+ / { sum += $2 } END { print sum }' "$work/dbench") operations"
}

# What a failed suite left running holds the mount.
stop_postgres() {
    [ ! -s "$mnt/db/postmaster.pid" ] || kill -QUIT "$(head -n 1 "$mnt/db/postmaster.pid")" || true
}
trap 'stop_postgres; clean_up' EXIT

[ $# -gt 0 ] || { sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 2; }
export KILLS=${KILLS:-50}
run_suites "$@"
