# Sourced by posix.sh and soak-apps.sh after volume.sh: git and SQLite, the real programs that `make test` runs too.

# ---- git

# A repository of some size: the first 32 MiB of Linux's source, in four commits.
git_source() {
    local tar
    tar=$(compgen -G '/usr/src/linux-source-*.tar.xz' | sort -V | tail -n 1) || fail "no /usr/src/linux-source-*.tar.xz"
    mkdir "$work/unpacked"
    # Cut off, which tar tells and xz dies of.
    (xz -dc "$tar" 2>"$work/xz" || true) | head -c $((32 << 20)) |
        tar -x -C "$work/unpacked" --strip-components 1 2>"$work/tar" || true
    cd "$work/unpacked"
    git init -q
    local half
    half=$(find Documentation -type f | wc -l)
    find Documentation -type f | sort | awk -v half="$half" 'NR <= half / 2' | git add -f --pathspec-from-file=-
    git commit -qm "a half"
    git add -f .
    git commit -qm "all"
    find . -name '*.rst' -not -path './.git/*' -exec sed -i 's/kernel/KERNEL/' {} +
    git commit -qam "changed"
    git mv Documentation/admin-guide moved
    git commit -qm "moved"
    cd "$root"
}

suite_git() {
    export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t GIT_CONFIG_NOSYSTEM=1
    export GIT_CONFIG_GLOBAL=/dev/null
    [ -d "$work/unpacked" ] || git_source
    start 2G
    logged git clone -q --no-local "$work/unpacked" "$mnt/clone"
    cd "$mnt/clone"
    logged git checkout -q -b other HEAD~2
    echo one >one
    logged git add -f one
    logged git commit -qm one
    logged git rebase -q master
    logged git gc -q --aggressive --prune=now
    logged git fsck --strict --no-progress
    local files
    files=$(git ls-files | wc -l)
    cd "$root"
    finish
    cd "$mnt/clone"
    logged git fsck --strict --no-progress
    # The index still knows each file by its inode and times, and each has its bytes.
    logged git diff-files --quiet
    [ -z "$(git status --porcelain)" ] || fail "git status is not clean after a remount"
    [ "$(git rev-parse 'other~1^{tree}')" = "$(git -C "$work/unpacked" rev-parse 'HEAD^{tree}')" ] ||
        fail "another tree than the source's"
    git archive other~1 | tar -x --one-top-level="$work/archived"
    rm one
    logged diff -r --no-dereference -x .git "$work/archived" .
    cd "$root"
    rm -r "$work/archived"
    stop
    say "git: $files files cloned, rebased, packed, checked"
}

# ---- SQLite

suite_sqlite() {
    local mode round writer told before
    for mode in delete wal; do
        start 256M
        rm -f "$work/told"
        for round in $(seq "${KILLS:-10}"); do
            before=$(cat "$work/told" 2>"$work/log" || true)
            python3 -B "$data/sqlite_writer.py" "$mnt/$mode.db" "$mode" "$work/told" &
            writer=$!
            # On a busy machine it takes its time to begin.
            until [ "$(cat "$work/told" 2>"$work/log" || true)" != "$before" ]; do
                kill -0 "$writer" || fail "the writer ended by itself"
                sleep 0.1
            done
            sleep "1.$((round * 37 % 100))"
            kill -9 "$writer" || fail "the writer ended by itself"
            wait "$writer" 2>"$work/log" || true
            # The check opens it as it was left, and so rolls back what was not committed.
            told=$(python3 -B "$data/sqlite_writer.py" --check "$mnt/$mode.db" "$mode" "$work/told") ||
                fail "journal mode $mode, kill $round"
        done
        finish
        python3 -B "$data/sqlite_writer.py" --check "$mnt/$mode.db" "$mode" "$work/told" >"$work/log" ||
            fail "journal mode $mode after a remount"
        stop
        say "sqlite: journal mode $mode, ${KILLS:-10} kills, $told"
    done
}
