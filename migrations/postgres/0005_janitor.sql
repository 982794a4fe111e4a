-- Who looks after the tables, and what came of it.

-- One node at a time holds a lease, until it is over. Each holder's token is greater than all before it.
CREATE TABLE tidegate.leases (
    name       text        PRIMARY KEY,
    holder     text        NOT NULL,
    token      bigint      NOT NULL,
    expires_at timestamptz NOT NULL
);

-- The last run of each chore.
CREATE TABLE tidegate.chores (
    chore       text        PRIMARY KEY,
    node        text        NOT NULL,
    token       bigint      NOT NULL,  -- that of its lease
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    failed      boolean     NOT NULL,
    report      jsonb       NOT NULL
);
