"""Counts what a lake table holds whose columns came one after the other, by a client that is not ours.

Reads on standard input {"table": path, "format": "delta" | "parquet" | "jsonl", "kind": "stream" | "table",
"fields": names}; prints rows, distinct offsets, the rows that have each field, and a changelog's last state.
"""

import json
import os
import sys

import deltalake
import duckdb

asked = json.load(sys.stdin)
table = asked["table"]
if asked["format"] == "delta":
    found = deltalake.DeltaTable(table).to_pyarrow_table()
    source = "found"
else:
    reader = {"parquet": "read_parquet", "jsonl": "read_json"}[asked["format"]]
    source = f"{reader}('{table}/year=*/**/*.{asked['format']}', union_by_name = true)"
counts = "".join(f", count({field})" for field in asked["fields"])
query = f"SELECT count(*), count(DISTINCT (_partition, _offset)){counts} FROM {source}"
rows, distinct, *fields = duckdb.sql(query).fetchall()[0]
last = {}
if asked["kind"] == "table":
    query = (
        "SELECT id, arg_max(number, _offset), arg_max(_op, _offset) "
        f"FROM (SELECT id, coalesce(number, -1) AS number, _op, _offset FROM {source}) GROUP BY id"
    )
    last = {id: number for id, number, op in duckdb.sql(query).fetchall() if op == "upsert"}
json.dump({"rows": rows, "distinct": distinct, "fields": fields, "last": last}, sys.stdout)
sys.stdout.flush()
# Some of these libraries abort when the interpreter takes them down, after a right answer.
os._exit(0)
