-- Totals by day and type, out of the hours.
SELECT (window_start AT TIME ZONE 'UTC')::date AS day, transaction_type,
       sum(total_amount) AS total, sum(transaction_count) AS transactions
FROM dwh_windowed_transaction_totals
GROUP BY day, transaction_type
ORDER BY day, transaction_type;
