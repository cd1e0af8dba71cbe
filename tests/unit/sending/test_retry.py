"""Whether to try again: a table of errors and tries, with the longest pause of each."""

from __future__ import annotations

import random

import pytest

from skycore_async import (
    InvalidMessage,
    NotSent,
    OutcomeUnknown,
    Rejected,
    SendingHalted,
    SkycoreError,
    Throttled,
)
from skycore_async.sending.retry import latest_start, pause_before_retry

NOT_SENT = NotSent("refused")
THROTTLED = Throttled("too fast", code="E106", retry_after=60)


@pytest.mark.parametrize(
    ("error", "tries", "max_attempts", "longest"),
    [
        (NOT_SENT, 1, 3, 0.5),
        (NOT_SENT, 2, 3, 1.0),
        (NOT_SENT, 3, 3, None),
        (NOT_SENT, 4, 3, None),
        (NOT_SENT, 1, 1, None),
        (NOT_SENT, 4, 9, 4.0),
        (NOT_SENT, 5, 9, 8.0),
        (NOT_SENT, 6, 9, 8.0),
        (NOT_SENT, 10**6, 10**7, 8.0),
        (THROTTLED, 1, 3, 0.5),  # for retry_after, the limiter makes everyone wait
        (THROTTLED, 3, 3, None),
        (SendingHalted("the account was refused"), 1, 3, None),
        (OutcomeUnknown("no answer"), 1, 3, None),
        (OutcomeUnknown("HTTP 503", http_status=503), 1, 3, None),
        (Rejected.of(code="E104"), 1, 3, None),
        (Rejected.of(code="E621"), 1, 3, None),
        (Rejected.of(code=None), 1, 3, None),
        (InvalidMessage("is empty", field="text"), 1, 3, None),
    ],
)
def test_only_what_is_proven_not_sent_is_tried_again(
    error: SkycoreError, tries: int, max_attempts: int, longest: float | None
) -> None:
    """Only a NotSent is tried again, after a random pause up to a bound that doubles."""

    def pause(chance: float) -> float | None:
        return pause_before_retry(
            error, tries=tries, max_attempts=max_attempts, chance=lambda: chance
        )

    bounds = (None, None, None) if longest is None else (0.0, longest / 2, longest)
    assert (pause(0.0), pause(0.5), pause(1.0)) == bounds


def test_clients_that_failed_together_come_back_apart() -> None:
    """The pauses of many clients are spread over their whole range."""
    chance = random.Random(6).random
    pauses = [
        pause_before_retry(NOT_SENT, tries=5, max_attempts=9, chance=chance) or 0.0
        for _ in range(1000)
    ]
    in_each_second = [sum(int(pause) == second for pause in pauses) for second in range(8)]
    assert min(in_each_second) > 80


@pytest.mark.parametrize(("timeout", "left"), [(86400, 1.0), (30, 1.0), (5, 1.0), (0.5, 0.1)])
def test_some_time_is_left_for_an_answer(timeout: float, left: float) -> None:
    """No try begins in the last second, or the last fifth of a short timeout."""
    assert latest_start(100_000, timeout) == pytest.approx(100_000 - left)
