-- The newest version kept of the totals by payment method.
SELECT _version, payment_method, total_amount, transaction_count
FROM fact_payment_method_totals_snapshot
ORDER BY payment_method;
