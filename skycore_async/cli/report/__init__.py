"""`skycore report`: a ledger's counters gathered, drawn and put on a page."""
