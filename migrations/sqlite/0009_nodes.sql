-- Which nodes run, and what each told of itself last.
CREATE TABLE tidegate_nodes (
    instance TEXT    PRIMARY KEY,  -- of the process: a node that is started again is another
    node     TEXT    NOT NULL,
    told     TEXT    NOT NULL,
    beat_at  INTEGER NOT NULL      -- milliseconds since 1970
);
