-- What Tidegate keeps beside the feeds' tables. Run by `tidegate migrate`, under an advisory lock.

-- Which installation owns this database.
CREATE TABLE tidegate.installation (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id  uuid NOT NULL
);

-- How far each partition has come: changed only in the transaction that writes the rows it covers.
CREATE TABLE tidegate.progress (
    feed        text        NOT NULL,
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    topic_id    uuid,                   -- null: the broker tells none
    claim       uuid        NOT NULL,   -- written by the present owner
    next_offset bigint      NOT NULL,   -- where the next write must start
    owner_pid   integer     NOT NULL,   -- the session that wrote last
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (feed, topic, partition)
) WITH (fillfactor = 50);               -- updated at every commit: room for it on the same page

-- Records that became no row. `sink` is null where no sink could take the record, else the one that
-- refused it. A topic made again counts from 0 again, so its id is part of what names a record.
CREATE TABLE tidegate.quarantine (
    id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feed             text        NOT NULL,
    topic            text        NOT NULL,
    topic_id         uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    partition        integer     NOT NULL,
    record_offset    bigint      NOT NULL,
    record_timestamp timestamptz,
    key              bytea,
    value            bytea,
    headers          jsonb       NOT NULL DEFAULT '[]',  -- [[name, base64 or null], ...]
    class            text        NOT NULL,
    reason           text        NOT NULL,
    sink             text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (feed, topic, partition, record_offset, topic_id)
);

-- Ranges that the broker no longer held when they were to be read.
CREATE TABLE tidegate.gaps (
    feed        text        NOT NULL,
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    from_offset bigint      NOT NULL,
    to_offset   bigint      NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    reason      text        NOT NULL
);

-- The columns inferred for a feed, as the first node wrote them (json, not jsonb: to the letter).
CREATE TABLE tidegate.columns (
    feed    text PRIMARY KEY,
    columns json NOT NULL
);
