"""Checks the Grafana dashboard against what it shows: `dashboard.py ROOT [DASHBOARD]`, where ROOT is the repository.

Its expressions are valid PromQL and find something where every metric is; metrics, labels, columns and variables are
there; each alert has a panel whose threshold is the alert's; each metric is shown. Says each fault in a line, and ends
with 1 if there is one. Needs promtool.
"""

import itertools
import json
import pathlib
import re
import subprocess
import sys
import tempfile

root = pathlib.Path(sys.argv[1])
path = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else root / "dist/grafana/tidegate.json"
text = path.read_text(encoding="utf-8")
board = json.loads(text)
faults = []

# What Prometheus gives every series it scrapes.
SCRAPED = {"job", "instance"}
# Values of labels, where the dashboard names them; any other label has one that nobody asks for.
VALUES = {
    "state": ["running", "claiming", "failing", "parked"],
    "sink": ["lake", "warehouse"],
    "alertname": ["TidegateLate"],
    "alertstate": ["pending", "firing"],
    "le": ["1", "10", "+Inf"],
}
# What Grafana puts in their places.
GRAFANA = {"__rate_interval": "5m", "__range": "3h", "__interval": "1m"}
GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
KEYWORDS = GROUPING | {"and", "or", "unless", "bool", "offset", "inf", "nan", "atan2"}
# Functions of counters, and of gauges.
COUNTED = {"rate", "irate", "increase"}
SET = {"deriv", "delta", "idelta"}
AGGREGATIONS = set("sum min max avg group stddev stdvar count count_values bottomk topk quantile".split())


def documented():
    """The labels of each metric, by every name that it is exposed by; and the names as the page has them."""
    exposed, names = {"up": SCRAPED}, set()
    row = re.compile(r"\| `(\w+)` \| ([^|]*) \| (counter|gauge|histogram) \|")
    for name, labels, kind in row.findall((root / "docs/metrics.md").read_text()):
        labels = set(re.findall(r"`(\w+)`", labels)) | SCRAPED
        names.add(name)
        if kind == "histogram":
            exposed |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            exposed[name] = labels
    exposed["ALERTS"] = {"alertname", "alertstate", "severity"}.union(*exposed.values()) - {"le"}
    return exposed, names


METRICS, DOCUMENTED = documented()


def is_metric(token):
    return token.startswith("tidegate_") or token in METRICS


def check_expression(where, expr):
    """Names the metrics of an expression, and the labels that its results have."""
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|[A-Za-z_:][\w:]*|\d\w*|[{}()\[\],]|[^\s\w{}()\[\],"]+', expr)
    partner, opened = {}, []
    for at, token in enumerate(tokens):
        if token in "{([":
            opened.append(at)
        elif token in "})]" and opened:
            begin = opened.pop()
            partner[begin], partner[at] = at, begin
    metrics, kept, at = [], None, 0

    def has(label, of):
        for metric in of:
            if label not in METRICS.get(metric, {label}):
                faults.append(f"{where}: {metric} has no label {label}")

    while at < len(tokens):
        token, after = tokens[at], tokens[at + 1] if at + 1 < len(tokens) else ""
        end = at
        if token in GROUPING and after == "(":
            begin, end = at + 1, partner.get(at + 1, len(tokens))
            within = tokens
            if token in ("by", "without"):
                # What is grouped stands behind the labels, or before the word.
                of = end + 1 if tokens[end + 1 : end + 2] == ["("] else partner.get(at - 1, 0)
                within = tokens[of : partner.get(of, len(tokens))]
            labels = [it for it in tokens[begin + 1 : end] if it != ","]
            for label in labels:
                has(label, sorted(set(filter(is_metric, within))))
            if token == "by":
                kept = (kept or set()) | set(labels)
        elif token == "{":
            end = partner.get(at, len(tokens))
            inside = tokens[at + 1 : end]
            metric = tokens[at - 1] if at else ""
            if not is_metric(metric):
                faults.append(f"{where}: a selector without a metric")
            for label, operator in zip(inside, inside[1:]):
                if operator in ("=", "!=", "=~", "!~"):
                    has(label, [metric])
        elif token in COUNTED | SET and after == "(":
            metric = tokens[at + 2] if at + 2 < len(tokens) else ""
            # Prometheus warns of the one and is silent about the other.
            if is_metric(metric) and bool(re.search("_(total|bucket|sum|count)$", metric)) != (token in COUNTED):
                faults.append(f"{where}: {token} of {metric}")
        elif token in AGGREGATIONS and after in ("(", "by", "without"):
            kept = kept or set()
        elif re.match(r"[A-Za-z_:]", token) and token not in KEYWORDS and after != "(":
            metrics.append(token)
            if token not in METRICS:
                faults.append(f"{where}: no metric {token}")
        at = end + 1
    if not metrics:
        faults.append(f"{where}: no metric")
    return metrics, kept if kept is not None else set().union(*(METRICS.get(it, set()) for it in metrics))


expressions, shown, defined = {}, set(), {it["name"] for it in board["templating"]["list"]}


def take(where, expr, legend=""):
    """Checks an expression, and keeps it for promtool."""

    def filled(found):
        name = found[1] or found[2]
        if name in defined:
            return ".*"
        if name not in GRAFANA:
            faults.append(f"{where}: no variable {name}")
        return GRAFANA.get(name, "1m")

    expr = re.sub(r"\$(?:(\w+)|\{(\w+)(?::\w+)?\})", filled, expr)
    metrics, kept = check_expression(where, expr)
    shown.update(metrics)
    for label in re.findall(r"{{\s*(\w+)\s*}}", legend):
        if label not in kept:
            faults.append(f"{where}: its results have no label {label}")
    expressions[where] = expr
    return kept


def check_columns(where, panel, columns):
    """Columns of a table are named by what they were before."""
    names = {}
    for step in panel.get("transformations", []):
        for key in ("excludeByName", "indexByName", "renameByName"):
            for column in set(step["options"].get(key, {})) - columns:
                faults.append(f"{where}: no column {column}")
        names |= step["options"].get("renameByName", {})
    named = (columns - set(names)) | set(names.values())
    asked = {it["displayName"] for it in panel["options"].get("sortBy", [])}
    asked |= {it["matcher"]["options"] for it in panel["fieldConfig"]["overrides"]}
    for column in asked - named:
        faults.append(f"{where}: no column {column}")


def check_panel(panel, bounds):
    where = f"panel {panel['id']} ({panel['title']})"
    about = panel.get("description", "")
    if not about:
        faults.append(f"{where}: no description")
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {"steps": []})["steps"][:]
    for override in panel["fieldConfig"]["overrides"]:
        for it in override["properties"]:
            steps += it["value"]["steps"] if it["id"] == "thresholds" else []
    for alert in re.findall(r"docs/runbook\.md#(\w+)", about):
        bounds.setdefault(alert, set()).update(it["value"] for it in steps)
    for it in [panel, *panel["targets"]]:
        if it.get("datasource", {}).get("uid") != "${datasource}":
            faults.append(f"{where}: a data source that is nobody's choice")
    columns = {"Time"}
    for target in panel["targets"]:
        letter = target["refId"]
        columns |= take(f"{where} {letter}", target["expr"], target.get("legendFormat", ""))
        columns.add(f"Value #{letter}" if len(panel["targets"]) > 1 else "Value")
    if panel["type"] == "table":
        check_columns(where, panel, columns)


def check_layout(panels):
    """None is over another. Those of a folded row are not there until it is opened, and then the rest gives way."""
    cells = {}
    for panel in panels:
        check_layout(panel.get("panels", []))
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            faults.append(f"panel {panel['id']} is wider than the page")
        rows = range(place["y"], place["y"] + place["h"])
        for cell in itertools.product(rows, range(place["x"], place["x"] + place["w"])):
            if cells.setdefault(cell, panel["id"]) != panel["id"]:
                faults.append(f"panels {cells[cell]} and {panel['id']} overlap")
                break


def check_alerts(bounds):
    """Each alert is on a panel that turns at its bound; a count does at one."""
    rules = (root / "dist/prometheus/tidegate.rules.yaml").read_text()
    alerts = {}
    for rule in rules.split("- alert: ")[1:]:
        name, expr = rule.split("\n", 1)
        bound = re.findall(r"> ([\d.]+)\s*$", re.split(r"\n\s+(?:for|labels|annotations):", expr)[0])
        alerts[name.lower()] = (name, float(bound[-1]) if bound else None)
    for alert in bounds.keys() - alerts:
        faults.append(f"no alert is called {alert}")
    for alert, (name, bound) in alerts.items():
        if alert not in bounds:
            faults.append(f"no panel leads to the alert {name}")
        elif bound is not None and (bound or 1) not in bounds[alert]:
            faults.append(f"no panel turns at {bound}, the bound of the alert {name}")


def synthetic():
    """A series for each metric and each of its labels' values, on two nodes and on one that came a moment ago."""
    series = []
    for metric, labels in METRICS.items():
        own = sorted(labels - {"instance"})
        for values in itertools.product(*(VALUES.get(it, ["any"]) for it in own)):
            for node, before in (("x", ""), ("y", ""), ("new", "_x56 ")):
                named = ",".join(f'{k}="{v}"' for k, v in [*zip(own, values), ("instance", node)])
                series.append({"series": f"{metric}{{{named}}}", "values": f"{before}1+1x60"})
    return series


def promtool(*arguments, cwd):
    out = subprocess.run(["promtool", *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if out.returncode:
        faults.append(f"promtool {' '.join(arguments)}:\n{out.stdout.strip()}")
    return out.returncode == 0


def check_promql():
    # A rule's name says where its expression is.
    named = {re.sub(r"\W+", "_", where): expr for where, expr in expressions.items()}
    rules = [{"record": name, "expr": expr} for name, expr in named.items()]
    found = [
        {"expr": f"count({expr}) > bool 0", "eval_time": "1h", "exp_samples": [{"labels": "{}", "value": 1}]}
        for expr in dict.fromkeys(expressions.values())
    ]
    tests = {
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": synthetic(), "promql_expr_test": found}],
    }
    with tempfile.TemporaryDirectory() as folder:
        # JSON is YAML.
        pathlib.Path(folder, "rules.yaml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
        pathlib.Path(folder, "tests.yaml").write_text(json.dumps(tests))
        if promtool("check", "rules", "rules.yaml", cwd=folder):
            promtool("test", "rules", "tests.yaml", cwd=folder)


check_layout(board["panels"])
panels = [it for outer in board["panels"] for it in [outer, *outer.get("panels", [])]]
ids = [panel["id"] for panel in panels]
for number in {it for it in ids if ids.count(it) > 1}:
    faults.append(f"two panels have the id {number}")
bounds = {}
for panel in panels:
    if panel["type"] != "row":
        check_panel(panel, bounds)
check_alerts(bounds)
for annotation in board["annotations"]["list"]:
    if "target" in annotation:
        legend = annotation.get("titleFormat", "") + annotation.get("textFormat", "")
        take(f"annotation {annotation['name']}", annotation["target"]["expr"], legend)
on_panels = {re.sub(r"_(bucket|sum|count)$", "", it) for it in shown} | shown
# Those of OpenTelemetry's conventions are for dashboards of others.
ours = {metric for metric in DOCUMENTED if metric.startswith("tidegate_")}
for metric in sorted(ours - on_panels):
    faults.append(f"{metric} is shown nowhere")
for variable in board["templating"]["list"]:
    if variable["type"] == "query":
        where = f"variable {variable['name']}"
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        if not asked:
            faults.append(f"{where}: not label_values(METRIC, LABEL)")
        elif asked[2] not in take(where, asked[1]):
            faults.append(f"{where}: no label {asked[2]}")
if text != json.dumps(board, indent=2, ensure_ascii=False) + "\n":
    faults.append("not formatted: `python3 -m json.tool --indent 2 --no-ensure-ascii` does it")
check_promql()

for fault in faults:
    print(fault)
if faults:
    sys.exit(1)
print(f"{sum(it['type'] != 'row' for it in panels)} panels, {len(expressions)} expressions, {len(shown)} series")
