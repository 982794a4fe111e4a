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
import deltalake
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


def event_row(record, key_column, nested=NESTED):
    """A stream's row: nested objects flattened, the key as a column where the feed names one."""
    row = {key_column: record.key.decode()} if key_column else {}
    for name, value in record.value.items():
        if isinstance(value, dict):
            label = nested.get(name, name)
            row |= {f"{label}_{inner}".lower(): it for inner, it in value.items()}
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
        row, wanted = found.get(record[:2], {}), expected(record)
        row = {name: row.get(name) for name in wanted}
        wrong += row != wanted
        if row != wanted and wrong == 1:
            fault(f"{what}: {record[:2]} is {row}, expected {wanted}")
    same(f"{what}: rows that differ", wrong, 0)
    summary[what] = len(rows)


def lines(pattern):
    """The rows of all JSON lines that a glob finds, each with its file."""
    rows = []
    for file in glob.glob(f"{folder}/{pattern}"):
        with open(file, encoding="utf-8") as opened:
            for line in opened:
                row = parsed(line) | {"file": os.path.relpath(file, folder)}
                for name in ("timestamp", "TIMESTAMP", "window_start"):
                    if isinstance(row.get(name), str):
                        row[name] = when(row[name])
                rows.append(row)
    return rows


def shown(path):
    """The Parquet files that readers of a folder see."""
    files = glob.glob(f"{folder}/{path}/**/*.parquet", recursive=True)
    return [file for file in files if "/_" not in file.removeprefix(folder)]


def live(path):
    """The Parquet files of a Delta table's latest version."""
    uris = deltalake.DeltaTable(f"{folder}/{path}").file_uris()
    return [uri.removeprefix("file://") for uri in uris]


def parquet(files):
    """The rows of Parquet files, each with its file."""
    rows = []
    for file in files:
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
    same(f"{what}: rows of no record", list(set(found) - set(expected))[:3], [])
    same(f"{what}: rows missing", list(set(expected) - set(found))[:3], [])
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
        ("dwh_datalake_permissions", ["permission_id"]),
        ("dwh_user_transaction_totals", ["user_id", "transaction_type"]),
        ("dwh_windowed_transaction_totals", ["transaction_type", "window_start"]),
    ]
    same("primary keys", select(sql), keys)

    by_user = grouped(((key[0],), values(it)) for key, it in users.items())
    top = sorted(by_user.items(), key=lambda it: (-it[1][0], it[0]))[:10]
    check_query("top_users", [key + sums for key, sums in top])
    by_day = grouped(((key[1].date(), key[0]), values(it)) for key, it in hours.items())
    check_query("by_day", [key + sums for key, sums in sorted(by_day.items())])


def s1():
    streams = ["SECURE", "USD", "BLACKLISTED", "FAILED", "PENDING", "PROCESSING", "COMPLETED"]
    streams = [f"TRANSACTIONS_{name}" for name in streams]
    logs = {topic: log(topic) for topic in streams}
    keys = {"USER_SPENDING_BY_TYPE": json_key, "SPEND_LAST_FIVE_MIN_BY_TYPE": windowed_key}
    names = {
        "USER_SPENDING_BY_TYPE": ("USER_ID_HASHED", "TRANSACTION_TYPE"),
        "SPEND_LAST_FIVE_MIN_BY_TYPE": ("TRANSACTION_TYPE", "window_start"),
    }
    logs |= {topic: log(topic) for topic in keys}

    def as_it_came(record):
        times = {name: when(it) for name, it in record.value.items() if name == "TIMESTAMP"}
        return record.value | times

    for topic, records in logs.items():
        upper = (asked["prefix"] + topic).upper()
        rows = lines(f"pipeline/{upper}/????-??-??/{upper}_????-??-??*.jsonl")
        spent = {"TOTAL_SPENT": "TOTAL_SPENT"}
        if topic in keys:
            has_deletes(topic, records)
            row = lambda record: change_row(record, names[topic], keys[topic], spent)
        else:
            row = as_it_came
        check_rows(topic, rows, records, row)
        day = kafka_day
        if topic == "SPEND_LAST_FIVE_MIN_BY_TYPE":
            day = lambda record: windowed_key(record)[1]
        elif topic in streams and topic != "TRANSACTIONS_USD":
            day = event_day
        pattern = rf"pipeline/{upper}/%Y-%m-%d/{upper}_%Y-%m-%d_\w+\.jsonl"
        check_place(topic, rows, records, pattern, day)

    for topic in ("TRANSACTIONS_SECURE", "TRANSACTIONS_USD", "TRANSACTIONS_BLACKLISTED"):
        rows = select(f"SELECT _partition, _offset, data FROM {topic}")
        rows = [{"_partition": at, "_offset": offset, "data": parsed(it)} for at, offset, it in rows]
        check_rows(f"{topic} in SQLite", rows, logs[topic], lambda record: {"data": record.value})
    for topic, key in keys.items():
        columns = ", ".join(names[topic])
        found = select(f"SELECT {columns}, data FROM {topic}")
        found = {row[:-1]: parsed(row[-1]) for row in found}
        if key is windowed_key:
            found = {(kind, when(start)): it for (kind, start), it in found.items()}
        same(f"{topic} in SQLite", found, fold(logs[topic], key))
        summary[f"{topic} in SQLite"] = len(found)

    spent = logs["TRANSACTIONS_USD"]
    for query, by, most in (("spent_by_type", "TRANSACTION_TYPE", None), ("top_users", "USER_ID_HASHED", 10)):
        sums = grouped(((it.value[by],), (it.value["AMOUNT_USD"],)) for it in spent)
        sums = sorted(sums.items(), key=lambda it: (-it[1][0], it[0]))[:most]
        check_query(query, [key + values for key, values in sums])


def s2():
    streams = (
        "transaction_stream",
        "transaction_flattened",
        "transaction_stream_anonymized",
        "transaction_stream_blacklisted",
    )
    as_json = as_parquet = 0
    for feed in streams:
        records = log(feed)
        path = f"data_lake/streams/{feed}"
        rows = parquet(live(path))
        check_rows(feed, rows, records, lambda record: event_row(record, "transaction_id"))
        pattern = rf"{path}/year=%Y/month=%m/day=%d/data_%Y%m%d_\w+\.parquet"
        check_place(feed, rows, records, pattern, event_day)
        as_json += sum(record.size for record in records)
        as_parquet += sum(os.path.getsize(file) for file in live(path))
    summary["Parquet of JSON, per cent"] = round(100 * as_parquet / as_json, 1)
    if as_parquet > 0.3 * as_json:
        fault(f"{as_parquet} bytes of Parquet are more than 30 % of {as_json} bytes of JSON")

    euro = {"user_name": "USER_NAME", "total_amount_eur": "TOTAL_AMOUNT_EUR"}
    counts = {
        "product_category": "PRODUCT_CATEGORY",
        "payment_method": "LAST_PAYMENT_METHOD",
        "purchase_count": "PURCHASE_COUNT",
        "total_quantity": "TOTAL_QUANTITY",
    }
    user = ("user_id", "transaction_type")
    tables = {
        "user_transaction_summary": (user, json_key, TOTALS),
        "user_transaction_summary_eur": (user, json_key, euro | {"transaction_count": "TRANSACTION_COUNT"}),
        "payment_method_totals": (("payment_method",), text_key, TOTALS),
        "product_purchase_counts": (("product_id",), text_key, counts),
    }
    logs = {feed: log(feed) for feed in tables}
    facts = {}
    for feed, (keys, key, values) in tables.items():
        has_deletes(feed, logs[feed])
        rows = parquet(live(f"data_lake/streams/{feed}"))
        check_rows(f"{feed} changelog", rows, logs[feed], lambda it: change_row(it, keys, key, values))
        facts[feed] = {
            of: tuple(value[field] for field in values.values())
            for of, value in fold(logs[feed], key).items()
        }
        sql = f"SELECT {', '.join([*keys, *values])} FROM fact_{feed}"
        check_table(f"fact_{feed}", sql, [of + it for of, it in facts[feed].items()])

    # A dimension holds what facts refer to, and may hold what they did: nothing is taken away.
    def check_dimension(table, columns, needed, known):
        found = set(select(f"SELECT {columns} FROM {table}"))
        same(f"{table}: missing", list(set(needed) - found)[:3], [])
        same(f"{table}: unknown", list(found - set(known))[:3], [])
        summary[table] = len(found)

    eur, methods = logs["user_transaction_summary_eur"], logs["payment_method_totals"]
    named = lambda of, value: (of[0], value[0])
    users = [named(of, it) for of, it in facts["user_transaction_summary_eur"].items()]
    known = [(json_key(it)[0], it.value["USER_NAME"]) for it in eur if it.value]
    check_dimension("users", "user_id, user_name", users, known)
    paid = [(it[1],) for it in facts["product_purchase_counts"].values()]
    known = [text_key(record) for record in methods]
    needed = [*facts["payment_method_totals"], *paid]
    check_dimension("payment_methods", "payment_method", needed, known)
    sql = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'"
    same("foreign keys", select(sql), [(3,)])

    by_user = grouped(
        ((of[0], it[0]), it[1:]) for of, it in facts["user_transaction_summary_eur"].items()
    )
    top = sorted(by_user.items(), key=lambda it: (-it[1][0], it[0]))[:10]
    check_query("spent_by_user", [of + sums for of, sums in top])
    products = collections.Counter(method for (method,) in paid)
    expected = []
    for (method,) in sorted(select("SELECT payment_method FROM payment_methods")):
        totals = facts["payment_method_totals"].get((method,), ("", ""))
        expected.append((method, *totals, products[method]))
    check_query("methods", expected)
    version = select("SELECT max(_version) FROM fact_payment_method_totals_snapshots")[0][0]
    totals = facts["payment_method_totals"]
    check_query("newest_snapshot", [(version, *of, *totals[of]) for of in sorted(totals)])


def s3():
    for feed in (
        "transaction_flattened",
        "transaction_stream_anonymized",
        "transaction_stream_blacklisted",
    ):
        records = log(feed)
        path = f"lake/streams/{feed}"
        rows = parquet(shown(path))
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


def s4():
    plain = lambda row: {
        name: float(it) if isinstance(it, decimal.Decimal) else it for name, it in row.items()
    }
    for feed in (
        "transaction_stream",
        "transaction_flattened",
        "transaction_stream_anonymized",
        "transaction_stream_blacklisted",
    ):
        records = log(feed)
        path = f"data_lake/streams/{feed}"
        rows = parquet(shown(path))
        # Columns are inferred: nested names as they are, amounts as doubles.
        check_rows(feed, rows, records, lambda it: plain(event_row(it, "transaction_id", {})))
        pattern = rf"{path}/year=%Y/month=%m/day=%d/data_%Y%m%d_\w+\.parquet"
        check_place(feed, rows, records, pattern, event_day)
        # The readers of the write-up, who prune by partition.
        days = collections.Counter(event_day(record).date() for record in records)
        for day, count in days.items():
            filters = [("year", "=", day.year), ("month", "=", day.month), ("day", "=", day.day)]
            read = pd.read_parquet(f"{folder}/{path}", filters=filters)
            same(f"{feed} on {day} by pandas", len(read), count)
        check_metadata(feed, path, "stream", "append", len(records))

    euro = {"user_name": "USER_NAME", "total_amount_eur": "TOTAL_AMOUNT_EUR"}
    counts = {
        "product_category": "PRODUCT_CATEGORY",
        "last_payment_method": "LAST_PAYMENT_METHOD",
        "purchase_count": "PURCHASE_COUNT",
        "total_quantity": "TOTAL_QUANTITY",
    }
    user = ("user_id", "transaction_type")
    tables = {
        "user_transaction_summary": (user, json_key, TOTALS),
        "user_transaction_summary_eur": (user, json_key, euro | {"transaction_count": "TRANSACTION_COUNT"}),
        "payment_method_totals": (("payment_method",), text_key, TOTALS),
        "product_purchase_counts": (("product_id",), text_key, counts),
        "currencies": (("currency",), text_key, {"eur_rate": "EUR_RATE"}),
    }
    for feed, (keys, key, values) in tables.items():
        path = f"data_lake/tables/{feed}"
        newest = asked["versions"][feed]
        files = live(path)
        pattern = rf"{folder}/{path}/version=v{newest}/snapshot_\d{{8}}_\d{{6}}\w*\.parquet"
        same(f"{feed}: files", [file for file in files if not re.fullmatch(pattern, file)], [])
        expected = {
            of: plain({column: it[field] for column, field in values.items()})
            for of, it in fold(log(feed), key).items()
        }
        by_path = pd.read_parquet(f"{folder}/{path}/version=v{newest}").to_dict("records")
        for reader, rows in (("deltalake", parquet(files)), ("pandas", by_path)):
            found = {
                tuple(row[name] for name in keys): plain({name: row[name] for name in values})
                for row in rows
            }
            same(f"{feed} rows by {reader}", len(rows), len(expected))
            same(f"{feed} by {reader}", found, expected)
        summary[feed] = f"v{newest}, {len(expected)} rows"
        mode = "ignore" if feed == "currencies" else "overwrite"
        check_metadata(feed, path, "table", mode, len(expected))


    def printed(script):
        script = [sys.executable, f"queries/{script}.py"]
        out = subprocess.run(script, cwd=folder, capture_output=True, text=True)
        same(f"{script[1]}: standard error", out.stderr, "")
        return [tuple(cell(it) for it in line.split()) for line in out.stdout.splitlines()]

    day = datetime.date(2026, 1, 15)
    of_day = (it for it in log("transaction_flattened") if event_day(it).date() == day)
    by_status = collections.Counter(record.value["STATUS"] for record in of_day)
    same("one_day.py", printed("one_day")[1:], sorted(by_status.items()))
    totals = fold(log("payment_method_totals"), text_key)
    rows = [(of[0], it["TOTAL_AMOUNT"], it["TRANSACTION_COUNT"]) for of, it in sorted(totals.items())]
    found = [(of, round(total, 2), count) for of, total, count, *_ in printed("newest_totals")[1:]]
    same("newest_totals.py", found, rows)


def check_metadata(feed, path, kind, mode, records):
    """What `_metadata.json` says, against the files that readers see."""
    with open(f"{folder}/{path}/_metadata.json", encoding="utf-8") as opened:
        said = json.load(opened)
    form = "parquet" if kind == "stream" else "delta"
    fields = {"source": asked["prefix"] + feed, "type": kind, "storage_mode": mode, "format": form}
    same(f"{feed} metadata", {name: said.get(name) for name in fields}, fields)
    same(f"{feed} metadata: total_records", said["total_records"], records)
    partitions = said["partitions"]
    same(f"{feed} metadata: partitions", sum(it["records"] for it in partitions), records)
    for name in ("partitioning", "last_export", "total_size_mb", "schema_version", "created_at"):
        if name not in said:
            fault(f"{feed} metadata: no {name}")


{"s0": s0, "s1": s1, "s2": s2, "s3": s3, "s4": s4}[asked["system"]]()
json.dump({"faults": faults, "summary": summary}, sys.stdout)
sys.stdout.flush()
# Some of these libraries abort when the interpreter takes them down, after a right answer.
os._exit(0)
