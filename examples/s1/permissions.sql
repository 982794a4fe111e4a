-- Who may read what: a row for each user, as the database had it before. It is read live: see
-- `governance.sources` in tidegate.yaml.
CREATE TABLE permissions (
    user_name TEXT    PRIMARY KEY,
    role      TEXT    NOT NULL,           -- admin, analyst or viewer
    can_read  INTEGER NOT NULL DEFAULT 1
);

INSERT INTO permissions (user_name, role, can_read) VALUES
    ('root', 'admin',   1),
    ('ada',  'analyst', 1),
    ('bob',  'viewer',  1),
    ('eve',  'analyst', 0);
