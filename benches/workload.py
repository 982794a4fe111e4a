"""The records that everything here is measured with. The same count gives the same records.

reference   a purchase transaction: 18 fields, three of them objects, about 660 bytes, as Python's
            json module writes it (a space after each comma and colon)
changelog   running totals by user and type: 40,000 keys, 2% tombstones, about 100 bytes with key
wide        the changelog again, over 500 partitions
shaped      the reference message with an array, and three fields that come one after the other
traced      the reference messages, each with a `traceparent`
shaped_avro the same as Avro; its one schema has all the fields from the start, and null until then
"""

import datetime
import json
import random

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

import avro

SEED = 20260101
PARTITIONS = {
    "reference": 8, "changelog": 8, "wide": 500, "shaped": 8, "shaped_avro": 8, "traced": 8,
}  # fmt: skip
TYPES = ("purchase", "refund", "payment", "withdrawal")
USERS = 10_000
TOMBSTONES = 0.02

TOWNS = (
    ("Lisbon", "PT"), ("Utrecht", "NL"), ("Krakow", "PL"), ("Leeds", "GB"), ("Lyon", "FR"),
    ("Austin", "US"), ("Osaka", "JP"), ("Bogota", "CO"), ("Graz", "AT"), ("Turku", "FI"),
)  # fmt: skip
STREETS = (
    "Harbour Road, Building C", "Rua do Ouro, 2nd floor", "Kirkgate, Flat 11", "Quai de Saone",
    "Congress Avenue, Suite 300", "Stare Miasto, m. 7",
)  # fmt: skip
GIVEN = ("Amira", "Bela", "Carlos", "Dorota", "Emil", "Fatou", "Goran", "Hanne", "Ivo", "Jun")
FAMILY = ("Almeida", "Bakker", "Chen", "Diallo", "Eklund", "Fontaine", "Gruber", "Hughes", "Ito")
SYSTEMS = ("Windows 11 Pro", "macOS 15.1", "Ubuntu 24.04", "Android 15", "iOS 18.1.1")
BROWSERS = ("Chrome 131.0.6778", "Firefox 133.0.3", "Safari 18.1.1", "Edge 131.0.2903")
CURRENCIES = ("EUR", "USD", "GBP", "JPY", "BRL")
STATES = ("completed", "pending", "failed", "processing")
METHODS = ("credit_card", "debit_card", "paypal", "bank_transfer", "apple_pay")
CATEGORIES = ("electronics", "clothing", "groceries", "books", "home_and_garden", "sports")


def transactions(count):
    """(key, value, cents)"""
    source = random.Random(SEED)
    number, pick, chance = source.randrange, source.choice, source.random
    time = datetime.datetime(2026, 1, 1)
    for index in range(count):
        time += datetime.timedelta(microseconds=number(1, 2000))
        key, user, cents = f"TXN-{index:08x}", number(USERS), number(100, 500_000)
        (city, country), (to_city, to_country) = pick(TOWNS), pick(TOWNS)
        name = f"{GIVEN[user % 10]} {FAMILY[user // 10 % 9]}"
        rating = "null" if chance() < 0.3 else number(1, 6)
        discount = "null" if chance() < 0.6 else f'"SAVE{number(5, 50)}-{number(65536):04X}"'
        tax = cents * 19 // 100
        at = time.isoformat(timespec="microseconds")
        yield key, (
            f'{{"TRANSACTION_ID": "{key}", "TIMESTAMP": "{at}Z", "USER_ID": "USER-{user}", '
            f'"USER_NAME": "{name}", "PRODUCT_ID": "PROD-{number(5000):05d}", '
            f'"AMOUNT": {cents // 100}.{cents % 100:02d}, "CURRENCY": "{pick(CURRENCIES)}", '
            f'"TRANSACTION_TYPE": "{pick(TYPES)}", "STATUS": "{pick(STATES)}", '
            f'"LOCATION": {{"CITY": "{city}", "COUNTRY": "{country}"}}, '
            f'"PAYMENT_METHOD": "{pick(METHODS)}", "PRODUCT_CATEGORY": "{pick(CATEGORIES)}", '
            f'"QUANTITY": {number(1, 20)}, "SHIPPING_ADDRESS": {{"STREET": "{number(1, 999)} '
            f'{pick(STREETS)}", "ZIP": "{number(10000, 99999)}", "CITY": "{to_city}", '
            f'"COUNTRY": "{to_country}"}}, "DEVICE_INFO": {{"OS": "{pick(SYSTEMS)}", '
            f'"BROWSER": "{pick(BROWSERS)}", "IP_ADDRESS": "{number(1, 224)}.{number(256)}.'
            f'{number(256)}.{number(256)}"}}, "CUSTOMER_RATING": {rating}, '
            f'"DISCOUNT_CODE": {discount}, "TAX_AMOUNT": {tax // 100}.{tax % 100:02d}}}'
        ), cents


def shaped(count):
    """Transactions with an array; each quarter but the first has a field more."""
    late = (', "CHANNEL": "web"', ', "STORE_ID": 17', ', "GIFT": true')
    for index, (key, value, cents) in enumerate(transactions(count)):
        more = "".join(late[: index * 4 // count])
        yield key, f'{value[:-1]}, "TAGS": ["new", "summer", "club"]{more}}}', cents


def shaped_avro(count):
    frame = avro.framed(avro.TRANSACTION)
    for key, value, cents in shaped(count):
        yield key, frame(json.loads(value)), cents


STREAMS = {
    "reference": transactions,
    "shaped": shaped,
    "shaped_avro": shaped_avro,
    "traced": transactions,
}


def totals(count):
    """(user, type, cents, transactions); a tombstone has None for both numbers."""
    source = random.Random(SEED + 1)
    number, chance = source.randrange, source.random
    state = {}
    for _ in range(count):
        key = number(USERS * len(TYPES))
        user, kind = key % USERS, TYPES[key // USERS]
        if chance() < TOMBSTONES:
            state.pop(key, None)
            yield user, kind, None, None
        else:
            cents, transactions = state.get(key, (0, 0))
            state[key] = cents + number(100, 500_000), transactions + 1
            yield user, kind, *state[key]


def fill(bootstrap, name, count):
    """Makes the topic and publishes to it. Answers what must be found in the sinks."""
    import telemetry  # which knows of this module

    admin = AdminClient({"bootstrap.servers": bootstrap})
    for made in admin.create_topics([NewTopic(name, PARTITIONS[name], 1)]).values():
        made.result()
    producer = Producer({
        "bootstrap.servers": bootstrap,
        "linger.ms": 50,
        "batch.size": 1 << 19,
        "partitioner": "murmur2_random",
        # Else what is sent again after a hitch may overtake a later record of the same key.
        "enable.idempotence": True,
        # A broker just started makes it say that it tries again.
        "log_level": 3,
        "queue.buffering.max.messages": 400_000,
        "queue.buffering.max.kbytes": 400_000,
    })  # fmt: skip

    headers = telemetry.headers(count) if name == "traced" else None

    def send(key, value):
        more = {"headers": next(headers)} if headers else {}
        while True:
            try:
                return producer.produce(name, value, key, **more)
            except BufferError:
                producer.poll(0.05)

    if name in STREAMS:
        expected = _fill_stream(send, STREAMS[name](count))
    else:
        expected = _fill_totals(send, count)
    if producer.flush(60):
        raise SystemExit(f"{name}: the broker did not take all records")
    return expected | {"records": count}


def _fill_stream(send, records):
    size = amount = 0
    for key, value, cents in records:
        send(key, value)
        size += len(value)
        amount += cents
    return {"bytes": size, "cents": amount}


def _fill_totals(send, count):
    size = tombstones = 0
    rows = {}
    for user, kind, cents, transactions in totals(count):
        key = f'{{"USER_ID":"USER-{user}","TRANSACTION_TYPE":"{kind}"}}'
        value = None
        if cents is None:
            tombstones += 1
            rows.pop(key, None)
        else:
            amount = f"{cents // 100}.{cents % 100:02d}"
            value = f'{{"TOTAL_AMOUNT":{amount},"TRANSACTION_COUNT":{transactions}}}'
            rows[key] = cents, transactions
        send(key, value)
        size += len(key) + len(value or "")
    return {
        "bytes": size,
        "tombstones": tombstones,
        "rows": len(rows),
        "cents": sum(cents for cents, _ in rows.values()),
        "transactions": sum(transactions for _, transactions in rows.values()),
    }


def _columns(text):
    """`NAME type, A.B type`: columns named after their fields, dots as `_`."""
    pairs = [entry.split() for entry in text.split(",")]
    return [
        {"name": path.lower().replace(".", "_"), "type": kind, "path": path} for path, kind in pairs
    ]


REFERENCE = _columns(
    "TRANSACTION_ID string, TIMESTAMP timestamp, USER_ID string, USER_NAME string, "
    "PRODUCT_ID string, AMOUNT double, CURRENCY string, TRANSACTION_TYPE string, STATUS string, "
    "LOCATION.CITY string, LOCATION.COUNTRY string, PAYMENT_METHOD string, "
    "PRODUCT_CATEGORY string, QUANTITY long, SHIPPING_ADDRESS.STREET string, "
    "SHIPPING_ADDRESS.ZIP string, SHIPPING_ADDRESS.CITY string, SHIPPING_ADDRESS.COUNTRY string, "
    "DEVICE_INFO.OS string, DEVICE_INFO.BROWSER string, DEVICE_INFO.IP_ADDRESS string, "
    "CUSTOMER_RATING long, DISCOUNT_CODE string, TAX_AMOUNT double"
)


_LATE = _columns("CHANNEL string, STORE_ID long, GIFT boolean")
_STRUCTS = (
    ("LOCATION", "CITY:string,COUNTRY:string"),
    ("SHIPPING_ADDRESS", "STREET:string,ZIP:string,CITY:string,COUNTRY:string"),
    ("DEVICE_INFO", "OS:string,BROWSER:string,IP_ADDRESS:string"),
)
_KEPT = [column for column in REFERENCE if "." not in column["path"]] + [
    {"name": path.lower(), "type": f"struct<{fields}>", "path": path} for path, fields in _STRUCTS
]

_FLAT = REFERENCE + _columns("TAGS json") + _LATE

# How the same records may be read; what each costs is held against the first.
SHAPES = {
    "flat": {"columns": _FLAT},
    "kept": {"columns": _KEPT + [{"name": "tags", "type": "array<string>", "path": "TAGS"}] + _LATE},
    "flat, inferred": {},
    "kept, inferred": {"nested": "keep"},
    "avro": {"format": "avro", "columns": _FLAT},
    "avro, inferred": {"format": "avro"},
}


def topic_of(shape):
    return "shaped_avro" if "format" in SHAPES[shape] else "shaped"


def feed(topic, lake, warehouse, shape="flat"):
    """The feed file of a topic, with every option as it is by default."""
    file = {"feed": topic, "topic": topic}
    if topic in ("reference", "traced"):
        file |= {"type": "stream", "columns": REFERENCE, "time": "timestamp"}
    elif topic in ("shaped", "shaped_avro"):
        file |= {"type": "stream", "time": "timestamp"} | SHAPES[shape]
    elif topic == "ticks":
        file |= {"type": "stream", "columns": _columns("ID long, NOTE string")}
    else:
        key = _columns("USER_ID string, TRANSACTION_TYPE string")
        file |= {
            "type": "table",
            "key": {"format": "json", "columns": key},
            "columns": _columns("TOTAL_AMOUNT double, TRANSACTION_COUNT long"),
        }
    if not lake:
        file["lake"] = None
    if not warehouse:
        file["warehouse"] = None
    return json.dumps(file)
