-- What somebody made of a record in quarantine: `replayed` (it is a row now), `superseded` (its key had a
-- newer state by then) or `discarded`. Null: it waits for somebody.
ALTER TABLE tidegate.quarantine
    ADD COLUMN settled     text CHECK (settled IN ('replayed', 'superseded', 'discarded')),
    ADD COLUMN settled_by  text,
    ADD COLUMN settled_why text,
    ADD COLUMN settled_at  timestamptz;
