"""Many machines, one PostgreSQL: they share a ledger, a rate and the work.

It takes the extra `postgres`.  What must never happen twice is decided by a row
in the database: every intent is a compare-and-set, and who was taken for dead
is refused when it wakes.
"""

from __future__ import annotations

from ..runtime.extras import missing

try:
    import psycopg as _psycopg  # noqa: F401 - every room of this one needs it
except ImportError as error:
    raise missing("postgres", error) from error
