"""Measures a node beside the raw limits of the same machine in the same run. See scripts/bench."""

import argparse
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import avro
import hotspots
import latency
import limits
import node
import reads
import report
import system
import telemetry
import upkeep
import workload

PARTS = (
    "lake", "warehouse", "both", "shapes", "memory", "latency", "system", "upkeep", "reads", "telemetry",
)  # fmt: skip
SMALL_BUDGET_MIB = 64


def main():
    # So that what is under way is stopped by its own `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = arguments()
    place = node.Place(
        options.folder,
        os.environ["TIDEGATE_TEST_KAFKA"],
        os.environ["TIDEGATE_TEST_POSTGRES"],
        options.tidegate,
        options.limits,
        servers(options.folder, "kafka", "postgres"),
        avro.serve(),
    )
    bench = Bench(place, options)
    for number in range(options.rounds):
        print(f"== round {number + 1} of {options.rounds}", flush=True)
        bench.round()
    if options.profile:
        bench.profile()
    report.show(bench.results)
    faults = bench.results.faults()
    print(f"\n{len(faults)} of the checks of what landed failed" if faults else
          "\nwhat landed was right in every run")  # fmt: skip
    print(f"results: {options.results}")
    raise SystemExit(1 if faults else 0)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--profile", action="store_true")
    for name in ("folder", "tidegate", "limits", "results"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--disk", help="servers whose PostgreSQL keeps its data on disk")
    return parser.parse_args()


def servers(folder, *names):
    return {name: int((Path(folder) / f"{name}.pid").read_text()) for name in names}


def in_child(function, *arguments):
    """In a process of its own, whose memory is given back."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


class Bench:
    def __init__(self, place, options):
        self.place, self.options = place, options
        self.results = report.Results(options.results)
        self.parts = [options.only] if options.only else list(PARTS)
        self.runs = 0
        self.expected = self.fill()

    def fill(self):
        """Publishes each topic that is wanted, once."""
        wanted = []
        if self.wants("lake", "warehouse", "both", "memory"):
            wanted += ["reference", "changelog"]
        elif self.wants("upkeep", "reads"):
            wanted += ["reference"]
        if self.wants("memory"):
            wanted.append("wide")
        if self.wants("shapes"):
            wanted += ["shaped", "shaped_avro"]
        if self.wants("telemetry"):
            wanted.append("traced")
        if wanted:
            print(f"filling {', '.join(wanted)}: {self.options.messages} records each", flush=True)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            filled = {
                topic: pool.submit(
                    workload.fill, self.place.kafka, topic, self.options.messages
                )
                for topic in wanted
            }
            return {topic: future.result() for topic, future in filled.items()}

    def wants(self, *parts):
        return any(part in self.parts for part in parts)

    def round(self):
        if self.wants("lake", "warehouse", "both"):
            self.limits()
        for sinks in ("lake", "warehouse", "both"):
            # What both cost is held against what each costs alone.
            if self.wants(sinks, "both"):
                for topic in ("reference", "changelog"):
                    self.node(f"{topic} {sinks}", topic, **attached(sinks))
        if self.wants("shapes"):
            for shape in workload.SHAPES:
                self.node(f"shapes {shape}", workload.topic_of(shape), shape=shape)
        if self.wants("memory"):
            self.memory()
        if self.wants("latency"):
            self.latency()
        if self.wants("upkeep"):
            self.runs += 1
            found = upkeep.measure(self.place, f"upkeep-{self.runs}", self.expected["reference"])
            self.results.add("upkeep compaction", found)
        if self.wants("reads"):
            self.runs += 1
            for name, found in reads.measure(self.place, f"reads-{self.runs}", self.expected["reference"]):
                self.results.add(name, found)
        if self.wants("telemetry"):
            self.runs += 1
            told = telemetry.measure(self.place, f"telemetry-{self.runs}", self.expected["traced"])
            for name, found in told:
                self.results.add(name, found)
        if self.wants("system"):
            self.runs += 1
            self.results.add("system s2", system.measure(self.place, f"run-{self.runs}"))

    def limits(self):
        place, add, count = self.place, self.results.add, self.options.messages
        for topic in ("reference", "changelog"):
            # A broker just filled is slower at first.
            limits.read(place, topic, count)
            add(f"limit {topic} read", limits.read(place, topic, count))
            for step, found in limits.decode(place, topic, count).items():
                add(f"limit {topic} {step}", found)
        if self.wants("lake"):
            for step, found in in_child(limits.outside, place.kafka, count).items():
                add(f"limit reference {step}", found)
        if self.wants("warehouse"):
            for size in (10_000, 50_000):
                found = limits.copy_upsert(place, count, size)
                rows, right = found["rows"], self.expected["changelog"]["rows"]
                found["faults"] = [] if rows == right else [f"{rows} rows, expected {right}"]
                add(f"limit changelog upsert {size}", found)

    def node(self, name, topic, beside=None, extra=None, **options):
        self.runs += 1
        unique = f"run-{self.runs}"
        found = node.run(self.place, unique, topic, self.expected[topic], beside, **options)
        self.results.add(name, found | (extra or {}))

    def memory(self):
        for topic in ("reference", "wide"):
            for budget in (report.DEFAULT_BUDGET_MIB, SMALL_BUDGET_MIB):
                partitions = workload.PARTITIONS[topic]
                name = f"memory {partitions:3} partitions, budget {budget:3} MiB ({topic})"
                # The default is left unsaid, so that it is the default that is measured.
                given = None if budget == report.DEFAULT_BUDGET_MIB else f"{budget}MiB"
                self.node(name, topic, extra={"budget_mib": budget}, budget=given)

    def latency(self):
        self.runs += 1
        self.results.add("latency in memory", latency.measure(self.place, f"run-{self.runs}"))
        if self.options.disk:
            self.results.add("latency on disk", latency.measure(self.on_disk(), f"run-{self.runs}"))

    def on_disk(self):
        """The same place, with the other PostgreSQL."""
        place, disk = self.place, Path(self.options.disk)
        env = dict(line.split("=", 1) for line in (disk / "env").read_text().splitlines())
        processes = place.servers | servers(disk, "postgres")
        url = env["TIDEGATE_TEST_POSTGRES"]
        same = (place.folder, place.kafka, url, place.tidegate, place.limits)
        return node.Place(*same, processes, place.registry)

    def profile(self):
        if not hotspots.available():
            print("no profile: `perf` is not on this machine")
            return
        looked_at = (("reference", "lake"), ("changelog", "warehouse"), ("reference", "both"))
        for topic, sinks in looked_at:
            if topic not in self.expected or not self.wants(sinks, "both"):
                continue
            file = str(Path(self.options.folder) / "perf.data")
            self.runs += 1
            options = attached(sinks) | {"beside": hotspots.recorder(file)}
            node.run(self.place, f"run-{self.runs}", topic, self.expected[topic], **options)
            self.results.add(f"hotspots {topic} {sinks}", {"symbols": hotspots.top(file)})


def attached(sinks):
    return {"lake": sinks in ("lake", "both"), "warehouse": sinks in ("warehouse", "both")}


if __name__ == "__main__":
    main()
