-- Chores that somebody wants done now, whatever their schedule. The janitor takes a row away when it has run.
CREATE TABLE tidegate.signals (
    chore    text        PRIMARY KEY,
    asked_by text        NOT NULL,
    asked_at timestamptz NOT NULL
);
