"""From a producer's call to the row being visible in PostgreSQL, at a steady rate."""

import gc
import multiprocessing
import time

import numpy
import psycopg2
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

import machine
from node import World, stop

PARTITIONS = 8
RATE = 5_000
WARM_UP = 3
SECONDS = 20


def measure(place, name):
    """Both sinks are attached, as by default; the warehouse is the one that is watched."""
    topic = "ticks"
    admin = AdminClient({"bootstrap.servers": place.kafka})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result()
    world = World(place, name, topic)
    process = world.start()
    try:
        world.wait_for_start(process)
        total = RATE * (WARM_UP + SECONDS)
        ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        watcher = context.Process(target=_watch, args=(theirs, world.url, total), daemon=True)
        watcher.start()
        ours.recv()
        meter = machine.Meter({"node": process.pid, "watcher": watcher.pid}, place.servers)
        start = meter.read()
        sent = _produce(place.kafka, topic, total)
        if not ours.poll(30):
            world.fail(f"{total} records were sent and {world.warehouse.records()} became visible")
        used = machine.Meter.used(start, meter.read())
        seen = ours.recv()
        watcher.join()
        while world.lake.records() < total:
            time.sleep(0.1)
        faults = world.faults({"records": total})
    finally:
        stop(process)
    world.close()
    admin.delete_topics([topic])[topic].result()
    delays = _delays(sent, seen)[RATE * WARM_UP :]
    return quantiles(delays) | {
        "node_cores": used["node"] / used["wall"],
        "postgres_cores": used["postgres"] / used["wall"],
        "others": used["others"],
        "faults": faults,
    }


def quantiles(delays):
    quantile = lambda part: float(numpy.quantile(delays, part))
    return {
        "p50_ms": quantile(0.5),
        "p90_ms": quantile(0.9),
        "p99_ms": quantile(0.99),
        "max_ms": float(delays.max()),
        "records": len(delays),
    }


def _produce(bootstrap, topic, total):
    """Sends record n at its time, to partition n mod 8, whose offset n div 8 it gets: there is no
    other producer. Answers when each was sent."""
    settings = {"linger.ms": 0, "enable.idempotence": True, "log_level": 3}
    producer = Producer({"bootstrap.servers": bootstrap} | settings)
    note = "x" * 60
    sent = numpy.zeros(total)
    gc.disable()
    begin = time.monotonic()
    number = 0
    while number < total:
        due = min(total, int((time.monotonic() - begin) * RATE))
        while number < due:
            value = f'{{"ID":{number},"NOTE":"{note}"}}'
            sent[number] = time.monotonic()
            producer.produce(topic, value, partition=number % PARTITIONS)
            number += 1
        producer.poll(0)
        time.sleep(0.001)
    gc.enable()
    if producer.flush(30):
        raise SystemExit("the broker did not take all records")
    return sent


def _watch(pipe, url, total):
    """Asks, about once a millisecond, up to which offset each partition's rows are visible. The
    node's progress is asked for and not the rows: one transaction shows both, and to count rows
    would itself be a load. That the rows are there is checked afterwards."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("prepare ask as select partition, next_offset from tidegate.progress")
    seen, last = [], None
    pipe.send("ready")
    while True:
        cursor.execute("execute ask")
        now = time.monotonic()
        reached = dict(cursor.fetchall())
        if reached != last:
            seen.append((now, [reached.get(partition, 0) for partition in range(PARTITIONS)]))
            last = reached
            if sum(reached.values()) >= total:
                return pipe.send(seen)
        time.sleep(0.001)


def _delays(sent, seen):
    """Milliseconds from each record's sending to the first look that saw it."""
    times = numpy.array([now for now, _ in seen])
    reached = numpy.array([offsets for _, offsets in seen])
    numbers = numpy.arange(len(sent))
    delays = numpy.zeros(len(sent))
    for partition in range(PARTITIONS):
        mine = numbers % PARTITIONS == partition
        first = numpy.searchsorted(reached[:, partition], numbers[mine] // PARTITIONS, "right")
        delays[mine] = times[first] - sent[mine]
    return delays * 1000
