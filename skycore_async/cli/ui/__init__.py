"""What the commands share: output for people and programs, and where a ledger is."""
