"""What processes cost: CPU and memory, from /proc."""

import os
import time

TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid):
    with open(f"/proc/{pid}/stat") as file:
        text = file.read()
    # The name, in brackets, may hold anything; the third field follows it.
    return text[text.rindex(")") + 2 :].split()


def process_cpu(pid):
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def tree_cpu(pid):
    """A server with its children, those that have ended among them."""
    total = sum(map(int, _stat(pid)[11:15]))
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = _stat(entry)
            except OSError:
                continue
            if fields[1] == str(pid):
                total += int(fields[11]) + int(fields[12])
    return total / TICKS


def machine_cpu():
    with open("/proc/stat") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    idle, waiting = fields[3:5]
    return (sum(fields) - idle - waiting) / TICKS


def peak_mib(pid):
    """The most the process has ever held, in MiB."""
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


class Nothing:
    """A meter of nothing."""

    def read(self):
        return {}


class Meter:
    """Reads several processes at one moment; the difference of two moments is what was used."""

    def __init__(self, processes, servers):
        self.processes = processes
        self.servers = servers

    def read(self):
        moment = {name: process_cpu(pid) for name, pid in self.processes.items()}
        moment |= {name: tree_cpu(pid) for name, pid in self.servers.items()}
        moment["self"] = time.process_time()
        moment["machine"] = machine_cpu()
        moment["wall"] = time.monotonic()
        return moment

    @staticmethod
    def used(start, end):
        used = {name: end[name] - start[name] for name in end}
        known = sum(value for name, value in used.items() if name not in ("machine", "wall"))
        # What nobody here used, somebody else did: with much of it the wall time means little.
        used["others"] = max(0.0, used.pop("machine") - known) / max(used["wall"], 0.01)
        return used
