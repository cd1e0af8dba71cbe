"""Whether to try again, after how long, and until when.  Pure; the random number is injected.

Rules:

* A message is tried again only if `outcomes` calls it safe to resend.  Anything else is for the
  caller to decide.
* No try begins when the time of its message is nearly over: it would end in doubt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..errors import SkycoreError
from .outcomes import meaning_of

FIRST_PAUSE: Final = 0.5  # seconds, doubled with every try
DOUBLINGS: Final = 4  # and then no more: 8 seconds are the longest

# What is left for an answer: a share of the timeout, and of a long one these seconds.
_SHARE_FOR_AN_ANSWER: Final = 0.2
_FOR_AN_ANSWER: Final = 1.0


def latest_start(deadline: float, timeout: float) -> float:
    """Return the time after which no try of a message begins that has `timeout` in all."""
    return deadline - min(_FOR_AN_ANSWER, _SHARE_FOR_AN_ANSWER * timeout)


def pause_before_retry(
    error: SkycoreError, *, tries: int, max_attempts: int, chance: Callable[[], float]
) -> float | None:
    """Return the seconds to wait before the next try; None if there is to be none.

    `tries` is how many there were.  The pause is exponential with full jitter, so that many
    clients that failed together do not come back together.
    """
    if tries >= max_attempts or not meaning_of(error).safe_to_resend:
        return None
    return FIRST_PAUSE * 2.0 ** min(tries - 1, DOUBLINGS) * chance()
