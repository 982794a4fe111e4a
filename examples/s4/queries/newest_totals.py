"""Totals by payment method, out of the newest snapshot."""

import deltalake

found = deltalake.DeltaTable("data_lake/tables/payment_method_totals").to_pandas()
print(found.sort_values("payment_method").to_string(index=False))
