"""`skycore report`: a ledger counted in one pass, and the page that its report data make."""
