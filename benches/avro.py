"""Records as a producer of Avro writes them, and the registry that knows their schema."""

import datetime
import json
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
MICROSECOND = datetime.timedelta(microseconds=1)
TYPES = {
    "timestamp": {"type": "long", "logicalType": "timestamp-micros"},
    "array": {"type": "array", "items": "string"},
}
# Any would do.
SCHEMA_ID = 70_001


def record(name, fields, **records):
    """A schema, from `NAME type, NAME type`: `?` after a type says that it may be null."""
    known = TYPES | records
    found = []
    for entry in fields.split(","):
        field, kind = entry.split()
        plain = kind.removesuffix("?")
        plain = known.get(plain, plain)
        if kind.endswith("?"):
            found.append({"name": field, "type": ["null", plain], "default": None})
        else:
            found.append({"name": field, "type": plain})
    return {"type": "record", "name": name, "fields": found}


TRANSACTION = record(
    "Transaction",
    "TRANSACTION_ID string, TIMESTAMP timestamp, USER_ID string, USER_NAME string, "
    "PRODUCT_ID string, AMOUNT double, CURRENCY string, TRANSACTION_TYPE string, STATUS string, "
    "LOCATION location, PAYMENT_METHOD string, PRODUCT_CATEGORY string, QUANTITY long, "
    "SHIPPING_ADDRESS address, DEVICE_INFO device, CUSTOMER_RATING long?, DISCOUNT_CODE string?, "
    "TAX_AMOUNT double, TAGS array, CHANNEL string?, STORE_ID long?, GIFT boolean?",
    location=record("Location", "CITY string, COUNTRY string"),
    address=record("Address", "STREET string, ZIP string, CITY string, COUNTRY string"),
    device=record("Device", "OS string, BROWSER string, IP_ADDRESS string"),
)


def framed(schema):
    """A function from a value, as JSON has it, to the bytes that Confluent's serializers make."""
    head, write = b"\0" + SCHEMA_ID.to_bytes(4, "big"), _writer(schema)
    return lambda value: head + write(value)


def _writer(schema):
    if isinstance(schema, list):
        of = _writer(schema[1])
        return lambda value: b"\0" if value is None else b"\2" + of(value)
    kind = schema if isinstance(schema, str) else schema.get("logicalType", schema["type"])
    if kind == "record":
        fields = [(field["name"], _writer(field["type"])) for field in schema["fields"]]
        return lambda value: b"".join([write(value.get(name)) for name, write in fields])
    if kind == "array":
        item = _writer(schema["items"])
        # One block, and behind it the one of no items that is the end.
        return lambda value: _long(len(value)) + b"".join(map(item, value)) + b"\0"
    return {
        "string": _string,
        "long": _long,
        "double": struct.Struct("<d").pack,
        "boolean": struct.Struct("?").pack,
        "timestamp-micros": _micros,
    }[kind]


def _long(number):
    """Zigzag, seven bits a byte, the lowest first."""
    number = number << 1 ^ number >> 63
    out = []
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _string(text):
    data = text.encode()
    return _long(len(data)) + data


def _micros(text):
    return _long((datetime.datetime.fromisoformat(text) - EPOCH) // MICROSECOND)


class _Registry(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == f"/schemas/ids/{SCHEMA_ID}":
            self._say(200, {"schema": json.dumps(TRANSACTION)})
        else:
            self._say(404, {"error_code": 40403, "message": f"nothing at {self.path}"})

    def _say(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve():
    """Answers the address of a registry that is there for as long as this process."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
