"""Whether what a caller gives for a ledger is one.  No I/O."""

from __future__ import annotations

from ..errors import ConfigurationError


def check_ledger(given: object, *calls: str) -> None:
    """Raise ConfigurationError where what is given for a ledger does not have these calls."""
    if isinstance(given, type) or not all(callable(getattr(given, name, None)) for name in calls):
        # What it is instead is not shown: a DSN has a password in it.
        raise ConfigurationError(
            f"ledger: a {type(given).__name__} is no ledger: give one such as"
            " SQLiteLedger(path) or PostgresLedger(dsn)"
        )
