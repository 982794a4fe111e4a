"""Looks at what landed in the lake and in the warehouse as any client would, and compares it with
what was produced. Reads what to expect as JSON on standard input, prints what is wrong as JSON.
"""

import decimal
import glob
import json
import os
import sys

import deltalake
import duckdb
import pandas as pd
import polars as pl
import psycopg2
import pyarrow.dataset as ds
import pyarrow.fs as fs
from deltalake.exceptions import TableNotFoundError

asked = json.load(sys.stdin)
faults = []
summary = {}


def same(what, found, expected):
    if found != expected:
        faults.append(f"{what}: {str(found)[:300]}, expected {str(expected)[:300]}")


def cents(amount):
    return int(amount * 100) if amount is not None else 0


def lake_rows(path, columns):
    """The rows of a Delta table; none where there is no table."""
    try:
        table = deltalake.DeltaTable(f"{asked['lake']}/{path}", storage_options=asked["storage"])
    except TableNotFoundError:
        return None
    return pl.read_delta(table, columns=columns)


def plain_rows(feed, columns):
    """The rows that the folder itself shows, whoever looks: every reader finds the same."""
    path = f"{asked['lake']}/{feed['table']}"
    store = asked["storage"]
    disk = fs.LocalFileSystem()
    if store:
        path = path.removeprefix("s3://")
        disk = fs.S3FileSystem(
            access_key=store["access_key_id"],
            secret_key=store["secret_access_key"],
            endpoint_override=store["endpoint"].removeprefix("http://"),
            scheme="http",
            region=store["region"],
        )
    if feed["format"] == "parquet":
        rows = pl.from_arrow(ds.dataset(path, filesystem=disk).to_table(columns=columns))
        counts = {"pandas": len(pd.read_parquet(path, filesystem=disk, columns=["_offset"]))}
        reader = "read_parquet"
    else:
        shown = disk.get_file_info(fs.FileSelector(path, recursive=True))
        lines = []
        for file in shown:
            if file.path.endswith(".jsonl"):
                with disk.open_input_stream(file.path) as opened:
                    for line in opened.read().splitlines():
                        row = json.loads(line, parse_float=decimal.Decimal)
                        lines.append({column: row[column] for column in columns})
        rows = pl.DataFrame(lines, infer_schema_length=None)
        counts = {}
        reader = "read_json"
    if not store:
        found = f"{path}/**/*.{feed['format']}"
        if feed["format"] == "jsonl":
            files = glob.glob(found, recursive=True)
            counts["pandas"] = sum(len(pd.read_json(file, lines=True)) for file in files)
        query = f"SELECT count(*), count(DISTINCT (_partition, _offset)) FROM {reader}('{found}')"
        counts["duckdb"], counts["duckdb, distinct"] = duckdb.sql(query).fetchall()[0]
    for reader, count in counts.items():
        same(f"lake {feed['feed']} rows by {reader}", count, rows.height)
    return rows


def offsets_are_whole(what, offsets, ends):
    """Each offset of the log exactly once. `offsets`: (partition, offset) of rows and quarantine."""
    for partition, end in enumerate(ends):
        here = [offset for (of, offset) in offsets if of == partition]
        distinct = set(here)
        lost = set(range(end)) - distinct
        if len(here) != len(distinct) or lost or len(distinct) != end:
            faults.append(
                f"{what} partition {partition}: {len(here)} rows, {len(distinct)} distinct offsets "
                f"of {end}; lost {sorted(lost)[:5]}, beyond {sorted(distinct - set(range(end)))[:5]}"
            )


def check_lake(feed):
    name = feed["feed"]
    is_table = feed["kind"] == "table"
    origin = ["_topic", "_partition", "_offset"]
    value = ["_op", "total_amount", "transaction_count"] if is_table else ["amount"]
    columns = origin + feed["keys"] + value
    is_delta = feed["format"] == "delta"
    rows = lake_rows(feed["table"], columns) if is_delta else plain_rows(feed, columns)
    rejects = lake_rows(f"quarantine/{name}", origin + ["class", "reason"])
    pairs = rows.select("_partition", "_offset").rows()
    bad = [] if rejects is None else rejects.select("_partition", "_offset").rows()
    same(f"lake {name} rows", len(pairs), feed["records"] - feed["bad"])
    same(f"lake {name} quarantine", len(bad), feed["bad"])
    same(f"lake {name} topics", rows["_topic"].unique().to_list(), [feed["topic"]])
    offsets_are_whole(f"lake {name}", pairs + bad, feed["ends"])
    if bad:
        same(f"lake {name} empty reasons", rejects.filter(pl.col("reason") == "").height, 0)
    if is_table:
        # A key stands in one partition, so its last record there is its last word.
        last = rows.sort("_offset").group_by(feed["keys"]).last()
        kept = last.filter(pl.col("_op") == "upsert")
        columns = kept.select(feed["keys"] + ["total_amount", "transaction_count"]).rows()
        final(f"lake {name}", columns, feed)
        same(f"lake {name} deletes", rows.filter(pl.col("_op") == "delete").height, feed["deletes"])
    else:
        same(f"lake {name} distinct ids", rows[feed["keys"][0]].n_unique(), len(pairs))
        same(f"lake {name} cents", cents(rows["amount"].sum()), feed["cents"])
    classes = {} if rejects is None else dict(rejects["class"].value_counts().rows())
    return {"rows": len(pairs), "quarantine": classes}


def check_warehouse(feed, sql):
    name = feed["feed"]
    sql.execute(
        "SELECT partition, record_offset, class, reason FROM tidegate.quarantine WHERE feed = %s",
        [name],
    )
    rejects = sql.fetchall()
    bad = [(partition, offset) for partition, offset, _, _ in rejects]
    same(f"warehouse {name} quarantine", len(bad), feed["bad"] + feed["refused"])
    same(f"warehouse {name} empty reasons", [r for r in rejects if not r[3]], [])
    keys = ", ".join(feed["keys"])
    if feed["kind"] == "table":
        sql.execute(f"SELECT {keys}, total_amount, transaction_count FROM {name}")
        rows = sql.fetchall()
        final(f"warehouse {name}", rows, feed)
    else:
        sql.execute(f"SELECT _partition, _offset FROM {name}")
        rows = sql.fetchall()
        offsets_are_whole(f"warehouse {name}", rows + bad, feed["ends"])
        sql.execute(f"SELECT count(DISTINCT {keys}), sum(amount), array_agg(DISTINCT _topic) FROM {name}")
        distinct, amount, topics = sql.fetchone()
        expected = feed["records"] - feed["bad"] - feed["refused"]
        same(f"warehouse {name} rows", len(rows), expected)
        same(f"warehouse {name} distinct ids", distinct, expected)
        same(f"warehouse {name} cents", cents(amount), feed["cents"] - feed["refused_cents"])
        same(f"warehouse {name} topics", topics, [feed["topic"]])
    classes = {}
    for _, _, kind, _ in rejects:
        classes[kind] = classes.get(kind, 0) + 1
    return {"rows": len(rows), "quarantine": classes}


def final(what, rows, feed):
    """The last row of each key."""
    width = len(feed["keys"])
    found = {tuple(row[:width]): (cents(row[width]), row[width + 1]) for row in rows}
    expected = {tuple(key): (total, count) for key, total, count in feed["final"]}
    same(f"{what} keys", len(rows), len(expected))
    wrong = [key for key in expected.keys() | found.keys() if found.get(key) != expected.get(key)]
    if wrong:
        shown = [(key, found.get(key), expected.get(key)) for key in wrong[:3]]
        faults.append(f"{what}: {len(wrong)} keys differ (key, found, expected): {shown}")


connection = psycopg2.connect(asked["postgres"])
cursor = connection.cursor()
for feed in asked["feeds"]:
    # The generator's own count against the log's: nothing was produced twice or not at all.
    same(f"log {feed['feed']} records", sum(feed["ends"]), feed["records"])
    lake = check_lake(feed)
    summary[feed["feed"]] = {"lake": lake, "warehouse": check_warehouse(feed, cursor)}
connection.close()

json.dump({"faults": faults, "summary": summary}, sys.stdout)
sys.stdout.flush()
# Some of these libraries abort when the interpreter takes them down, after a right answer.
os._exit(0)
