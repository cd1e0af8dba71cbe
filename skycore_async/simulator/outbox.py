"""The postbacks still to be posted, and when, by the provider's rules.  No I/O.

* A message's postbacks are posted one after another, `PAUSE` apart; the next
  one does not wait for a repetition of the one before.
* A postback that was not answered with HTTP 200 is posted again after
  `REPEAT_AFTER`, at most `REPEATS` times, and then given up.
* With bundling, the pending postbacks are posted together every `BUNDLE_EVERY`, up
  to 300 at a time, and repeated together.

All intervals are in seconds and multiplied by a scale.  Pure: the caller passes
the time, posts the parcel that `take` returns, and calls `settle` with the answer.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from .postbacks import MAX_BUNDLE, Postback

PAUSE: Final = 1.0
REPEAT_AFTER: Final = 300.0
REPEATS: Final = 5
BUNDLE_EVERY: Final = 60.0
HTTP_OK: Final = 200


@attrs.frozen(kw_only=True)
class Parcel:
    """One HTTP POST to make: a postback, or a bundle of them.

    `attempt` counts from 1.  `following` are the postbacks of the same message
    that come after it, and `on_posted` is called when the last of a message's
    postbacks was posted for the first time.
    """

    postbacks: tuple[Postback, ...]
    attempt: int = 1
    following: tuple[Postback, ...] = ()
    on_posted: tuple[Callable[[], None], ...] = ()


class Outbox:
    """The pending postbacks, and when the next one is due."""

    def __init__(self, *, time_scale: float, bundling: bool = False) -> None:
        self.pending = 0
        self._scale = time_scale
        self._bundling = bundling
        self._unbundled: deque[Parcel] = deque()
        # None stands for the next bundle, which is put together when it is due.
        self._due: list[tuple[float, int, Parcel | None]] = []
        self._order = itertools.count()

    def add(
        self,
        postbacks: tuple[Postback, ...],
        now: float,
        *,
        on_posted: Callable[[], None] = lambda: None,
    ) -> None:
        """Add the postbacks of a message, one or more, in their order."""
        self.pending += len(postbacks)
        whole = Parcel(postbacks=postbacks[:1], following=postbacks[1:], on_posted=(on_posted,))
        if not self._bundling:
            self._push(whole, now + PAUSE * self._scale)
            return
        if not self._unbundled:
            self._push(None, now + BUNDLE_EVERY * self._scale)
        self._unbundled.extend(_one_by_one(whole))

    def take(self, now: float) -> Parcel | None:
        """Return the parcel to post at `now`; None if none is due."""
        if not self._due or self._due[0][0] > now:
            return None
        _, _, parcel = heapq.heappop(self._due)
        return parcel or self._bundle(now)

    def wait(self, now: float) -> float:
        """Return the seconds until a parcel is due; infinity if none is pending."""
        return max(self._due[0][0] - now, 0.0) if self._due else math.inf

    def settle(self, parcel: Parcel, status: int | None, now: float) -> None:
        """Record that `parcel` was posted and answered with `status`; None for no answer."""
        if status != HTTP_OK and parcel.attempt <= REPEATS:
            again = Parcel(postbacks=parcel.postbacks, attempt=parcel.attempt + 1)
            self._push(again, now + REPEAT_AFTER * self._scale)
        else:
            self.pending -= len(parcel.postbacks)
        if parcel.following:
            rest = parcel.following
            after = attrs.evolve(parcel, postbacks=rest[:1], following=rest[1:])
            self._push(after, now + PAUSE * self._scale)
        else:
            for on_posted in parcel.on_posted:
                on_posted()

    def clear(self) -> None:
        """Forget everything that is pending."""
        self.pending = 0
        self._unbundled.clear()
        self._due.clear()

    def _push(self, parcel: Parcel | None, due: float) -> None:
        heapq.heappush(self._due, (due, next(self._order), parcel))

    def _bundle(self, now: float) -> Parcel:
        parcels = [self._unbundled.popleft() for _ in range(min(MAX_BUNDLE, len(self._unbundled)))]
        if self._unbundled:
            self._push(None, now)
        return Parcel(
            postbacks=tuple(postback for parcel in parcels for postback in parcel.postbacks),
            on_posted=tuple(call for parcel in parcels for call in parcel.on_posted),
        )


def _one_by_one(parcel: Parcel) -> Iterator[Parcel]:
    """Yield the postbacks of a message one by one; the last one has `on_posted`."""
    *others, last = parcel.postbacks + parcel.following
    for postback in others:
        yield Parcel(postbacks=(postback,))
    yield Parcel(postbacks=(last,), on_posted=parcel.on_posted)
