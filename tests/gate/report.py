"""Judges a report: whether it is whole HTML that needs nothing else, and whether its figures are those
of the lake's files, the database and the topics, each counted here. Reads where they are as JSON on
standard input, prints what is wrong as JSON.
"""

import collections
import glob
import html.parser
import json
import os
import re
import sqlite3
import sys

import psycopg2

asked = json.load(sys.stdin)
faults = []


def same(what, found, expected):
    if found != expected:
        faults.append(f"{what}: {str(found)[:300]}, expected {str(expected)[:300]}")


VOID = {"meta", "br"}
# What may stand in the page; nothing of it fetches or runs anything.
KNOWN = set(
    "html head title style body main header footer nav section article div span p a b ul li h1 h2 h3 h4 "
    "dl dt dd table thead tbody tr th td code pre figure figcaption svg path rect circle text".split()
)


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.feeds, self.queries, self.figures = [], {}, {}, {}
        self.of = self.query = self.row = None
        self.text = []

    def handle_starttag(self, tag, attributes):
        said = dict(attributes)
        if tag not in KNOWN | VOID:
            faults.append(f"a tag {tag}")
        for name, value in attributes:
            if name in ("src", "srcset", "style") or name.startswith("on") or "xlink" in name:
                faults.append(f"{tag} has {name}={value}")
            if name == "href" and not value.startswith("#"):
                faults.append(f"{tag} refers to {value}")
        if tag not in VOID:
            self.open.append(tag)
        if "data-feed" in said:
            self.of = self.feeds.setdefault(said["data-feed"], {"marks": {}})
        if "data-query" in said:
            self.query = self.queries.setdefault(said["data-query"], {"rows": [], "fault": None})
        if "data-figure" in said:
            self.figures[said["data-figure"]] = int(said["data-value"])
        if "data-partition" in said:
            partition = int(said.pop("data-partition"))
            marks = {name: int(value) for name, value in said.items()}
            self.of["marks"][partition] = marks
        elif self.of is not None:
            self.of.update({k: v for k, v in said.items() if k.startswith("data-")})
        if self.query is not None and tag == "tr":
            self.row = []
        if self.query is not None and tag == "td":
            self.row.append("")

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            faults.append(f"</{tag}> closes something else, line {self.getpos()[0]}")
        if tag == "tr" and self.query is not None and self.row:
            self.query["rows"].append(self.row)
        if tag == "article":
            self.of = self.query = None

    def handle_data(self, data):
        self.text.append(data)
        if self.query is not None and self.open[-1] == "td":
            self.row[-1] += data
        if self.query is not None and self.open[-1] == "p" and not self.query["rows"]:
            self.query["fault"] = data


source = open(asked["page"], encoding="utf-8").read()
page = Page()
page.feed(source)
page.close()
same("tags left open", page.open, [])
style = source[source.index("<style>") : source.index("</style>")]
same("what the style fetches", re.findall(r"url\(|@import", style), [])
if "<!doctype html>" not in source[:20].lower():
    faults.append("no doctype")

# The lake, line by line.
rows, files, sizes = collections.Counter(), collections.Counter(), collections.Counter()
for path in glob.glob(f"{asked['lake']}/**/*.jsonl", recursive=True):
    lines = open(path, "rb").read().splitlines()
    topics = {json.loads(line)["_topic"] for line in lines}
    (topic,) = topics
    rows[topic] += len(lines)
    files[topic] += 1
    sizes[topic] += os.path.getsize(path)

if "sqlite" in asked:
    database = sqlite3.connect(f"file:{asked['sqlite']}?mode=ro", uri=True)
else:
    database = psycopg2.connect(asked["postgres"])


def answers(sql):
    cursor = database.cursor()
    cursor.execute(sql)
    return [["null" if it is None else str(it) for it in row] for row in cursor.fetchall()]


in_warehouse = 0
same("topics", {feed["data-topic"] for feed in page.feeds.values()}, set(asked["ends"]))
for name, feed in page.feeds.items():
    topic = feed["data-topic"]
    for figure, expected in [("rows", rows), ("files", files), ("bytes", sizes)]:
        same(f"{name}: {figure}", int(feed[f"data-lake-{figure}"]), expected[topic])
    if "data-table" in feed:
        count = int(answers(f'SELECT count(*) FROM "{feed["data-table"]}"')[0][0])
        same(f"{name}: rows in the warehouse", int(feed["data-warehouse-rows"]), count)
        in_warehouse += count
    for partition, end in enumerate(asked["ends"][topic]):
        sinks = ["lake", "warehouse"] if "data-table" in feed else ["lake"]
        expected = {f"data-{sink}-mark": end for sink in sinks}
        same(f"{name}-{partition}: watermarks", feed["marks"].get(partition), expected)
same("all rows in the lake", page.figures["lake-rows"], rows.total())
same("all bytes in the lake", page.figures["lake-bytes"], sizes.total())
same("all rows in the warehouse", page.figures["warehouse-rows"], in_warehouse)
if not rows.total() or not in_warehouse:
    faults.append("nothing was there to be counted")
for file in asked["queries"]:
    sql = open(f"{asked['folder']}/queries/{file}", encoding="utf-8").read()
    same(file, page.queries[file]["rows"], answers(sql))

json.dump(
    {
        "faults": faults,
        "text": " ".join("".join(page.text).split()),
        "queries": page.queries,
        "summary": {"feeds": len(page.feeds), "rows": rows.total(), "in_warehouse": in_warehouse},
    },
    sys.stdout,
)
