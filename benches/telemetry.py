"""What it costs a node to tell of itself, and what it costs when nobody listens.

Every record has a `traceparent`, one in a hundred of them sampled, as from producers that trace at 1%.
"""

import random
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import node
import workload

# Each as often: what is looked for is smaller than what runs differ by.
TURNS = 12
# The same in all runs.
SAMPLED = 100


def headers(count):
    """One list of headers for each record."""
    source = random.Random(workload.SEED + 2)
    for index in range(count):
        flags = "01" if index % SAMPLED == 0 else "00"
        trace, span = source.getrandbits(128) | 1, source.getrandbits(64) | 1
        yield [("traceparent", f"00-{trace:032x}-{span:016x}-{flags}".encode())]


class Scraper:
    """Reads a node's metrics each second, as Prometheus would more rarely."""

    def __init__(self, port):
        self.url, self.over, self.reads = f"http://127.0.0.1:{port}/metrics", threading.Event(), 0
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self):
        while not self.over.wait(1):
            try:
                urllib.request.urlopen(self.url, timeout=1).read()
                self.reads += 1
            except (urllib.error.URLError, OSError):
                pass  # It begins, or ends.

    def wait(self):
        self.over.set()
        self.thread.join()


def ways(collector):
    """What there is to tell it to, by name, and what is beside it."""
    closed, silent = free_port(), socket.create_server(("127.0.0.1", 0), backlog=128)
    ports = {"everything, at 1%": free_port()}
    dead = f"http://127.0.0.1:{closed}"
    mute = f"http://127.0.0.1:{silent.getsockname()[1]}"
    settings = {
        "nothing": {},
        "everything, at 1%": {
            "listen": f"127.0.0.1:{ports['everything, at 1%']}",
            "otlp": {"endpoint": collector, "sample": 0.01, "metrics_every": "10s"},
        },
        "to a collector that is gone": {"otlp": {"endpoint": dead, "sample": 0.01, "metrics_every": "10s"}},
        "to one that never answers": {"otlp": {"endpoint": mute, "sample": 0.01, "metrics_every": "10s"}},
    }
    # Kept open as long as it is.
    return settings, ports, silent


def measure(place, name, expected):
    """Yields each run."""
    collector = start_collector(place.folder)
    settings, ports, silent = ways(collector)
    ways_in_turn = list(settings.items())
    for turn in range(TURNS):
        for number, (way, telemetry) in enumerate(ways_in_turn):
            beside = (lambda _, port=ports[way]: Scraper(port)) if way in ports else None
            unique = f"{name}-{turn}-{number}"
            found = node.run(place, unique, "traced", expected, beside, telemetry=telemetry)
            yield f"telemetry {way}", found
        # The first of a turn is none the better for it in the end.
        ways_in_turn.append(ways_in_turn.pop(0))
    silent.close()
    kept = urllib.request.urlopen(f"{query(place.folder)}/api/services").read().decode()
    if "tidegate" not in kept:
        raise SystemExit(f"the collector has got nothing: {kept}")


def start_collector(folder):
    servers = Path(__file__).resolve().parent.parent / "scripts/servers"
    subprocess.run([servers, "start", "jaeger", folder], check=True, stdout=subprocess.DEVNULL)
    return (Path(folder) / "jaeger/http").read_text().strip()


def query(folder):
    return (Path(folder) / "jaeger/url").read_text().strip()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
