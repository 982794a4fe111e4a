-- Totals by payment method, with the average that the table itself computes.
SELECT payment_method, total_amount, transaction_count, round(average, 2) AS average
FROM reporting.payment_method_totals
ORDER BY payment_method;
