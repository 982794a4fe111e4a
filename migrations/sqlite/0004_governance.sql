-- Who may do what with which feed; the same as migrations/postgres.
CREATE TABLE tidegate_permissions (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    principal  TEXT NOT NULL,
    feed       TEXT NOT NULL,
    action     TEXT NOT NULL CHECK (action IN ('read', 'quarantine', 'replay', 'write', 'manage')),
    effect     TEXT NOT NULL DEFAULT 'allow' CHECK (effect IN ('allow', 'deny')),
    columns    TEXT,
    masks      TEXT,
    predicate  TEXT,
    day_from   TEXT,
    day_to     TEXT,
    expires_at TEXT,
    granted_by TEXT NOT NULL,
    reason     TEXT NOT NULL,
    granted_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

CREATE TABLE tidegate_tokens (
    id         TEXT PRIMARY KEY,
    hash       BLOB NOT NULL,
    principal  TEXT NOT NULL,
    roles      TEXT NOT NULL DEFAULT '[]',
    groups     TEXT NOT NULL DEFAULT '[]',
    created_by TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    expires_at TEXT,
    revoked_at TEXT
);

CREATE TABLE tidegate_audit (
    id        TEXT PRIMARY KEY,
    at        TEXT NOT NULL,
    principal TEXT NOT NULL,
    action    TEXT NOT NULL,
    feed      TEXT,
    allowed   INTEGER NOT NULL,
    columns   TEXT NOT NULL DEFAULT '[]',
    rows      TEXT,
    why       TEXT NOT NULL,
    origin    TEXT NOT NULL,
    trace_id  TEXT,
    node      TEXT NOT NULL
);

CREATE INDEX tidegate_audit_at ON tidegate_audit (at);

CREATE TABLE tidegate_salt (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    salt BLOB NOT NULL
);
