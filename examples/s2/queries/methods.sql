-- Every payment method known, with its totals and the products last paid with it.
SELECT m.payment_method, f.total_amount, f.transaction_count, count(p.product_id) AS products
FROM payment_methods m
LEFT JOIN fact_payment_method_totals f USING (payment_method)
LEFT JOIN fact_product_purchase_counts p USING (payment_method)
GROUP BY m.payment_method, f.total_amount, f.transaction_count
ORDER BY m.payment_method;
