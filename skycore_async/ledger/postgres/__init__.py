"""A ledger in PostgreSQL, which many processes keep together."""

from ... import postgres as _postgres  # noqa: F401 - it names the extra where that is missing
