-- What Tidegate keeps beside the feeds' tables; the same as migrations/postgres. Times are ISO 8601
-- in UTC, ids are text.

CREATE TABLE tidegate_installation (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id  TEXT NOT NULL
);

CREATE TABLE tidegate_progress (
    feed         TEXT    NOT NULL,
    topic        TEXT    NOT NULL,
    partition    INTEGER NOT NULL,
    topic_id     TEXT,
    claim        TEXT    NOT NULL,
    start_offset INTEGER NOT NULL,
    next_offset  INTEGER NOT NULL,
    updated_at   TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (feed, topic, partition)
);

CREATE TABLE tidegate_former (
    feed         TEXT    NOT NULL,
    topic        TEXT    NOT NULL,
    partition    INTEGER NOT NULL,
    topic_id     TEXT    NOT NULL,
    start_offset INTEGER NOT NULL,
    end_offset   INTEGER NOT NULL,
    left_at      TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

CREATE TABLE tidegate_quarantine (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    feed             TEXT    NOT NULL,
    topic            TEXT    NOT NULL,
    topic_id         TEXT    NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    partition        INTEGER NOT NULL,
    record_offset    INTEGER NOT NULL,
    record_timestamp TEXT,
    key              BLOB,
    value            BLOB,
    headers          TEXT    NOT NULL DEFAULT '[]',
    class            TEXT    NOT NULL,
    reason           TEXT    NOT NULL,
    sink             TEXT,
    created_at       TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    UNIQUE (feed, topic, partition, record_offset, topic_id)
);

CREATE TABLE tidegate_gaps (
    feed        TEXT    NOT NULL,
    topic       TEXT    NOT NULL,
    partition   INTEGER NOT NULL,
    topic_id    TEXT,
    from_offset INTEGER NOT NULL,
    to_offset   INTEGER NOT NULL,
    reason      TEXT    NOT NULL,
    recorded_at TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    settled_at  TEXT
);

CREATE UNIQUE INDEX tidegate_gaps_open ON tidegate_gaps (feed, topic, partition)
WHERE settled_at IS NULL;

CREATE TABLE tidegate_columns (
    feed    TEXT PRIMARY KEY,
    columns TEXT NOT NULL
);
