"""Results: kept as JSON lines, shown as tables, held against the aims."""

import json
import statistics

import hotspots

DEFAULT_BUDGET_MIB = 512
BUDGET_SLACK_MIB = 150
SINKS = ("lake", "warehouse", "both")
LIMITS = {
    "read": "librdkafka reading alone",
    "decode": "our decoder alone, one thread",
    "encode": "our Parquet encoder alone, one thread",
    "confluent": "confluent-kafka reading alone",
    "pyarrow": "pyarrow JSON to Parquet alone",
    "upsert 10000": "COPY and upsert alone, by 10,000",
    "upsert 50000": "COPY and upsert alone, by 50,000",
}
COLUMNS = {
    "node_cpu": "CPU s",
    "postgres_cpu": "PG CPU s",
    "kafka_cpu": "broker s",
    "wall": "wall s",
    "idle": "idle s",
    "peak_mib": "peak MiB",
    "others": "others",
}


class Results:
    """One line per measurement, written as soon as it is known."""

    def __init__(self, path):
        self.path = path
        self.lines = []
        open(path, "w").close()

    def add(self, name, found):
        line = {"name": name} | found
        self.lines.append(line)
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
        faults = "; ".join(found.get("faults", []))
        print(f"  {name}: {_brief(found)}{'  WRONG: ' + faults if faults else ''}", flush=True)

    def get(self, name, field):
        """The median of all rounds; none if it was not measured."""
        values = [line[field] for line in self.lines if line["name"] == name and field in line]
        values = [value for value in values if value is not None]
        return statistics.median(values) if values else None

    def faults(self):
        return [fault for line in self.lines for fault in line.get("faults", [])]

    def named(self, prefix):
        return [line for line in self.lines if line["name"].startswith(prefix)]


def _brief(found):
    units = {"wall": "s", "node_cpu": "s CPU", "postgres_cpu": "s PostgreSQL", "p50_ms": "ms p50"}
    units |= {"p99_ms": "ms p99", "peak_mib": "MiB"}
    parts = [f"{found[name]:.2f} {unit}" for name, unit in units.items() if name in found]
    return ", ".join(parts)


def show(results):
    for topic in ("reference", "changelog"):
        _costs(results, topic)
    _ratios(results)
    _shapes(results)
    _memory(results)
    _latency(results)
    _system(results)
    _upkeep(results)
    _reads(results)
    _telemetry(results)
    _hotspots(results)


def _costs(results, topic):
    rows = {f"limit {topic} {what}": text for what, text in LIMITS.items()}
    rows |= {f"{topic} {sinks}": f"tidegate, {sinks}" for sinks in SINKS}
    rows = {name: text for name, text in rows.items() if results.get(name, "node_cpu") is not None}
    heads = "".join(f"{head:>10}" for head in COLUMNS.values())
    if rows:
        print(f"\n{f'{topic}, CPU per million records':38}{heads}")
    for name, text in rows.items():
        cells = "".join(_cell(results.get(name, field), field) for field in COLUMNS)
        print(f"  {text:36}{cells}")


def _cell(value, field):
    if value is None:
        return f"{'':10}"
    return f"{value:10.0f}" if field == "peak_mib" else f"{value:10.2f}"


def _ratios(results):
    cpu = lambda name: results.get(name, "node_cpu")
    postgres = lambda name: results.get(name, "postgres_cpu")
    limit = lambda topic, what: cpu(f"limit {topic} {what}")
    lines = []

    def line(text, value, over, aim):
        if value is not None and None not in over:
            lines.append((text, value / sum(over), aim))

    floor = [limit("reference", what) for what in ("read", "decode", "encode")]
    outside = [limit("reference", what) for what in ("confluent", "pyarrow")]
    lake = cpu("reference lake")
    line("lake, reference: node, CPU s", lake, [1], 5.3)
    line("lake, reference: node / (read + decode + encode)", lake, floor, 1.3)
    line("lake, reference: node / (confluent-kafka + pyarrow)", lake, outside, None)
    line("warehouse, changelog: node, CPU s", cpu("changelog warehouse"), [1], 1.6)
    upsert = [postgres("limit changelog upsert 10000")]
    served = postgres("changelog warehouse")
    line("warehouse, changelog: PostgreSQL / bare COPY and upsert", served, upsert, 1.0)
    for topic in ("reference", "changelog"):
        parts = [cpu(f"{topic} lake"), cpu(f"{topic} warehouse")]
        shared = [limit(topic, "read"), limit(topic, "decode")]
        if None not in parts + shared:
            sums = parts + [-value for value in shared]
            text = f"both, {topic}: node / (lake + warehouse - read - decode)"
            line(text, cpu(f"{topic} both"), sums, 1.1)
    if lines:
        print(f"\nRatios{'':58}here       aim")
    for text, value, aim in lines:
        print(f"  {text:58}{value:8.2f}{_aim(value, aim)}")


def _aim(value, aim):
    if aim is None:
        return ""
    return f"  <= {aim:<6g}{'' if value <= aim else 'MISSED'}"


def _shapes(results):
    names = list(dict.fromkeys(line["name"] for line in results.named("shapes ")))
    if names:
        print("\nThe same records in other shapes, both sinks, CPU per million records; before the first of")
        print("them, to start and to infer columns, CPU in all")
        heads = ("CPU s", "PG CPU s", "/ flat", "start s", "wall s", "commits")
        print(f"  {'':20}{''.join(f'{head:>10}' for head in heads)}")
    for name in names:
        get = lambda field: results.get(name, field)
        ratio = get("node_cpu") / results.get(names[0], "node_cpu")
        cells = (get("node_cpu"), get("postgres_cpu"), ratio, get("start_cpu"), get("wall"))
        cells = "".join(_cell(value, "") for value in cells)
        print(f"  {name.removeprefix('shapes '):20}{cells}{get('commits'):10.0f}")


def _system(results):
    for line in results.named("system "):
        print(f"\n{line['name'].removeprefix('system ')}: {line['rate']:.0f} records/s in "
              f"{line['topics']} topics, produced to visible in PostgreSQL, ms")  # fmt: skip
        print(f"  {'its tables':28}p50 {line['p50_ms']:6.1f}{_aim(line['p50_ms'], 100)}  "
              f"p99 {line['p99_ms']:6.1f}")  # fmt: skip
        print(f"  {'':28}p90 {line['p90_ms']:6.1f}  max {line['max_ms']:.1f}, node "
              f"{line['node_cores']:.2f}, PostgreSQL {line['postgres_cores']:.2f}, others "
              f"{line['others']:.2f} cores")  # fmt: skip


def _memory(results):
    rows = sorted({line["name"] for line in results.named("memory ")})
    if rows:
        print("\nPeak memory of a node with both sinks, the whole topic behind, MiB")
    for name in rows:
        peak, budget = results.get(name, "peak_mib"), results.get(name, "budget_mib")
        over = _aim(peak, budget + BUDGET_SLACK_MIB)
        print(f"  {name.removeprefix('memory '):58}{peak:8.0f}{over}")
    above = [line["peak_mib"] for line in results.lines
             if "peak_mib" in line and "budget_mib" not in line]  # fmt: skip
    if rows and above:
        most = f"the highest of the {len(above)} runs above, default budget"
        over = _aim(max(above), DEFAULT_BUDGET_MIB + BUDGET_SLACK_MIB)
        print(f"  {most:58}{max(above):8.0f}{over}")


def _latency(results):
    rows = sorted({line["name"] for line in results.named("latency ")})
    if rows:
        print("\nProduced to visible in PostgreSQL at 5,000 records/s, ms")
    for name in rows:
        place = f"PostgreSQL's data {name.removeprefix('latency ')}"
        p50, p99 = results.get(name, "p50_ms"), results.get(name, "p99_ms")
        rest = {f: results.get(name, f) for f in ("p90_ms", "max_ms", "others")}
        print(f"  {place:28}p50 {p50:6.1f}{_aim(p50, 50)}  p99 {p99:6.1f}{_aim(p99, 100)}")
        print(f"  {'':28}p90 {rest['p90_ms']:6.1f}  max {rest['max_ms']:.1f}, "
              f"others {rest['others']:.2f} cores")  # fmt: skip


def _hotspots(results):
    for line in results.named("hotspots "):
        print(f"\n{line['name'].removeprefix('hotspots ')}: the {hotspots.TOP} heaviest symbols")
        for percent, symbol in line["symbols"]:
            print(f"  {percent:5.1f}%  {symbol[:110]}")


def _reads(results):
    found = [line for line in results.named("reads ") if "rows" in line]
    if not found:
        return
    print(f"\nGoverned reads{'':26}{'rows/CPU s':>12}{'pyarrow':>12}{'CPU / pyarrow':>15}")
    for line in found:
        rate, raw = line["rows"] / line["cpu"], line["rows"] / line["raw_cpu"]
        print(f"  {line['name'][6:]:38}{rate:12,.0f}{raw:12,.0f}{line['of_raw']:15.2f}")
    for line in results.named("reads decisions"):
        rate, seen = line["decisions"] / line["decide"]["cpu"], line["decisions"] / line["view"]["cpu"]
        print(f"  decisions a second from {line['permission_rows']} rows: {rate:,.0f}; with what they show: {seen:,.0f}")


def _telemetry(results):
    """Runs of one turn are held against each other: the machine drifts."""
    cpu = {}
    for line in results.named("telemetry "):
        cpu.setdefault(line["name"].removeprefix("telemetry "), []).append(line["node_cpu"])
    if "nothing" not in cpu:
        return
    print(f"\nTelling of itself, CPU per million records{'':10}{'CPU s':>10}{'/ nothing':>12}{'error':>8}")
    for way, seconds in cpu.items():
        ratios = [one / base for one, base in zip(seconds, cpu["nothing"])]
        ratio = statistics.median(seconds) / statistics.median(cpu["nothing"])
        error = statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
        aim = "" if way == "nothing" else _aim(ratio, 1.03)
        print(f"  {way:48}{statistics.median(seconds):12.2f}{ratio:12.3f}{error:8.3f}{aim}")


def _upkeep(results):
    name = "upkeep compaction"
    value = lambda field: results.get(name, field)
    if value("cpu") is None:
        return
    print("\nCompaction")
    print(f"  {value('files'):.0f} files of {value('mib'):.1f} MiB became {value('left'):.0f}")
    for text, cpu, wall in (("janitor", "cpu", "wall"), ("pyarrow, the raw rewrite", "raw_cpu", "raw_wall")):
        print(f"  {text:28}{value('mib') / value(cpu):8.1f} MiB/s of CPU{value('mib') / value(wall):8.1f} MiB/s")
    print(f"  janitor / raw rewrite, CPU s {value('of_raw'):8.2f}")
