#!/usr/bin/env python3
"""sqlite-sync.py FILE COUNT: COUNT synced transactions, then integrity_check and every row in its place."""
import sqlite3
import sys

path, count = sys.argv[1], int(sys.argv[2])
db = sqlite3.connect(path, isolation_level=None)
db.execute("pragma synchronous = full")
db.execute("create table t(id integer primary key, body text)")
for number in range(count):
    db.execute("begin")
    db.execute("insert into t values (?, ?)", (number, f"row {number} " * (number % 50)))
    db.execute("commit")
db.close()
db = sqlite3.connect(path)
assert db.execute("pragma integrity_check").fetchone() == ("ok",)
rows = db.execute("select id, body from t order by id").fetchall()
assert rows == [(number, f"row {number} " * (number % 50)) for number in range(count)]
print(f"{count} transactions, integrity ok")
