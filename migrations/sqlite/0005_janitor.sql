-- Who looks after the tables, and what came of it.

-- One node at a time holds a lease, until it is over. Each holder's token is greater than all before it.
CREATE TABLE tidegate_leases (
    name       TEXT    PRIMARY KEY,
    holder     TEXT    NOT NULL,
    token      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL  -- milliseconds since the epoch
) STRICT;

-- The last run of each chore.
CREATE TABLE tidegate_chores (
    chore       TEXT    PRIMARY KEY,
    node        TEXT    NOT NULL,
    token       INTEGER NOT NULL,  -- that of its lease
    started_at  TEXT    NOT NULL,
    finished_at TEXT    NOT NULL,
    failed      INTEGER NOT NULL,
    report      TEXT    NOT NULL
) STRICT;
