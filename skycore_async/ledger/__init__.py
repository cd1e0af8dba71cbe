"""What was to be sent, what came of it, and what postbacks said of it.

`model` has the values.  `rules`, `settlement` and `opt_outs` decide, and know no storage.
`commands` are what a ledger can be told and asked; `execution` runs a group of them over a
`store`.  `sqlite` and `postgres` are the stores, and the ledgers over them.
"""
