"""What was intended, what came of it, what was receipted.

`base` has the values and what is decided of sending, `receipts` and `opt_outs`
what is decided of postbacks: they know no storage.  `store` has the SQL, and
`memory` and `sqlite` are the ledgers for one process.
"""
