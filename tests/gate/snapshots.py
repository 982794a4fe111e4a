"""Reads a table of snapshots by its log and by its version's folder, and prints both as JSON. Its argument
says which table, and the column to sort by.
"""

import json
import os
import sys

import deltalake
import pandas as pd
import polars as pl

asked = json.loads(sys.argv[1])
table = deltalake.DeltaTable(asked["table"])
whole = pl.from_arrow(table.to_pyarrow_table())
versions = sorted(whole["version"].unique().to_list())
rows = whole.drop("version").sort(asked["key"]).rows()
found = {"versions": versions, "delta": rows, "folder": []}
for version in versions:
    # As one does who knows nothing of Delta.
    frame = pd.read_parquet(os.path.join(asked["table"], f"version={version}"))
    found["folder"] += sorted(frame.itertuples(index=False, name=None))
json.dump(found, sys.stdout, default=str)
sys.stdout.flush()
# Some of these libraries abort when the interpreter takes them down, after a right answer.
os._exit(0)
