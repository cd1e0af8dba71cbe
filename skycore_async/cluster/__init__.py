"""Many machines, one PostgreSQL: they share a ledger, a pace and the work.

It takes the extra `postgres`.  What must never happen twice is decided by a row
in the database: every intent is a compare-and-set, and who was taken for dead
is refused when it wakes.
"""
