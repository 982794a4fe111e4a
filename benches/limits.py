"""The raw limits: each piece of the work done alone, by the best that is at hand for it."""

import io
import json
import struct
import subprocess
import time

import psycopg2
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet
from confluent_kafka import Consumer, TopicPartition

import machine
import workload
from node import World

NULL = struct.pack("!i", -1)
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
COPY_END = struct.pack("!h", -1)


def run_limit(place, what, topic, records):
    """`read` or `decode` of limits.rs."""
    world = World(place, f"limit-{what}-{topic}", topic, warehouse=False)
    command = [place.limits, what, world.config, topic, str(records)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    world.close()
    return json.loads(found.stdout.splitlines()[-1])


def read(place, topic, records):
    found = run_limit(place, "read", topic, records)
    return _cost(found, records)


def decide(place, config, rows):
    """Decisions from so many permission rows, and what each shows of the lake."""
    command = [place.limits, "decide", config, "reference", str(rows)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(found.stdout.splitlines()[-1])


def decode(place, topic, records):
    """Our own decoder and encoder, on one thread, from memory."""
    found = run_limit(place, "decode", topic, records)
    if found["rejects"]:
        raise SystemExit(f"{topic}: {found['rejects']} records could not be decoded")
    mib = found["parquet_bytes"] / (1 << 20)
    return {
        "decode": _cost(found["decode"], records),
        "encode": _cost(found["encode"], records) | {"parquet_mib": mib},
    }


def _cost(found, records):
    return {"node_cpu": found["cpu"] * 1e6 / records, "wall": found["wall"]}


def outside(bootstrap, records):
    """Yardsticks that are not ours: confluent-kafka reading, and then, from memory and on one
    thread, Arrow's C++ reader and writer, which leave the timestamp a string and keep the three
    objects nested."""
    cpu, wall = time.process_time(), time.monotonic()
    batches = _messages(bootstrap, "reference", records)
    read = {"cpu": time.process_time() - cpu, "wall": time.monotonic() - wall}
    schema = _nested(workload.REFERENCE)
    options = {
        "read_options": pyarrow.json.ReadOptions(use_threads=False, block_size=16 << 20),
        "parse_options": pyarrow.json.ParseOptions(explicit_schema=schema),
    }
    settings = {"compression": "zstd", "compression_level": 1}
    out = io.BytesIO()
    cpu, wall = time.process_time(), time.monotonic()
    rows = 0
    with pyarrow.parquet.ParquetWriter(out, schema, **settings) as writer:
        for batch in batches:
            table = pyarrow.json.read_json(io.BytesIO(b"\n".join(batch)), **options)
            writer.write_table(table)
            rows += table.num_rows
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    if rows != records:
        raise SystemExit(f"pyarrow read {rows} of {records} messages")
    mib = out.tell() / (1 << 20)
    arrow = _cost({"cpu": cpu, "wall": wall}, records) | {"parquet_mib": mib}
    return {"confluent": _cost(read, records), "pyarrow": arrow}


def _messages(bootstrap, topic, records):
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": "limits",
        "enable.auto.commit": False,
        "fetch.queue.backoff.ms": 10,
    })  # fmt: skip
    consumer.assign([TopicPartition(topic, n, 0) for n in range(workload.PARTITIONS[topic])])
    batches, count = [], 0
    while count < records:
        batch = [message.value() for message in consumer.consume(10_000, 1.0)]
        count += len(batch)
        if batch:
            batches.append(batch)
    consumer.close()
    return batches


def _nested(columns):
    types = {"string": pa.string(), "double": pa.float64(), "long": pa.int64()}
    fields = {}
    for column in columns:
        outer, _, inner = column["path"].partition(".")
        # pyarrow's JSON reader takes no timestamp with a zone.
        kind = types.get(column["type"], pa.string())
        if inner:
            fields.setdefault(outer, []).append((inner, kind))
        else:
            fields[outer] = kind
    nest = lambda kind: pa.struct(kind) if isinstance(kind, list) else kind
    return pa.schema([(name, nest(kind)) for name, kind in fields.items()])


def copy_upsert(place, records, size):
    """PostgreSQL's part alone. Each batch, reduced to the last record of each key and encoded
    before the clock starts: COPY into a temporary table, one upsert, one delete, commit."""
    batches = [_copy_data(rows) for rows in _batches(records, size)]
    connection = psycopg2.connect(place.postgres)
    cursor = connection.cursor()
    columns = "user_id text, transaction_type text, total_amount float8, transaction_count bigint"
    key = "user_id, transaction_type"
    cursor.execute("drop table if exists totals")
    cursor.execute(f"create table totals ({columns}, primary key ({key}))")
    cursor.execute(f"create temporary table stage ({columns}) on commit delete rows")
    connection.commit()
    meter = machine.Meter({}, place.servers)
    start = meter.read()
    for data in batches:
        cursor.copy_expert("copy stage from stdin (format binary)", io.BytesIO(data), 1 << 20)
        cursor.execute(
            "insert into totals select * from stage where transaction_count is not null "
            f"on conflict ({key}) do update set total_amount = excluded.total_amount, "
            "transaction_count = excluded.transaction_count"
        )
        cursor.execute(
            "delete from totals t using stage s where s.transaction_count is null "
            "and t.user_id = s.user_id and t.transaction_type = s.transaction_type"
        )
        connection.commit()
    used = machine.Meter.used(start, meter.read())
    cursor.execute("select count(*) from totals")
    rows = cursor.fetchone()[0]
    cursor.execute("drop table totals")
    connection.commit()
    connection.close()
    per_million = 1e6 / records
    return {
        "wall": used["wall"],
        "node_cpu": used["self"] * per_million,
        "postgres_cpu": used["postgres"] * per_million,
        "others": used["others"],
        "rows": rows,
    }


def _batches(records, size):
    """The last row of each key, by batch."""
    last, count = {}, 0
    for row in workload.totals(records):
        last[row[:2]] = row
        count += 1
        if count == size:
            yield last.values()
            last, count = {}, 0
    if last:
        yield last.values()


def _copy_data(rows):
    return COPY_HEADER + b"".join(map(_copy_row, rows)) + COPY_END


def _copy_row(row):
    user, kind, cents, transactions = row
    texts = b"".join(_field(text.encode()) for text in (f"USER-{user}", kind))
    if cents is None:
        numbers = NULL + NULL
    else:
        numbers = struct.pack("!idiq", 8, cents / 100, 8, transactions)
    return struct.pack("!h", 4) + texts + numbers


def _field(data):
    return struct.pack("!i", len(data)) + data
