"""Everything RLM keeps in Redis: the ledger, runs, dead letters, and the register of processes."""
