-- Who may do what with which feed. Denied is what no row allows, and what any row denies.
CREATE TABLE tidegate.permissions (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    principal  text        NOT NULL,  -- user:NAME, role:NAME, group:NAME, or * for everybody who is known
    feed       text        NOT NULL,  -- a name; * in it stands for any characters
    action     text        NOT NULL CHECK (action IN ('read', 'quarantine', 'replay', 'write', 'manage')),
    effect     text        NOT NULL DEFAULT 'allow' CHECK (effect IN ('allow', 'deny')),
    columns    jsonb,                 -- [name, ...]; null: all
    masks      jsonb,                 -- {column or path: null | hash | last4 | month | year, ...}
    predicate  text,                  -- a condition in SQL; null: all rows
    day_from   date,                  -- by event time, in UTC
    day_to     date,
    expires_at timestamptz,
    granted_by text        NOT NULL,
    reason     text        NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT now()
);

-- Bearer tokens: what they are is known to their holders alone.
CREATE TABLE tidegate.tokens (
    id         text        PRIMARY KEY,  -- the token's own first part
    hash       bytea       NOT NULL,     -- SHA-256 of the token
    principal  text        NOT NULL,     -- user:NAME
    roles      jsonb       NOT NULL DEFAULT '[]',
    groups     jsonb       NOT NULL DEFAULT '[]',
    created_by text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

-- What was asked for, and what became of it. Only ever added to; its own retention takes away what is old.
CREATE TABLE tidegate.audit (
    id        uuid        PRIMARY KEY,  -- made by the node, so that a row that is sent twice is one
    at        timestamptz NOT NULL,
    principal text        NOT NULL,
    action    text        NOT NULL,
    feed      text,
    allowed   boolean     NOT NULL,
    columns   jsonb       NOT NULL DEFAULT '[]',
    rows      text,                     -- which of them, in words
    why       text        NOT NULL,     -- the permission rows that decided, or what was missing
    origin    text        NOT NULL,     -- the address it came from, or the machine
    trace_id  text,
    node      text        NOT NULL
);

CREATE INDEX audit_at ON tidegate.audit (at);

-- What the masks' hashes begin with.
CREATE TABLE tidegate.salt (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    salt bytea   NOT NULL
);

-- Nodes hear of a change at once.
CREATE FUNCTION tidegate.permissions_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('tidegate_permissions', '');
    RETURN NULL;
END $$;

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tidegate.permissions
    FOR EACH STATEMENT EXECUTE FUNCTION tidegate.permissions_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tidegate.tokens
    FOR EACH STATEMENT EXECUTE FUNCTION tidegate.permissions_changed();
