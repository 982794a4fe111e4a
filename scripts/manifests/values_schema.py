"""The chart's schema with the program's own: reads `tidegate config schema`, prints what values.schema.json should be.

What is by hand in it stays; `config`, `feed` and `feed_declaration` among its `$defs` are the program's, less what the
chart itself says in the node file.
"""

import json
import sys

# Said by the chart, and so by nobody else.
OWN = {"": ["feeds", "volume"], "Api": ["listen", "tls"], "Telemetry": ["listen"]}
# Filled in from `secrets`.
FROM_SECRETS = {"Sasl": ["password"]}


def moved(value, place):
    """References into a schema that becomes a part of another."""
    if isinstance(value, dict):
        return {
            key: f"#/$defs/{place}{inner[1:]}" if key == "$ref" and isinstance(inner, str) else moved(inner, place)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [moved(inner, place) for inner in value]
    return value


def less(schema, fields, only_required=False):
    for field in fields:
        if not only_required:
            del schema["properties"][field]
        if field in schema.get("required", []):
            schema["required"].remove(field)
    if schema.get("required") == []:
        del schema["required"]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        chart = json.load(file)
    program = json.load(sys.stdin)
    node = program["node"]
    for name, fields in OWN.items():
        less(node["$defs"][name] if name else node, fields)
    for name, fields in FROM_SECRETS.items():
        less(node["$defs"][name], fields, only_required=True)
    # A file's name is its feed's unless it says another.
    less(program["feed"], ["feed"], only_required=True)
    for place, schema in (("config", node), ("feed", program["feed"]), ("feed_declaration", program["feed_declaration"])):
        schema.pop("$schema", None)
        chart["$defs"][place] = moved(schema, place)
    print(json.dumps(chart, indent=2))


main()
