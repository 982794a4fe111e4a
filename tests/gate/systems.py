"""Judges what one of the systems in `examples/` has come to, by what its topics hold: reads them with
a client of its own, computes every row, total and answer from their bytes, and compares. Reads which
system and where as JSON on standard input, prints what is wrong as JSON.
"""

import collections
import datetime
import decimal
import glob
import json
import os
import re
import sqlite3
import struct
import subprocess
import sys

import confluent_kafka
import pandas as pd
import psycopg2
import pyarrow.parquet as pq

asked = json.load(sys.stdin)
folder = asked["folder"]
faults = []
summary = {}

Record = collections.namedtuple("Record", "partition offset time key value size")


def fault(text):
    faults.append(text[:600])


def same(what, found, expected):
    if found != expected:
        fault(f"{what}: {str(found)[:250]}, expected {str(expected)[:250]}")


def parsed(text):
    return json.loads(text, parse_float=decimal.Decimal)


def log(topic):
    """Every record of a topic, by partition and offset."""
    client = confluent_kafka.Consumer(
        {
            "bootstrap.servers": asked["kafka"],
            "group.id": "systems.py",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    name = asked["prefix"] + topic
    partitions = client.list_topics(name, timeout=10).topics[name].partitions
    client.assign([confluent_kafka.TopicPartition(name, at, 0) for at in partitions])
    left, records = set(partitions), []
    while left:
        message = client.poll(10)
        if message is None:
            raise SystemExit(f"{name}: the broker says nothing")
        if message.error():
            if message.error().code() != confluent_kafka.KafkaError._PARTITION_EOF:
                raise SystemExit(f"{name}: {message.error()}")
            left.discard(message.partition())
            continue
        key, value = message.key(), message.value()
        size = len(value or b"")
        value = parsed(value) if value is not None else None
        at = (message.partition(), message.offset(), message.timestamp()[1])
        records.append(Record(*at, key, value, size))
    client.close()
    return sorted(records, key=lambda record: record[:2])


def fold(records, key):
    """The rows that a changelog ends with, by key."""
    rows = {}
    for record in records:
        if record.value is None:
            rows.pop(key(record), None)
        else:
            rows[key(record)] = record.value
    return rows


# Keys, as ksqlDB writes them.


def text_key(record):
    return (record.key.decode(),)


def json_key(record):
    return tuple(json.loads(record.key).values())


def windowed_key(record):
    return (record.key[:-8].decode(), instant(struct.unpack(">q", record.key[-8:])[0]))


def instant(millis):
    return datetime.datetime.fromtimestamp(millis // 1000, datetime.UTC).replace(
        microsecond=millis % 1000 * 1000
    )


def when(text):
    return datetime.datetime.fromisoformat(text)


# Rows as both sinks are to hold them.

NESTED = {"LOCATION": "location", "SHIPPING_ADDRESS": "shipping", "DEVICE_INFO": "device"}


def event_row(record, key_column):
    """A stream's row: nested objects flattened, the key as a column where the feed names one."""
    row = {key_column: record.key.decode()} if key_column else {}
    for name, value in record.value.items():
        if name in NESTED:
            row |= {f"{NESTED[name]}_{inner}".lower(): it for inner, it in value.items()}
        else:
            row[name.lower()] = when(value) if name == "TIMESTAMP" else value
    return row


def change_row(record, keys, key, values):
    """A changelog's row in the lake: what was deleted has its key alone."""
    row = dict(zip(keys, key(record)))
    value = record.value or {}
    row |= {column: value.get(field) for column, field in values.items()}
    return row | {"_op": "delete" if record.value is None else "upsert"}


def check_rows(what, rows, records, expected):
    """Each record of the log exactly once, with the values that it has there."""
    found = {(row["_partition"], row["_offset"]): row for row in rows}
    same(f"{what}: rows", len(rows), len(records))
    same(f"{what}: offsets", set(found), {record[:2] for record in records})
    wrong = 0
    for record in records:
        row = found.get(record[:2], {})
        row = {name: row.get(name) for name in expected(record)}
        wrong += row != expected(record)
        if row != expected(record) and wrong == 1:
            fault(f"{what}: {record[:2]} is {row}, expected {expected(record)}")
    same(f"{what}: rows that differ", wrong, 0)
    summary[what] = len(rows)


def lines(pattern):
    """The rows of all JSON lines that a glob finds, each with its file."""
    rows = []
    for file in glob.glob(f"{folder}/{pattern}"):
        with open(file, encoding="utf-8") as opened:
            for line in opened:
                row = parsed(line) | {"file": os.path.relpath(file, folder)}
                for name in ("timestamp", "window_start"):
                    if isinstance(row.get(name), str):
                        row[name] = when(row[name])
                rows.append(row)
    return rows


def parquet(path):
    """The rows of all Parquet files of a folder, each with its file."""
    rows = []
    for file in glob.glob(f"{folder}/{path}/**/*.parquet", recursive=True):
        if "/_" in file.removeprefix(folder):
            continue
        where = {"file": os.path.relpath(file, folder)}
        rows += [row | where for row in pq.ParquetFile(file).read().to_pylist()]
    return rows


def check_place(what, rows, records, template, day):
    """Each row lies in the file that its day calls for. `template`: a strftime pattern to match."""
    days = {record[:2]: day(record) for record in records}
    wrong = [
        row["file"]
        for row in rows
        if not re.fullmatch(
            days[row["_partition"], row["_offset"]].strftime(template), row["file"]
        )
    ]
    same(f"{what}: rows in another day's file", wrong[:3], [])


def event_day(record):
    return when(record.value["TIMESTAMP"])


def kafka_day(record):
    return instant(record.time)


# The warehouse, and the example's own queries.


def select(sql):
    if "sqlite" in asked:
        return sqlite3.connect(f"{folder}/{asked['sqlite']}").execute(sql).fetchall()
    connection = psycopg2.connect(asked["postgres"])
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def check_table(what, sql, expected):
    found = select(sql)
    same(f"{what}: rows", len(found), len(expected))
    wrong = [row for row in found if row not in set(expected)]
    same(f"{what}: rows that differ", wrong[:3], [])
    missing = set(expected) - set(found)
    same(f"{what}: rows missing", list(missing)[:3], [])
    summary[what] = len(found)


def cell(value):
    try:
        return decimal.Decimal(str(value))
    except decimal.InvalidOperation:
        return str(value)


def check_query(name, expected):
    """The answer of `queries/NAME.sql` as its reader gets it."""
    file = f"{folder}/queries/{name}.sql"
    if "sqlite" in asked:
        with open(file, encoding="utf-8") as opened:
            found = select(opened.read())
    else:
        psql = [f"{asked['pgbin']}/psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-f", file, asked["postgres"]]
        out = subprocess.run(psql, capture_output=True, text=True)
        if out.returncode != 0:
            return fault(f"{name}.sql: {out.stderr}")
        found = [line.split("|") for line in out.stdout.splitlines()]
    found = [tuple(cell(value) for value in row) for row in found]
    expected = [tuple(cell(value) for value in row) for row in expected]
    same(f"{name}.sql: rows", len(found), len(expected))
    for there, wanted in zip(found, expected):
        if there != wanted:
            return fault(f"{name}.sql: {there}, expected {wanted}")
    summary[f"{name}.sql"] = len(found)
    if not found:
        fault(f"{name}.sql: no rows to compare")


def grouped(pairs):
    """Sums of tuples by key."""
    sums = {}
    for key, values in pairs:
        before = sums.get(key, (0,) * len(values))
        sums[key] = tuple(a + b for a, b in zip(before, values))
    return sums


TOTALS = {"total_amount": "TOTAL_AMOUNT", "transaction_count": "TRANSACTION_COUNT"}


def has_deletes(what, records):
    if not any(record.value is None for record in records):
        fault(f"{what}: no tombstone was published, so none was proved")


def s0():
    for feed in (
        "transaction_log",
        "transaction_flattened",
        "transaction_stream_anonymized",
        "transaction_stream_blacklisted",
    ):
        records = log(feed)
        key = None if feed == "transaction_log" else "transaction_id"
        rows = lines(f"data_lake/{feed}/date=????-??-??/*.jsonl")
        check_rows(feed, rows, records, lambda record: event_row(record, key))
        pattern = rf"data_lake/{feed}/date=%Y-%m-%d/data_\w+\.jsonl"
        check_place(feed, rows, records, pattern, event_day)
    users = log("user_transaction_totals")
    has_deletes("user_transaction_totals", users)
    rows = lines("data_lake/user_transaction_totals/date=????-??-??/*.jsonl")
    keys = ("user_id", "transaction_type")
    check_rows("user changelog", rows, users, lambda it: change_row(it, keys, json_key, TOTALS))
    pattern = r"data_lake/user_transaction_totals/date=%Y-%m-%d/.*"
    check_place("user changelog", rows, users, pattern, kafka_day)
    hours = log("windowed_transaction_totals")
    has_deletes("windowed_transaction_totals", hours)
    rows = lines("data_lake/windowed_transaction_totals/date=????-??-??/*.jsonl")
    keys = ("transaction_type", "window_start")
    check_rows("hours changelog", rows, hours, lambda it: change_row(it, keys, windowed_key, TOTALS))
    pattern = r"data_lake/windowed_transaction_totals/date=%Y-%m-%d/.*"
    check_place("hours changelog", rows, hours, pattern, lambda record: windowed_key(record)[1])

    users, hours = fold(users, json_key), fold(hours, windowed_key)
    values = lambda value: (value["TOTAL_AMOUNT"], value["TRANSACTION_COUNT"])
    sql = "SELECT user_id, transaction_type, total_amount, transaction_count FROM dwh_user_transaction_totals"
    check_table("dwh_user_transaction_totals", sql, [key + values(it) for key, it in users.items()])
    sql = "SELECT transaction_type, window_start, total_amount, transaction_count FROM dwh_windowed_transaction_totals"
    check_table("dwh_windowed_transaction_totals", sql, [key + values(it) for key, it in hours.items()])
    sql = """SELECT i.relname, array_agg(a.attname::text ORDER BY k.place)
             FROM pg_index x JOIN pg_class i ON i.oid = x.indrelid,
                  unnest(x.indkey::int[]) WITH ORDINALITY AS k(column_number, place),
                  pg_attribute a
             WHERE x.indisprimary AND i.relname LIKE 'dwh\\_%' AND a.attrelid = i.oid
               AND a.attnum = k.column_number
             GROUP BY i.relname ORDER BY i.relname"""
    keys = [
        ("dwh_user_transaction_totals", ["user_id", "transaction_type"]),
        ("dwh_windowed_transaction_totals", ["transaction_type", "window_start"]),
    ]
    same("primary keys", select(sql), keys)

    by_user = grouped(((key[0],), values(it)) for key, it in users.items())
    top = sorted(by_user.items(), key=lambda it: (-it[1][0], it[0]))[:10]
    check_query("top_users", [key + sums for key, sums in top])
    by_day = grouped(((key[1].date(), key[0]), values(it)) for key, it in hours.items())
    check_query("by_day", [key + sums for key, sums in sorted(by_day.items())])


def s3():
    for feed in (
        "transaction_flattened",
        "transaction_stream_anonymized",
        "transaction_stream_blacklisted",
    ):
        records = log(feed)
        path = f"lake/streams/{feed}"
        rows = parquet(path)
        check_rows(feed, rows, records, lambda record: event_row(record, "transaction_id"))
        pattern = rf"{path}/year=%Y/month=%m/day=%d/data_%Y%m%d_\w+\.parquet"
        check_place(feed, rows, records, pattern, event_day)
    users = fold(log("user_transaction_summary"), json_key)
    values = lambda value: (value["TOTAL_AMOUNT"], value["TRANSACTION_COUNT"])
    expected = [key + values(it) + (decimal.Decimal(0),) for key, it in users.items()]
    # A row of before, which no record names, is still there.
    expected.append(("USER-BEFORE", "purchase", decimal.Decimal(5), 1, decimal.Decimal("2.5")))
    sql = "SELECT customer, kind, spent, purchases, discount FROM reporting.customer_totals"
    check_table("customer_totals", sql, expected)
    methods = fold(log("payment_method_totals"), text_key)
    sql = "SELECT payment_method, total_amount, transaction_count FROM reporting.payment_method_totals"
    check_table("payment_method_totals", sql, [key + values(it) for key, it in methods.items()])
    pairs = [((key[1],), values(it)) for key, it in users.items()]
    pairs.append((("purchase",), (decimal.Decimal(5), 1)))
    check_query("spent_by_kind", [key + sums for key, sums in sorted(grouped(pairs).items())])
    cents = decimal.Decimal("0.01")
    half_up = decimal.ROUND_HALF_UP
    average = lambda total, count: (total / count).quantize(cents, half_up)
    expected = [key + values(it) + (average(*values(it)),) for key, it in sorted(methods.items())]
    check_query("methods", expected)


{"s0": s0, "s3": s3}[asked["system"]]()
json.dump({"faults": faults, "summary": summary}, sys.stdout)
sys.stdout.flush()
# Some of these libraries abort when the interpreter takes them down, after a right answer.
os._exit(0)
