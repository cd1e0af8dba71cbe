"""A ledger over SQLite: in a file, in memory, or read beside its writer."""
