-- A view that was there before the feeds.
SELECT kind, spent, purchases FROM reporting.spent_by_kind ORDER BY kind;
