-- Versions kept of a table: which there are, and the offsets each stands for. Written in the transaction
-- that copies the rows.
CREATE TABLE tidegate.snapshots (
    feed     text        NOT NULL,
    version  bigint      NOT NULL,
    taken_at timestamptz NOT NULL,
    rows     bigint      NOT NULL,
    offsets  jsonb       NOT NULL,  -- [{topic, partition, topic_id, next_offset}, ...]
    PRIMARY KEY (feed, version)
);
