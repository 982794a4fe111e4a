-- The ten users who spent most, by name.
SELECT u.user_id, u.user_name, sum(f.total_amount_eur) AS euro, sum(f.transaction_count) AS transactions
FROM fact_user_transaction_summary_eur f
JOIN users u USING (user_id)
GROUP BY u.user_id, u.user_name
ORDER BY euro DESC, u.user_id
LIMIT 10;
