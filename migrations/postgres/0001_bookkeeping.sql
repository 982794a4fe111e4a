-- What Tidegate keeps beside the feeds' tables. Run by `tidegate migrate`, under an advisory lock.

-- Which installation owns this database.
CREATE TABLE tidegate.installation (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id  uuid NOT NULL
);

-- How far each partition has come: changed only in the transaction that writes the rows it covers.
CREATE TABLE tidegate.progress (
    feed         text        NOT NULL,
    topic        text        NOT NULL,
    partition    integer     NOT NULL,
    topic_id     uuid,                  -- null: the broker tells none
    claim        uuid        NOT NULL,  -- written by the present owner
    start_offset bigint      NOT NULL,  -- where this topic's rows begin; no write changes it
    next_offset  bigint      NOT NULL,  -- where the next write must start
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (feed, topic, partition)
) WITH (fillfactor = 50);               -- updated at every commit: room for it on the same page

-- Topics that were deleted and made again under the same name, and what had been taken of them: their
-- rows stay, and their offsets come a second time.
CREATE TABLE tidegate.former (
    feed         text        NOT NULL,
    topic        text        NOT NULL,
    partition    integer     NOT NULL,
    topic_id     uuid        NOT NULL,
    start_offset bigint      NOT NULL,
    end_offset   bigint      NOT NULL,
    left_at      timestamptz NOT NULL DEFAULT now()
);

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

-- Offsets that were not read: the broker no longer held them, or somebody passed over them by hand.
CREATE TABLE tidegate.gaps (
    feed        text        NOT NULL,
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    topic_id    uuid,
    from_offset bigint      NOT NULL,
    to_offset   bigint      NOT NULL,
    reason      text        NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    settled_at  timestamptz             -- null: the partition is parked before it
);

-- A partition waits before one gap, however often it is found.
CREATE UNIQUE INDEX gaps_open ON tidegate.gaps (feed, topic, partition) WHERE settled_at IS NULL;

-- The columns inferred for a feed, as the first node wrote them (json, not jsonb: to the letter).
CREATE TABLE tidegate.columns (
    feed    text PRIMARY KEY,
    columns json NOT NULL
);
