-- The topics of the five systems, as ksqlDB derives them from one stream of purchases.
--
-- This is a definition of the topics, in ksqlDB's own language: names, keys, windows and values are those
-- that the feeds in s0 to s4 read, and `tidegate generate` publishes the same for those who have no
-- ksqlDB. Tests compare it with the feeds and with the generator; no ksqlDB has carried it out here.
--
-- One function is not ksqlDB's own: SHA256_HEX(text), the hash of a text as 64 hexadecimal digits, which
-- whoever runs this adds as a function of their own (ksqlDB's MASK hides a user and tells no two apart).
-- A table's row is deleted by a tombstone: a record with the row's key and no value, which ksqlDB writes
-- when a HAVING no longer holds. None stands here; feeds take them from wherever they come.

SET 'auto.offset.reset' = 'earliest';

-- What the producer sends, keyed by the transaction's id. Event time is the transaction's own, and all
-- that is derived from it keeps it as Kafka's timestamp.
CREATE STREAM transaction_log (
    RECORD_KEY VARCHAR KEY,
    TRANSACTION_ID VARCHAR,
    `TIMESTAMP` VARCHAR,
    USER_ID VARCHAR,
    USER_NAME VARCHAR,
    PRODUCT_ID VARCHAR,
    AMOUNT DECIMAL(18, 2),
    CURRENCY VARCHAR,
    TRANSACTION_TYPE VARCHAR,
    STATUS VARCHAR,
    LOCATION STRUCT<CITY VARCHAR, COUNTRY VARCHAR>,
    PAYMENT_METHOD VARCHAR,
    PRODUCT_CATEGORY VARCHAR,
    QUANTITY INTEGER,
    SHIPPING_ADDRESS STRUCT<STREET VARCHAR, ZIP VARCHAR, CITY VARCHAR, COUNTRY VARCHAR>,
    DEVICE_INFO STRUCT<OS VARCHAR, BROWSER VARCHAR, IP_ADDRESS VARCHAR>,
    CUSTOMER_RATING INTEGER,
    DISCOUNT_CODE VARCHAR,
    TAX_AMOUNT DECIMAL(18, 2)
) WITH (
    KAFKA_TOPIC = 'transaction_log', PARTITIONS = 4, KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON',
    TIMESTAMP = '`TIMESTAMP`', TIMESTAMP_FORMAT = 'yyyy-MM-dd''T''HH:mm:ss.SSSSSSX'
);

-- What a currency is worth in euro: reference, written once. As many partitions as the log, to be joined.
CREATE TABLE currencies (
    CURRENCY VARCHAR PRIMARY KEY,
    EUR_RATE DECIMAL(7, 5)
) WITH (
    KAFKA_TOPIC = 'currencies', PARTITIONS = 4, KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
);

-- Streams: s0, s2, s3, s4. The id is in the key alone.

CREATE STREAM transaction_stream WITH (
    KAFKA_TOPIC = 'transaction_stream', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT
    TRANSACTION_ID,
    `TIMESTAMP`,
    USER_ID,
    USER_NAME,
    PRODUCT_ID,
    AMOUNT,
    CURRENCY,
    TRANSACTION_TYPE,
    STATUS,
    LOCATION,
    PAYMENT_METHOD,
    PRODUCT_CATEGORY,
    QUANTITY,
    SHIPPING_ADDRESS,
    DEVICE_INFO,
    CUSTOMER_RATING,
    DISCOUNT_CODE,
    TAX_AMOUNT
FROM transaction_log
PARTITION BY TRANSACTION_ID
EMIT CHANGES;

CREATE STREAM transaction_flattened WITH (
    KAFKA_TOPIC = 'transaction_flattened', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT
    TRANSACTION_ID,
    `TIMESTAMP`,
    USER_ID,
    USER_NAME,
    PRODUCT_ID,
    AMOUNT,
    CURRENCY,
    TRANSACTION_TYPE,
    STATUS,
    LOCATION->CITY AS LOCATION_CITY,
    LOCATION->COUNTRY AS LOCATION_COUNTRY,
    PAYMENT_METHOD,
    PRODUCT_CATEGORY,
    QUANTITY,
    SHIPPING_ADDRESS->STREET AS SHIPPING_STREET,
    SHIPPING_ADDRESS->ZIP AS SHIPPING_ZIP,
    SHIPPING_ADDRESS->CITY AS SHIPPING_CITY,
    SHIPPING_ADDRESS->COUNTRY AS SHIPPING_COUNTRY,
    DEVICE_INFO->OS AS DEVICE_OS,
    DEVICE_INFO->BROWSER AS DEVICE_BROWSER,
    DEVICE_INFO->IP_ADDRESS AS DEVICE_IP_ADDRESS,
    CUSTOMER_RATING,
    DISCOUNT_CODE,
    TAX_AMOUNT
FROM transaction_stream
EMIT CHANGES;

-- With the user hashed and the amount in euro and dollars, a dollar being 0.92345 euro as in `currencies`.
-- No feed reads it; it holds what must not be shown, and what is shown is taken from it.
CREATE STREAM transaction_converted WITH (
    KAFKA_TOPIC = 'transaction_converted', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT
    f.TRANSACTION_ID AS TRANSACTION_ID,
    f.`TIMESTAMP` AS `TIMESTAMP`,
    f.USER_ID AS USER_ID,
    f.USER_NAME AS USER_NAME,
    SHA256_HEX(f.USER_ID) AS USER_ID_HASHED,
    f.PRODUCT_ID AS PRODUCT_ID,
    f.AMOUNT AS AMOUNT,
    f.CURRENCY AS CURRENCY,
    f.TRANSACTION_TYPE AS TRANSACTION_TYPE,
    f.STATUS AS STATUS,
    CAST(ROUND(CAST(f.AMOUNT AS DECIMAL(12, 2)) * c.EUR_RATE, 2) AS DECIMAL(18, 2)) AS AMOUNT_EUR,
    CAST(ROUND(CAST(f.AMOUNT AS DECIMAL(12, 2)) * c.EUR_RATE / 0.92345, 2) AS DECIMAL(18, 2)) AS AMOUNT_USD,
    f.LOCATION_CITY AS LOCATION_CITY,
    f.LOCATION_COUNTRY AS LOCATION_COUNTRY,
    f.PAYMENT_METHOD AS PAYMENT_METHOD,
    f.PRODUCT_CATEGORY AS PRODUCT_CATEGORY,
    f.QUANTITY AS QUANTITY,
    f.DEVICE_OS AS DEVICE_OS,
    f.DEVICE_BROWSER AS DEVICE_BROWSER,
    f.CUSTOMER_RATING AS CUSTOMER_RATING,
    f.DISCOUNT_CODE AS DISCOUNT_CODE,
    f.TAX_AMOUNT AS TAX_AMOUNT
FROM transaction_flattened f
JOIN currencies c ON f.CURRENCY = c.CURRENCY
PARTITION BY f.TRANSACTION_ID
EMIT CHANGES;

CREATE STREAM transaction_stream_anonymized WITH (
    KAFKA_TOPIC = 'transaction_stream_anonymized', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT
    TRANSACTION_ID,
    `TIMESTAMP`,
    USER_ID_HASHED,
    PRODUCT_ID,
    AMOUNT,
    CURRENCY,
    TRANSACTION_TYPE,
    STATUS,
    AMOUNT_EUR,
    LOCATION_CITY,
    LOCATION_COUNTRY,
    PAYMENT_METHOD,
    PRODUCT_CATEGORY,
    QUANTITY,
    DEVICE_OS,
    DEVICE_BROWSER,
    CUSTOMER_RATING,
    DISCOUNT_CODE,
    TAX_AMOUNT
FROM transaction_converted
EMIT CHANGES;

CREATE STREAM transaction_stream_blacklisted WITH (
    KAFKA_TOPIC = 'transaction_stream_blacklisted', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT
    TRANSACTION_ID,
    `TIMESTAMP`,
    USER_ID,
    USER_NAME,
    PRODUCT_ID,
    AMOUNT,
    CURRENCY,
    TRANSACTION_TYPE,
    STATUS,
    LOCATION_CITY,
    LOCATION_COUNTRY,
    DEVICE_IP_ADDRESS
FROM transaction_flattened
WHERE LOCATION_CITY IN ('London', 'Ålesund')
EMIT CHANGES;

-- Streams: s1, and what s4 has archived. No name, no address.

CREATE STREAM transactions_secure WITH (
    KAFKA_TOPIC = 'TRANSACTIONS_SECURE', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT
    TRANSACTION_ID,
    `TIMESTAMP`,
    USER_ID_HASHED,
    PRODUCT_ID,
    AMOUNT,
    CURRENCY,
    TRANSACTION_TYPE,
    STATUS,
    LOCATION_CITY,
    LOCATION_COUNTRY,
    PAYMENT_METHOD,
    PRODUCT_CATEGORY,
    QUANTITY
FROM transaction_converted
EMIT CHANGES;

CREATE STREAM transactions_usd WITH (
    KAFKA_TOPIC = 'TRANSACTIONS_USD', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT
    TRANSACTION_ID,
    USER_ID_HASHED,
    TRANSACTION_TYPE,
    AMOUNT_USD
FROM transaction_converted
EMIT CHANGES;

CREATE STREAM transactions_blacklisted WITH (
    KAFKA_TOPIC = 'TRANSACTIONS_BLACKLISTED', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT *
FROM transactions_secure
WHERE LOCATION_CITY IN ('London', 'Ålesund')
EMIT CHANGES;

CREATE STREAM transactions_failed WITH (
    KAFKA_TOPIC = 'TRANSACTIONS_FAILED', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT *
FROM transactions_secure
WHERE STATUS = 'failed'
EMIT CHANGES;

CREATE STREAM transactions_pending WITH (
    KAFKA_TOPIC = 'TRANSACTIONS_PENDING', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT *
FROM transactions_secure
WHERE STATUS = 'pending'
EMIT CHANGES;

CREATE STREAM transactions_processing WITH (
    KAFKA_TOPIC = 'TRANSACTIONS_PROCESSING', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT *
FROM transactions_secure
WHERE STATUS = 'processing'
EMIT CHANGES;

CREATE STREAM transactions_completed WITH (
    KAFKA_TOPIC = 'TRANSACTIONS_COMPLETED', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT *
FROM transactions_secure
WHERE STATUS = 'completed'
EMIT CHANGES;

-- Tables. One key column is the key's bytes; several are a JSON object, which KAFKA cannot hold.

CREATE TABLE user_transaction_summary WITH (
    KAFKA_TOPIC = 'user_transaction_summary', KEY_FORMAT = 'JSON', VALUE_FORMAT = 'JSON'
) AS SELECT
    USER_ID,
    TRANSACTION_TYPE,
    SUM(AMOUNT) AS TOTAL_AMOUNT,
    COUNT(*) AS TRANSACTION_COUNT
FROM transaction_flattened
GROUP BY USER_ID, TRANSACTION_TYPE
EMIT CHANGES;

CREATE TABLE user_transaction_totals WITH (
    KAFKA_TOPIC = 'user_transaction_totals', KEY_FORMAT = 'JSON', VALUE_FORMAT = 'JSON'
) AS SELECT
    USER_ID,
    TRANSACTION_TYPE,
    SUM(AMOUNT) AS TOTAL_AMOUNT,
    COUNT(*) AS TRANSACTION_COUNT
FROM transaction_flattened
GROUP BY USER_ID, TRANSACTION_TYPE
EMIT CHANGES;

CREATE TABLE user_transaction_summary_eur WITH (
    KAFKA_TOPIC = 'user_transaction_summary_eur', KEY_FORMAT = 'JSON', VALUE_FORMAT = 'JSON'
) AS SELECT
    USER_ID,
    TRANSACTION_TYPE,
    LATEST_BY_OFFSET(USER_NAME) AS USER_NAME,
    SUM(AMOUNT_EUR) AS TOTAL_AMOUNT_EUR,
    COUNT(*) AS TRANSACTION_COUNT
FROM transaction_converted
GROUP BY USER_ID, TRANSACTION_TYPE
EMIT CHANGES;

CREATE TABLE payment_method_totals WITH (
    KAFKA_TOPIC = 'payment_method_totals', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT
    PAYMENT_METHOD,
    SUM(AMOUNT) AS TOTAL_AMOUNT,
    COUNT(*) AS TRANSACTION_COUNT
FROM transaction_flattened
GROUP BY PAYMENT_METHOD
EMIT CHANGES;

CREATE TABLE product_purchase_counts WITH (
    KAFKA_TOPIC = 'product_purchase_counts', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT
    PRODUCT_ID,
    LATEST_BY_OFFSET(PRODUCT_CATEGORY) AS PRODUCT_CATEGORY,
    LATEST_BY_OFFSET(PAYMENT_METHOD) AS LAST_PAYMENT_METHOD,
    COUNT(*) AS PURCHASE_COUNT,
    SUM(QUANTITY) AS TOTAL_QUANTITY
FROM transaction_flattened
GROUP BY PRODUCT_ID
EMIT CHANGES;

CREATE TABLE user_spending_by_type WITH (
    KAFKA_TOPIC = 'USER_SPENDING_BY_TYPE', KEY_FORMAT = 'JSON', VALUE_FORMAT = 'JSON'
) AS SELECT
    USER_ID_HASHED,
    TRANSACTION_TYPE,
    SUM(AMOUNT_USD) AS TOTAL_SPENT
FROM transactions_usd
GROUP BY USER_ID_HASHED, TRANSACTION_TYPE
EMIT CHANGES;

-- Windowed tables: behind the key's bytes stands the window's start, eight bytes of epoch milliseconds.

CREATE TABLE spend_last_five_min_by_type WITH (
    KAFKA_TOPIC = 'SPEND_LAST_FIVE_MIN_BY_TYPE', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT
    TRANSACTION_TYPE,
    SUM(AMOUNT_USD) AS TOTAL_SPENT
FROM transactions_usd
WINDOW TUMBLING (SIZE 5 MINUTES)
GROUP BY TRANSACTION_TYPE
EMIT CHANGES;

CREATE TABLE windowed_transaction_totals WITH (
    KAFKA_TOPIC = 'windowed_transaction_totals', KEY_FORMAT = 'KAFKA', VALUE_FORMAT = 'JSON'
) AS SELECT
    TRANSACTION_TYPE,
    SUM(AMOUNT) AS TOTAL_AMOUNT,
    COUNT(*) AS TRANSACTION_COUNT
FROM transaction_flattened
WINDOW TUMBLING (SIZE 1 HOUR)
GROUP BY TRANSACTION_TYPE
EMIT CHANGES;
