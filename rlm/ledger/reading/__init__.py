"""The reading side of the ledger: the content of Redis as plain values; nothing is changed."""
