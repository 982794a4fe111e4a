"""Compaction beside the raw rewrite of the same files: read, sorted by time, written as one for each day."""

import json
import os
import resource
import subprocess
import time

import pyarrow as pa
import pyarrow.parquet as pq

import machine
import node

# Small batches, so that the table is made of crumbs.
CRUMBS = {"linger": "1s", "max_records": 5_000}


def measure(place, name, expected):
    """One table of crumbs, joined by a command of its own, and by pyarrow on one thread."""
    world = node.World(place, name, "reference", warehouse=False)
    feed = world.folder / "feeds/feed.json"
    feed.write_text(json.dumps(json.loads(feed.read_text()) | {"lake": CRUMBS}))
    # The janitor's bookkeeping is there, whoever writes rows.
    migrate = [place.tidegate, "migrate", "--config", world.config]
    subprocess.run(migrate, check=True, stdout=subprocess.DEVNULL)
    process = world.start()
    try:
        world.wait_for_start(process)
        node._until_done(world, process, expected["records"], machine.Nothing())
    finally:
        node.stop(process)
    crumbs = _files(world)
    mib = sum(path.stat().st_size for _, path in crumbs) / (1 << 20)
    raw = _raw(crumbs)
    command = [place.tidegate, "janitor", "run", "compaction", "--config", world.config]
    before, began = _children(), time.monotonic()
    done = subprocess.run([*command, "--output", "json"], check=True, capture_output=True)
    wall, cpu = time.monotonic() - began, _children() - before
    joined = json.loads(done.stdout)["compaction"]["feeds"]["reference"]["compacted"]
    faults = world.faults(expected)
    if joined["joined"]["files"] != len(crumbs):
        faults.append(f"{joined['joined']['files']} of {len(crumbs)} files were joined")
    left = len(_files(world))
    world.close()
    return {
        "records": expected["records"],
        "files": len(crumbs),
        "left": left,
        "mib": mib,
        "cpu": cpu,
        "wall": wall,
        "raw_cpu": raw["cpu"],
        "raw_wall": raw["wall"],
        "of_raw": cpu / raw["cpu"],
        "faults": faults,
    }


def _files(world):
    """The table's files, each with the folder of its day."""
    return [(path.parent, path) for path in world.lake.files()]


def _raw(files):
    """What has to be done at least, on one thread: nothing is committed, and nothing checked."""
    days = {}
    for day, path in files:
        days.setdefault(day, []).append(path)
    pa.set_cpu_count(1)
    cpu, wall = time.process_time(), time.monotonic()
    for day, paths in days.items():
        tables = [pq.read_table(path, use_threads=False, partitioning=None) for path in paths]
        rows = pa.concat_tables(tables).sort_by([(name, "ascending") for name in ("timestamp", "_partition", "_offset")])
        out = os.fspath(day) + ".raw"
        pq.write_table(rows, out, compression="zstd", compression_level=1)
        os.remove(out)
    return {"cpu": time.process_time() - cpu, "wall": time.monotonic() - wall}


def _children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
