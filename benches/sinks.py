"""What has landed: how much, while a node runs, and whether it is right, afterwards."""

import json
from pathlib import Path

import deltalake
import polars as pl
import psycopg2

import workload


class Lake:
    def __init__(self, folder, feed):
        self.table = Path(folder) / "streams" / feed
        self.counted = {}

    def records(self):
        """Rows that the Delta log names."""
        for file in self.table.glob("_delta_log/*.json"):
            if file.name not in self.counted:
                self.counted[file.name] = _rows_added(file)
        return sum(self.counted.values())

    def commits(self):
        return len(self.counted)

    def files(self):
        """The files that make the table up now."""
        adds = deltalake.DeltaTable(str(self.table)).get_add_actions(flatten=True)
        return sorted(self.table / path for path in adds["path"].to_pylist())

    def faults(self, feed, expected):
        rows = pl.read_delta(deltalake.DeltaTable(str(self.table)))
        found = {
            "records": len(rows),
            "distinct": rows.select("_partition", "_offset").n_unique(),
        }
        right = {"records": expected["records"], "distinct": expected["records"]}
        if feed in workload.STREAMS:
            found |= {"keys": rows["transaction_id"].n_unique(), "cents": _cents(rows["amount"])}
            right |= {"keys": expected["records"], "cents": expected["cents"]}
        elif feed != "ticks":
            found["tombstones"] = rows.filter(pl.col("_op") == "delete").height
            right["tombstones"] = expected["tombstones"]
        return [] if found == right else [f"lake: {found}, expected {right}"]


def _rows_added(file):
    rows = 0
    for line in file.read_text().splitlines():
        if add := json.loads(line).get("add"):
            rows += json.loads(add["stats"])["numRecords"]
    return rows


def _cents(amounts):
    return int((amounts * 100).round().cast(pl.Int64).sum())


class Warehouse:
    def __init__(self, url, feed):
        self.connection = psycopg2.connect(url)
        self.connection.autocommit = True
        self.cursor = self.connection.cursor()
        self.feed = feed

    def records(self):
        """How far the node says it is, in the transaction that holds the rows; a cheap question."""
        return self._one("select coalesce(sum(next_offset), 0) from tidegate.progress")[0]

    def faults(self, feed, expected):
        if feed in workload.STREAMS:
            query = (
                "select count(*), count(distinct transaction_id), sum(round(amount * 100))::bigint "
                f"from {feed}"
            )
            right = (expected["records"], expected["records"], expected["cents"])
        elif feed == "ticks":
            query = "select count(*), count(distinct id) from ticks"
            right = (expected["records"], expected["records"])
        else:
            query = (
                "select count(*), sum(transaction_count)::bigint, "
                f"sum(round(total_amount * 100))::bigint from {feed}"
            )
            right = (expected["rows"], expected["transactions"], expected["cents"])
        found = self._one(query)
        faults = [] if found == right else [f"warehouse: {found}, expected {right}"]
        refused = self._one("select count(*) from tidegate.quarantine")[0]
        return faults + ([f"{refused} records in quarantine"] if refused else [])

    def _one(self, query):
        self.cursor.execute(query)
        return self.cursor.fetchone()

    def close(self):
        self.connection.close()
