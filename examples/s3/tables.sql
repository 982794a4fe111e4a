-- What the database had before: names, types and columns that the feeds do not know stay as they are.
CREATE SCHEMA reporting;

CREATE TABLE reporting.customer_totals (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer   varchar(40) NOT NULL,
    kind       varchar(20) NOT NULL,
    spent      numeric(18, 2) NOT NULL CHECK (spent >= 0),
    purchases  bigint NOT NULL,
    discount   numeric(4, 2) NOT NULL DEFAULT 0,
    first_seen timestamptz NOT NULL DEFAULT now(),
    UNIQUE (customer, kind)
);

CREATE TABLE reporting.payment_method_totals (
    payment_method    text PRIMARY KEY,
    total_amount      numeric(18, 2),
    transaction_count bigint,
    average           numeric(18, 6) GENERATED ALWAYS AS (total_amount / NULLIF(transaction_count, 0)) STORED
);

CREATE VIEW reporting.spent_by_kind AS
    SELECT kind, sum(spent) AS spent, sum(purchases) AS purchases
    FROM reporting.customer_totals
    GROUP BY kind;

-- Who may read what. It is read live: see `governance.sources` in tidegate.yaml.
CREATE TABLE reporting.user_permissions (
    id           integer PRIMARY KEY,
    username     text NOT NULL,   -- or PUBLIC
    resource     text NOT NULL,   -- a table, RAW or ANONYMIZED for the lake's streams
    access       text NOT NULL,   -- SELECT; NONE denies it, whatever other rows say
    columns_only text[]           -- all where it is null
);

INSERT INTO reporting.user_permissions (id, username, resource, access, columns_only) VALUES
    (1, 'manager', 'customer_totals',       'SELECT', NULL),
    (2, 'manager', 'payment_method_totals', 'SELECT', NULL),
    (3, 'clerk',   'customer_totals',       'SELECT', '{kind,spent,purchases}'),
    (4, 'analyst', 'ANONYMIZED',            'SELECT', NULL),
    (5, 'PUBLIC',  'payment_method_totals', 'SELECT', NULL),
    (6, 'clerk',   'payment_method_totals', 'NONE',   NULL);
