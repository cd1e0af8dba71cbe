"""`skycore report`: a ledger is counted in one pass, and its report data become a page."""
