"""Whether to try again, and after how long.  Pure; the random number is injected.

Only what is safe to send again, as `outcomes` has it, is ever tried again.
Everything else is the caller's to decide, or nobody's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..errors import SkycoreError
from .outcomes import meaning_of

FIRST_PAUSE: Final = 0.5  # seconds, doubled with every try
DOUBLINGS: Final = 4  # and then no more: 8 seconds are the longest


def pause_before_retry(
    error: SkycoreError, *, tries: int, max_attempts: int, chance: Callable[[], float]
) -> float | None:
    """Return the seconds to wait before the next try, or None for no other.

    `tries` is how many there were.  The pause is exponential with full jitter, which
    keeps many clients that failed together from coming back together.
    """
    if tries >= max_attempts or not meaning_of(error).safe_to_resend:
        return None
    return FIRST_PAUSE * 2.0 ** min(tries - 1, DOUBLINGS) * chance()
