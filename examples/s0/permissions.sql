-- Who may read which part of the lake, as the database had it before. It is read live: see
-- `governance.sources` in tidegate.yaml.
CREATE TABLE dwh_datalake_permissions (
    permission_id bigint       GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_name     varchar(100) NOT NULL,
    dataset       varchar(100) NOT NULL,  -- a folder of data_lake/, or ALL
    permission    varchar(20)  NOT NULL,  -- READ
    is_active     boolean      NOT NULL DEFAULT true,
    valid_until   timestamptz,
    UNIQUE (user_name, dataset, permission)
);

INSERT INTO dwh_datalake_permissions (user_name, dataset, permission, is_active, valid_until) VALUES
    ('admin',   'ALL',                           'READ', true,  NULL),
    ('analyst', 'transaction_stream_anonymized', 'READ', true,  NULL),
    ('analyst', 'windowed_transaction_totals',   'READ', true,  NULL),
    ('support', 'transaction_log',               'READ', false, NULL),
    ('auditor', 'transaction_log',               'READ', true,  '2025-12-31T00:00:00Z');
