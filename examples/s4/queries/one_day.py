"""Transactions of 15 January by status: only that day's files are opened."""

import pandas as pd

day = [("year", "=", 2026), ("month", "=", 1), ("day", "=", 15)]
found = pd.read_parquet("data_lake/streams/transaction_flattened", filters=day)
print(found.groupby("status").size().to_string())
