"""Prints the rows of a lake table as {offset: row}, read by a client that is not ours.

Its argument: {"table": path, "format": "delta" | "parquet" | "jsonl", "json": columns that hold JSON}.
"""

import decimal
import glob
import json
import sys

import deltalake
import pyarrow.parquet as pq

asked = json.loads(sys.argv[1])
table, form = asked["table"], asked["format"]
if form == "delta":
    rows = deltalake.DeltaTable(table).to_pyarrow_table().to_pylist()
elif form == "parquet":
    rows = [
        row
        for file in glob.glob(f"{table}/year=*/**/*.parquet", recursive=True)
        for row in pq.ParquetFile(file).read().to_pylist()
    ]
else:
    rows = [
        json.loads(line)
        for file in glob.glob(f"{table}/year=*/**/*.jsonl", recursive=True)
        for line in open(file, "rb").read().splitlines()
    ]


def plain(value):
    """What JSON can say of it."""
    if isinstance(value, decimal.Decimal):
        return str(value)
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)


found = {}
for row in rows:
    offset = row["_offset"]
    assert offset not in found, f"offset {offset} twice"
    if form != "jsonl":
        for name in asked["json"]:
            row[name] = None if row[name] is None else json.loads(row[name])
    found[offset] = row
json.dump(found, sys.stdout, default=plain)
