-- What somebody made of a record in quarantine: `replayed` (it is a row now), `superseded` (its key had a
-- newer state by then), `discarded`, or `read_again` (progress was set back before it, and a node reads
-- it again). Null: it waits for somebody.
ALTER TABLE tidegate.quarantine
    ADD COLUMN settled     text CHECK (settled IN ('replayed', 'superseded', 'discarded', 'read_again')),
    ADD COLUMN settled_by  text,
    ADD COLUMN settled_why text,
    ADD COLUMN settled_at  timestamptz;
