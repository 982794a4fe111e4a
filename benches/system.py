"""`examples/s2` as it stands, at the rate its write-up claims: from the producer's call to the tables' rows
being visible in PostgreSQL.

`tidegate generate` produces, and gathers for 20 ms itself: that is in the figures, too.
"""

import json
import multiprocessing
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy
import psycopg2
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

import machine
from latency import quantiles
from node import stop

EXAMPLE = Path(__file__).parent.parent / "examples/s2"
PARTITIONS = 4
RATE = 5_000
# What one transaction is in s2: three streams, a fifth of a fourth one, and four tables.
RECORDS_EACH = 7.2
WARM_UP = 5
SECONDS = 20
TABLES = (
    "user_transaction_summary", "user_transaction_summary_eur",
    "payment_method_totals", "product_purchase_counts",
)  # fmt: skip


def measure(place, name):
    prefix = f"{name}-"
    folder = place.folder / "runs" / name
    shutil.copytree(EXAMPLE, folder)
    database = name.replace("-", "_")
    _sql(place.postgres, f"create database {database}")
    url = place.postgres.rsplit("/", 1)[0] + "/" + database
    _edit(folder, place.kafka, url, prefix)
    tidegate = lambda *words: [place.tidegate, *words]
    quiet = {"cwd": folder, "env": _environment(), "stdout": subprocess.DEVNULL}
    generate = tidegate("generate", "--bootstrap", place.kafka, "--prefix", prefix, "--system", "s2")
    generate += ["--partitions", str(PARTITIONS), "--output", "json"]
    # So that the topics are there, and the first commits done with.
    subprocess.run([*generate, "-n", "100", "--seed", "1"], check=True, **quiet)
    subprocess.run(tidegate("migrate"), check=True, **quiet)
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            tidegate("run"), cwd=folder, env=_environment(), stdout=log, stderr=log
        )
    try:
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        watcher = context.Process(target=_watch, args=(theirs, url), daemon=True)
        watcher.start()
        ours.recv()
        count = int((WARM_UP + SECONDS) * RATE / RECORDS_EACH)
        producer = subprocess.Popen(
            [*generate, "-n", str(count), "--seed", "2", "--rate", str(RATE / RECORDS_EACH)],
            cwd=folder, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        meter = machine.Meter({"node": process.pid, "watcher": watcher.pid}, place.servers)
        start = meter.read()
        producer.wait()
        used = machine.Meter.used(start, meter.read())
        said = json.loads(producer.stdout.read())
        ends = _timestamps(place.kafka, prefix)
        ours.send({key: len(times) for key, times in ends.items()})
        if not ours.poll(60):
            raise SystemExit(f"{name}: the tables did not become visible; see {folder / 'log'}")
        seen = ours.recv()
        watcher.join()
        group = _wait_for_lake(place, folder)
    finally:
        stop(process)
    faults = [] if group == 0 else [f"verify: exit code {group}"]
    delays = _delays(ends, seen)
    admin = AdminClient({"bootstrap.servers": place.kafka})
    topics = [topic for topic in admin.list_topics().topics if topic.startswith(prefix)]
    for done in admin.delete_topics(topics).values():
        done.result()
    _sql(place.postgres, f"drop database {database} with (force)")
    shutil.rmtree(folder)
    return quantiles(delays) | {
        "rate": count * RECORDS_EACH / used["wall"],
        "topics": len(topics),
        "produced": said,
        "node_cores": used["node"] / used["wall"],
        "postgres_cores": used["postgres"] / used["wall"],
        "others": used["others"],
        "faults": faults,
    }


def _edit(folder, kafka, url, prefix):
    node = folder / "tidegate.yaml"
    text = node.read_text().replace("localhost:9092", kafka).replace("group: ", f"group: {prefix}")
    node.write_text(text.replace("postgres://postgres@localhost:5432/data_warehouse", url))
    for feed in (folder / "feeds").iterdir():
        feed.write_text(feed.read_text().replace("\ntopic: ", f"\ntopic: {prefix}"))


def _environment():
    # polars, which is loaded elsewhere, leaves settings of its own allocator in the environment.
    kept = {key: value for key, value in os.environ.items() if "MALLOC_CONF" not in key}
    return kept | {"PGPASSWORD": "not asked for"}


def _sql(url, statement):
    connection = psycopg2.connect(url)
    connection.autocommit = True
    connection.cursor().execute(statement)
    connection.close()


def _watch(pipe, url):
    """Asks, about once a millisecond, up to which offset each partition's rows are visible."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("prepare ask as select feed, partition, next_offset from tidegate.progress")
    seen, last, wanted = [], None, None
    pipe.send("ready")
    while True:
        cursor.execute("execute ask")
        now = time.time()
        reached = {(feed, partition): offset for feed, partition, offset in cursor.fetchall()}
        if reached != last:
            seen.append((now, reached))
            last = reached
        if wanted is None and pipe.poll():
            wanted = pipe.recv()
        if wanted and all(reached.get(key, 0) >= end for key, end in wanted.items()):
            return pipe.send(seen)
        time.sleep(0.001)


def _timestamps(bootstrap, prefix):
    """When each record of the tables was produced, as the producer told Kafka, in milliseconds."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{prefix}bench"})
    found = {}
    for table in TABLES:
        for partition in range(PARTITIONS):
            place = TopicPartition(prefix + table, partition, 0)
            _, end = consumer.get_watermark_offsets(place)
            times = numpy.zeros(end)
            consumer.assign([place])
            left = end
            while left:
                for message in consumer.consume(min(left, 10_000), 10.0):
                    times[message.offset()] = message.timestamp()[1]
                    left -= 1
            found[table, partition] = times
    consumer.close()
    return found


def _delays(ends, seen):
    """Milliseconds from each record's producing to the first look that saw it; those of the first
    seconds are left out."""
    looks = numpy.array([now * 1000 for now, _ in seen])
    begin = min(times[times > 0].min() for times in ends.values() if len(times))
    # Before the first hundred transactions there was no node.
    begin = max(begin, looks[0]) + WARM_UP * 1000
    delays = []
    for key, times in ends.items():
        reached = numpy.array([offsets.get(key, 0) for _, offsets in seen])
        first = numpy.searchsorted(reached, numpy.arange(len(times)), "right")
        delays.append((looks[first] - times)[times >= begin])
    return numpy.concatenate(delays)


def _wait_for_lake(place, folder):
    """`verify --wait`'s exit code: everything that was produced, in both sinks."""
    words = [place.tidegate, "verify", "--wait", "60"]
    return subprocess.run(words, cwd=folder, env=_environment(), stdout=subprocess.DEVNULL).returncode
