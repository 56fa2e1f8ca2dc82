"""The reading side of the ledger: what is in Redis, as plain values; nothing is changed."""
