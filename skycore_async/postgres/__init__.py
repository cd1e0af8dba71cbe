"""The PostgreSQL connection and tables that the ledger, rate limit and campaigns share.

Needs the extra `postgres`.
"""

from __future__ import annotations

from ..runtime.extras import missing

try:
    import psycopg as _psycopg  # noqa: F401 - whatever imports this folder needs it
except ImportError as error:
    raise missing("postgres", error) from error
