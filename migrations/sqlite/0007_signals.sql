-- Chores that somebody wants done now, whatever their schedule. The janitor takes a row away when it has run.
CREATE TABLE tidegate_signals (
    chore    TEXT PRIMARY KEY,
    asked_by TEXT NOT NULL,
    asked_at TEXT NOT NULL
);
