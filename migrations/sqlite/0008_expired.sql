-- Rows of streams whose time is over, taken out of the feeds' tables.

-- Which offsets they were of, so that whoever compares a table with its topic knows them from those that were
-- lost. Written in the transaction that takes the rows out. Of a topic made again an offset may be in two spans.
CREATE TABLE tidegate_expired (
    feed        TEXT    NOT NULL,
    topic       TEXT    NOT NULL,
    partition   INTEGER NOT NULL,
    from_offset INTEGER NOT NULL,
    to_offset   INTEGER NOT NULL,  -- included
    expired_at  TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

CREATE INDEX tidegate_expired_of ON tidegate_expired (feed, topic, partition);

-- Up to which day a feed's table was looked through to its end.
CREATE TABLE tidegate_expiry (
    feed        TEXT PRIMARY KEY,
    before      TEXT NOT NULL,
    finished_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
