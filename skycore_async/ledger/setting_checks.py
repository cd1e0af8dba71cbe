"""How settings that are numbers are checked, where a ledger or a receiver is made.

Rule: what is no number would fail only once it is needed, and what then is under way with it.
"""

from __future__ import annotations

from ..errors import ConfigurationError


def check_counts(**counts: int) -> None:
    """Raise ConfigurationError where one of these settings is no int above 0."""
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise ConfigurationError(f"{name}: {count!r} is no int above 0")


def check_seconds(**times: float) -> None:
    """Raise ConfigurationError where one of these settings is no number of seconds; 0 is one."""
    for name, seconds in times.items():
        if not isinstance(seconds, float | int) or not seconds >= 0:
            raise ConfigurationError(f"{name}: {seconds!r} is no number of seconds")


def check_positive(**times: float) -> None:
    """Raise ConfigurationError where one of these is no number above 0, as infinity is."""
    for name, seconds in times.items():
        if not isinstance(seconds, float | int) or not seconds > 0:
            raise ConfigurationError(f"{name}: {seconds!r} is not more than 0")
