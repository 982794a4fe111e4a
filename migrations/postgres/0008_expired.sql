-- Rows of streams whose time is over, taken out of the feeds' tables.

-- Which offsets they were of, so that whoever compares a table with its topic knows them from those that were
-- lost. Written in the transaction that takes the rows out. Of a topic made again an offset may be in two spans.
CREATE TABLE tidegate.expired (
    feed        text        NOT NULL,
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    from_offset bigint      NOT NULL,
    to_offset   bigint      NOT NULL,  -- included
    expired_at  timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX expired_of ON tidegate.expired (feed, topic, partition);

-- Up to which day a feed's table was looked through to its end.
CREATE TABLE tidegate.expiry (
    feed        text        PRIMARY KEY,
    before      date        NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now()
);
