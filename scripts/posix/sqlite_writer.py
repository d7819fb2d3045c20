"""Writes to a database until it is killed: sqlite_writer.py DATABASE MODE ACKNOWLEDGED

Each transaction adds ROWS rows of one number; when SQLite says that it is durable, the number goes to the file
ACKNOWLEDGED. `sqlite_writer.py --check` with the same arguments says what is wrong with the database.
"""

import os
import sqlite3
import sys

ROWS = 7


def write(database, mode, acknowledged):
    connection = sqlite3.connect(database, isolation_level=None)
    assert connection.execute(f"pragma journal_mode={mode}").fetchone()[0] == mode
    connection.execute("pragma synchronous=full")
    connection.execute("create table if not exists entry (number integer, part integer, text text)")
    connection.execute("create index if not exists by_number on entry (number)")
    number = connection.execute("select coalesce(max(number), 0) from entry").fetchone()[0]
    # Killed before its first transaction, it leaves what the one before it told.
    told = os.open(acknowledged, os.O_WRONLY | os.O_CREAT, 0o644)
    while True:
        number += 1
        connection.execute("begin immediate")
        rows = [(number, part, f"{number}.{part} " * (number % 97)) for part in range(ROWS)]
        connection.executemany("insert into entry values (?, ?, ?)", rows)
        connection.execute("update entry set text = 'changed' where number = ? and part = 0", (number // 2,))
        if number % 13 == 0:
            connection.execute("delete from entry where number = ?", (number - 12,))
        connection.execute("commit")
        os.pwrite(told, b"%20d" % number, 0)


def check(database, acknowledged):
    with open(acknowledged) as file:
        durable = int(file.read() or 0)
    connection = sqlite3.connect(database)
    said = connection.execute("pragma integrity_check").fetchall()
    assert said == [("ok",)], said
    highest = connection.execute("select coalesce(max(number), 0) from entry").fetchone()[0]
    assert highest in (durable, durable + 1), f"{durable} was durable, the last one there is {highest}"
    parts = "select number, count(*) from entry group by number having count(*) <> ?"
    torn = connection.execute(parts, (ROWS,)).fetchall()
    assert not torn, f"transactions in part: {torn}"
    numbers = {row[0] for row in connection.execute("select distinct number from entry")}
    gone = {number - 12 for number in range(13, highest + 1, 13)}
    assert numbers == set(range(1, highest + 1)) - gone, "a transaction is missing"
    print(f"{highest} transactions")


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        check(sys.argv[2], sys.argv[4])
    else:
        write(*sys.argv[1:])
