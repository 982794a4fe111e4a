-- The ten users with the highest totals over all types.
SELECT user_id, sum(total_amount) AS total, sum(transaction_count) AS transactions
FROM dwh_user_transaction_totals
GROUP BY user_id
ORDER BY total DESC, user_id
LIMIT 10;
