-- The ten users who spent most.
SELECT json_extract(data, '$.USER_ID_HASHED') AS user,
       round(sum(json_extract(data, '$.AMOUNT_USD')), 2) AS total_spent
FROM TRANSACTIONS_USD
GROUP BY user
ORDER BY total_spent DESC, user
LIMIT 10;
