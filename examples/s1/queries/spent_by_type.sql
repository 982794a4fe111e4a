-- Total spent, by type of transaction.
SELECT json_extract(data, '$.TRANSACTION_TYPE') AS type,
       round(sum(json_extract(data, '$.AMOUNT_USD')), 2) AS total_spent
FROM TRANSACTIONS_USD
GROUP BY type
ORDER BY total_spent DESC;
