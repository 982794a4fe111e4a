"""Where a node's CPU goes, by Linux perf."""

import shutil
import subprocess

TOP = 15


def available():
    return shutil.which("perf") is not None


def recorder(file):
    """What `node.run` takes as `beside`."""
    command = ["perf", "record", "-q", "-F", "999", "-o", file, "-p"]

    def start(pid):
        return subprocess.Popen(
            [*command, str(pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    return start


def top(file):
    """(percent, symbol), the heaviest first."""
    command = ["perf", "report", "-i", file, "--stdio", "-q", "--no-children", "-g", "none"]
    command += ["--sort", "symbol", "--percent-limit", "0.3"]
    text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    lines = []
    for line in text.decode(errors="replace").splitlines():
        percent, _, symbol = line.strip().partition("%")
        if symbol:
            lines.append((float(percent), symbol.strip(" -")))
    return lines[:TOP]
