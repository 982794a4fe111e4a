"""A node under measurement: a world of its own, and a run through one topic's backlog."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import psycopg2

import machine
import workload
from sinks import Lake, Warehouse

TIMEOUT = 300
# Below this share of a core a node only waits, for instance for the lake's commit timer.
IDLE_CORES = 0.15


class Place:
    """Where runs happen: the servers, the binaries, a folder in memory."""

    def __init__(self, folder, kafka, postgres, tidegate, limits, servers, registry):
        self.folder = Path(folder)
        self.kafka = kafka
        self.postgres = postgres
        self.tidegate = tidegate
        self.limits = limits
        # Process numbers, by name.
        self.servers = servers
        self.registry = registry


class World:
    """Configuration, database and lake of one run."""

    def __init__(
        self, place, name, topic, lake=True, warehouse=True, budget=None, telemetry=None, **shape
    ):
        self.place, self.name, self.topic = place, name, topic
        self.folder = place.folder / "runs" / name
        (self.folder / "feeds").mkdir(parents=True)
        (self.folder / "feeds/feed.json").write_text(workload.feed(topic, lake, warehouse, **shape))
        database = name.replace("-", "_")
        self._sql(f"create database {database}")
        self.url = place.postgres.rsplit("/", 1)[0] + "/" + database
        node = {
            "kafka": {"bootstrap": place.kafka, "group": name},
            "lake": {"url": str(self.folder / "lake")},
            "warehouse": {"url": self.url},
        }
        if topic == "shaped_avro":
            node["schema_registry"] = {"url": place.registry}
        if budget:
            node["memory"] = {"budget": budget}
        if telemetry:
            node["telemetry"] = telemetry
        self.config = self.folder / "node.yaml"
        # JSON is YAML.
        self.config.write_text(json.dumps(node))
        self.log = self.folder / "log"
        self.lake = Lake(self.folder / "lake", topic) if lake else None
        self.warehouse = None
        if warehouse:
            migrate = [place.tidegate, "migrate", "--config", self.config]
            subprocess.run(migrate, check=True, stdout=subprocess.DEVNULL)
            self.warehouse = Warehouse(self.url, topic)

    def start(self):
        command = [self.place.tidegate, "run", "--config", self.config]
        # polars, which is loaded here, leaves settings of its own allocator in the environment.
        environment = {k: v for k, v in os.environ.items() if "MALLOC_CONF" not in k}
        with open(self.log, "wb") as log:
            return subprocess.Popen(command, stderr=log, stdout=log, env=environment)

    def wait_for_start(self, process):
        """Until the first partition is given to the node."""
        end = time.monotonic() + 60
        while b"consuming" not in self.log.read_bytes():
            if process.poll() is not None or time.monotonic() > end:
                self.fail("the node did not start")
            time.sleep(0.01)

    def faults(self, expected):
        sinks = [sink for sink in (self.lake, self.warehouse) if sink]
        return [fault for sink in sinks for fault in sink.faults(self.topic, expected)]

    def fail(self, what):
        tail = self.log.read_text(errors="replace").splitlines()[-20:]
        raise SystemExit("\n".join([f"{self.name}: {what}; the end of its log:", *tail]))

    def close(self):
        if self.warehouse:
            self.warehouse.close()
        self._sql(f"drop database {self.name.replace('-', '_')} with (force)")
        shutil.rmtree(self.folder)

    def _sql(self, statement):
        connection = psycopg2.connect(self.place.postgres)
        connection.autocommit = True
        connection.cursor().execute(statement)
        connection.close()


def stop(process):
    process.terminate()
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(place, name, topic, expected, beside=None, **options):
    """One node through the whole backlog. `beside(pid)`, if any, is a process that watches it."""
    world = World(place, name, topic, **options)
    process = world.start()
    watcher = None
    try:
        began = time.monotonic()
        world.wait_for_start(process)
        meter = machine.Meter({"node": process.pid}, place.servers)
        start = meter.read()
        watcher = beside(process.pid) if beside else None
        done, samples = _until_done(world, process, expected["records"], meter)
        end = max(done.values(), key=lambda moment: moment["wall"])
        peak = machine.peak_mib(process.pid)
    finally:
        stop(process)
        if watcher:
            watcher.wait()
    faults = world.faults(expected)
    commits = world.lake.commits() if world.lake else None
    world.close()
    used = machine.Meter.used(start, end)
    per_million = 1e6 / expected["records"]
    return {
        "records": expected["records"],
        "wall": used["wall"],
        "idle": _idle(samples),
        "node_cpu": used["node"] * per_million,
        "postgres_cpu": used["postgres"] * per_million,
        "kafka_cpu": used["kafka"] * per_million,
        "start_cpu": start["node"],
        "start_wall": start["wall"] - began,
        "peak_mib": peak,
        "others": used["others"],
        "commits": commits,
        "faults": faults,
    }


def _until_done(world, process, records, meter):
    waiting = {name: sink for name in ("lake", "warehouse") if (sink := getattr(world, name))}
    done, samples = {}, []
    end = time.monotonic() + TIMEOUT
    while waiting:
        if process.poll() is not None:
            world.fail("the node ended")
        if time.monotonic() > end:
            reached = {name: sink.records() for name, sink in waiting.items()}
            world.fail(f"not done after {TIMEOUT} s: {reached} of {records}")
        for name, sink in list(waiting.items()):
            if sink.records() >= records:
                done[name] = meter.read()
                del waiting[name]
        samples.append((time.monotonic(), machine.process_cpu(process.pid)))
        time.sleep(0.05)
    return done, samples


def _idle(samples):
    """Seconds, counted in steps of half a second, in which the node did next to nothing."""
    idle = 0.0
    steps = samples[::10]
    for (since, before), (until, after) in zip(steps, steps[1:]):
        if after - before < IDLE_CORES * (until - since):
            idle += until - since
    return idle
