"""Talks to each real server once, as any client would: that they are up, and that what the tests
lean on holds (TLS, SCRAM, refusal of a wrong certificate authority, conditional puts).

Run by scripts/test with the environment of `scripts/servers up`. Ends with the line that cargo's
tests end with, so that it is counted with them.
"""

import concurrent.futures
import os
import sys
import tempfile
import time
import traceback
import uuid

import confluent_kafka
import confluent_kafka.admin
import deltalake
import psycopg2
import pyarrow

ENV = os.environ
KAFKA_TLS = {
    "bootstrap.servers": ENV["TIDEGATE_TEST_KAFKA_TLS"],
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": ENV["TIDEGATE_TEST_KAFKA_USER"],
    "sasl.password": ENV["TIDEGATE_TEST_KAFKA_PASSWORD"],
    "ssl.ca.location": ENV["TIDEGATE_TEST_CA"],
    # Refusals are expected below and come back as errors.
    "log_level": 0,
}
S3 = {
    "endpoint": ENV["TIDEGATE_TEST_S3_ENDPOINT"],
    "region": ENV["TIDEGATE_TEST_S3_REGION"],
    "access_key_id": ENV["TIDEGATE_TEST_S3_ACCESS_KEY"],
    "secret_access_key": ENV["TIDEGATE_TEST_S3_SECRET_KEY"],
    "allow_http": "true",
}
BUCKET = f"s3://{ENV['TIDEGATE_TEST_S3_BUCKET']}"


def round_trip(settings):
    """Makes a topic, writes to it and reads it back as a member of a group."""
    topic = f"check-{uuid.uuid4()}"
    admin = confluent_kafka.admin.AdminClient(settings)
    new = confluent_kafka.admin.NewTopic(topic, 2, 1)
    admin.create_topics([new])[topic].result(20)
    producer = confluent_kafka.Producer(settings)
    for n in range(100):
        producer.produce(topic, key=str(n), value=f"value {n}")
    assert producer.flush(20) == 0
    group = {"group.id": topic, "group.protocol": "consumer", "auto.offset.reset": "earliest"}
    consumer = confluent_kafka.Consumer({**settings, **group})
    consumer.subscribe([topic])
    seen, end = set(), time.monotonic() + 20
    while len(seen) < 100 and time.monotonic() < end:
        for message in consumer.consume(100, 0.2):
            assert message.error() is None, message.error()
            seen.add(message.value().decode())
    consumer.close()
    admin.delete_topics([topic])[topic].result(20)
    assert seen == {f"value {n}" for n in range(100)}, len(seen)


def kafka_reaches(**changes):
    admin = confluent_kafka.admin.AdminClient({**KAFKA_TLS, **changes})
    try:
        admin.list_topics(timeout=3)
        return True
    except confluent_kafka.KafkaException:
        return False


def kafka_plain_with_the_consumer_protocol():
    round_trip({"bootstrap.servers": ENV["TIDEGATE_TEST_KAFKA"], "log_level": 0})


def kafka_scram_over_tls():
    round_trip(KAFKA_TLS)


def kafka_refuses_a_wrong_password_and_a_wrong_authority():
    assert kafka_reaches()
    assert not kafka_reaches(**{"sasl.password": "wrong"})
    assert not kafka_reaches(**{"ssl.ca.location": ENV["TIDEGATE_TEST_OTHER_CA"]})


def postgres_plain():
    connection = psycopg2.connect(ENV["TIDEGATE_TEST_POSTGRES"])
    with connection.cursor() as cursor:
        cursor.execute("show fsync")
        assert cursor.fetchone() == ("on",)
    connection.close()


def postgres_connects(url, ca, password):
    try:
        connection = psycopg2.connect(
            url, sslmode="verify-full", sslrootcert=ENV[ca], password=password
        )
    except psycopg2.OperationalError:
        return False
    with connection.cursor() as cursor:
        cursor.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        assert cursor.fetchone() == (True,)
    connection.close()
    return True


def postgres_verify_full():
    url, password = ENV["TIDEGATE_TEST_POSTGRES_TLS"], ENV["TIDEGATE_TEST_POSTGRES_TLS_PASSWORD"]
    assert postgres_connects(url, "TIDEGATE_TEST_CA", password)
    assert not postgres_connects(url, "TIDEGATE_TEST_CA", "wrong")
    assert not postgres_connects(url, "TIDEGATE_TEST_OTHER_CA", password)
    # The certificate is for localhost alone.
    other_host = url.replace("localhost", "127.0.0.1")
    assert not postgres_connects(other_host, "TIDEGATE_TEST_CA", password)


def s3_delta_table():
    url = f"{BUCKET}/check-{uuid.uuid4()}"
    rows = pyarrow.table({"n": pyarrow.array(range(10), pyarrow.int64())})
    for _ in range(2):
        deltalake.write_deltalake(url, rows, mode="append", storage_options=S3)
    table = deltalake.DeltaTable(url, storage_options=S3)
    assert table.version() == 1
    assert len(table.file_uris()) == 2


def s3_conditional_create_has_one_winner():
    url = f"{BUCKET}/race-{uuid.uuid4()}"
    rows = pyarrow.table({"n": pyarrow.array([1], pyarrow.int64())})
    deltalake.write_deltalake(url, rows, storage_options=S3)

    def append(_):
        deltalake.write_deltalake(url, rows, mode="append", storage_options=S3)

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(append, range(8)))
    table = deltalake.DeltaTable(url, storage_options=S3)
    assert table.version() == 8, table.version()
    assert len(table.file_uris()) == 9, len(table.file_uris())


def readers_import():
    import duckdb
    import pandas
    import polars

    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/a.parquet"
        polars.DataFrame({"n": [1, 2]}).write_parquet(file)
        assert pandas.read_parquet(file)["n"].sum() == 3
        assert duckdb.sql(f"select sum(n) from '{file}'").fetchall() == [(3,)]


CHECKS = [
    kafka_plain_with_the_consumer_protocol,
    kafka_scram_over_tls,
    kafka_refuses_a_wrong_password_and_a_wrong_authority,
    postgres_plain,
    postgres_verify_full,
    s3_delta_table,
    s3_conditional_create_has_one_winner,
    readers_import,
]


def main():
    failed = 0
    for check in CHECKS:
        try:
            check()
            print(f"test servers::{check.__name__} ... ok", flush=True)
        except BaseException:
            failed += 1
            print(f"test servers::{check.__name__} ... FAILED", flush=True)
            traceback.print_exc()
    verdict = "FAILED" if failed else "ok"
    print(f"test result: {verdict}. {len(CHECKS) - failed} passed; {failed} failed; 0 ignored")
    sys.stdout.flush()
    sys.stderr.flush()
    # Some of these libraries abort when the interpreter takes them down, after a right answer.
    os._exit(1 if failed else 0)


main()
