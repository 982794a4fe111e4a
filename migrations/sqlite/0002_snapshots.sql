-- Versions kept of a table: which there are, and the offsets each stands for. Written in the transaction
-- that copies the rows.
CREATE TABLE tidegate_snapshots (
    feed     TEXT    NOT NULL,
    version  INTEGER NOT NULL,
    taken_at TEXT    NOT NULL,
    rows     INTEGER NOT NULL,
    offsets  TEXT    NOT NULL,  -- [{topic, partition, topic_id, next_offset}, ...]
    PRIMARY KEY (feed, version)
);
