-- Which nodes run, and what each told of itself last.
CREATE TABLE tidegate.nodes (
    instance uuid        PRIMARY KEY,  -- of the process: a node that is started again is another
    node     text        NOT NULL,
    told     jsonb       NOT NULL,
    beat_at  timestamptz NOT NULL DEFAULT now()
);
