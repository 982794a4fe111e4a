"""Governed reads of the lake beside pyarrow reading the same files, and decisions a second."""

import json
import re
import subprocess
import time
import urllib.error
import urllib.request

import pyarrow as pa
import pyarrow.parquet as pq

import limits
import machine
import node

# Permission rows that a decision is made from.
ROWS = 1_000
SOON = 30
SOME = ["transaction_id", "amount", "currency"]
# Who sees what, which columns he asks for, and how many of the rows there are for him.
READERS = {
    "all columns": ([], None, 1),
    "three columns": ([], SOME, 1),
    "three columns, one of them hashed": (["--mask", "transaction_id=hash"], SOME, 1),
    "three columns of the rows in EUR": (["--where", "currency = 'EUR'"], SOME, None),
}


def measure(place, name, expected):
    """One table, read through the API by people of different rights. Yields what each read costs."""
    world = node.World(place, name, "reference", warehouse=False)
    config = json.loads(world.config.read_text())
    world.config.write_text(json.dumps(config | {"api": {"listen": "127.0.0.1:0"}}))
    tidegate(world, "migrate")
    process = world.start()
    try:
        world.wait_for_start(process)
        node._until_done(world, process, expected["records"], machine.Nothing())
        base = address(world)
        for number, (what, (grant, columns, share)) in enumerate(READERS.items()):
            who = f"reader{number}"
            row = ["--to", f"user:{who}", "--feed", "reference", "--reason", "bench"]
            tidegate(world, "permissions", "grant", *row, *grant)
            said = tidegate(world, "token", "create", "--for", who)
            token = re.search(r"tg_\S+", said).group()
            wait_until_readable(base, token)
            path = "/v1/feeds/reference/rows"
            path += "?columns=" + ",".join(columns) if columns else ""
            before, began = machine.process_cpu(process.pid), time.monotonic()
            rows, size = read(base + path, token)
            wall, cpu = time.monotonic() - began, machine.process_cpu(process.pid) - before
            raw = read_raw(world, columns)
            faults = []
            if share and rows != expected["records"] * share:
                faults.append(f"{rows} rows, expected {expected['records'] * share}")
            if not share and not 0 < rows < expected["records"]:
                faults.append(f"{rows} rows of {expected['records']}")
            yield f"reads {what}", {
                "rows": rows,
                "mib": size / (1 << 20),
                "cpu": cpu,
                "wall": wall,
                "raw_cpu": raw["cpu"],
                "raw_wall": raw["wall"],
                "of_raw": cpu / raw["cpu"],
                "faults": faults,
            }
    finally:
        node.stop(process)
    yield "reads decisions", limits.decide(place, world.config, ROWS)
    world.close()


def tidegate(world, *arguments):
    command = [world.place.tidegate, *arguments, "--config", world.config]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def address(world):
    end = time.monotonic() + SOON
    while True:
        found = re.search(r"the API answers.*?\"([0-9.:]+)\"", world.log.read_text(errors="replace"))
        if found:
            return "http://" + found.group(1)
        if time.monotonic() > end:
            world.fail("the API does not answer")
        time.sleep(0.05)


def ask(url, token):
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.apache.arrow.stream"}
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers))


def wait_until_readable(base, token):
    end = time.monotonic() + SOON
    while True:
        try:
            return ask(base + "/v1/feeds/reference/rows?limit=1", token).read()
        except urllib.error.HTTPError as error:
            if time.monotonic() > end:
                raise SystemExit(f"a grant does not count: {error}") from error
        time.sleep(0.05)


def read(url, token):
    """Rows and bytes of the answer, batch by batch."""
    answer = ask(url, token)
    rows = size = 0
    for batch in pa.ipc.open_stream(answer):
        rows += batch.num_rows
        size += batch.nbytes
    return rows, size


def read_raw(world, columns):
    """What has to be done at least, on one thread: the files read, and written as an Arrow stream."""
    paths = world.lake.files()
    pa.set_cpu_count(1)
    cpu, wall = time.process_time(), time.monotonic()
    with open("/dev/null", "wb") as nowhere:
        out = None
        for path in paths:
            for batch in pq.ParquetFile(path).iter_batches(8192, columns=columns, use_threads=False):
                out = out or pa.ipc.new_stream(nowhere, batch.schema)
                out.write_batch(batch)
        out.close()
    return {"cpu": time.process_time() - cpu, "wall": time.monotonic() - wall}
