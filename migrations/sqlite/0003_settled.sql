-- What somebody made of a record in quarantine; the same as migrations/postgres.
ALTER TABLE tidegate_quarantine ADD COLUMN settled TEXT
    CHECK (settled IN ('replayed', 'superseded', 'discarded', 'read_again'));
ALTER TABLE tidegate_quarantine ADD COLUMN settled_by TEXT;
ALTER TABLE tidegate_quarantine ADD COLUMN settled_why TEXT;
ALTER TABLE tidegate_quarantine ADD COLUMN settled_at TEXT;
