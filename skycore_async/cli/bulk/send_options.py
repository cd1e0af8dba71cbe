"""What was asked for that concerns the sending of a file, and not its rows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import attrs

from ...client import SkycoreClient
from ...ledger.sqlite.ledger import SQLiteLedger
from ...ledger.sqlite.opt_out_list import OptOutList
from ...limits.local import RateLimiter
from ...runtime.secret import Secret
from ...sending.hours import ANY_TIME, Clock, SendingHours, utc_now
from ...transports.choice import Road
from .ledger_asked_about import LedgerCounts

if TYPE_CHECKING:
    from .listening import Listening


@attrs.frozen(kw_only=True)
class SendOptions:
    """How to send: what the client takes, and how to show it."""

    client: dict[str, Any]
    rate: float | None = None
    api_key: Secret | None = None
    transport: Road = "fast"
    limit: int | None = None
    opt_outs: OptOutList | None = None
    full_name: str = ""  # of the ledger, for the list
    resend_in_doubt: bool = False
    resends_once: bool = False
    known: LedgerCounts  # what the ledger had when somebody was asked
    # Told now and then, and in the end, how many messages it has.
    note_messages: Callable[[int], object] = lambda _count: None
    settle: bool = False
    listening: Listening | None = None
    start: datetime | None = None
    hours: SendingHours = ANY_TIME
    clock: Clock = utc_now
    live: bool = False

    def client_over(self, ledger: SQLiteLedger, on_throttle: Callable[[], None]) -> SkycoreClient:
        """Return the client that sends, and records in a ledger; each throttle answer is told."""
        return SkycoreClient(
            **self.client,
            rate=_ToldLimiter(self.rate, on_throttle),
            api_key=None if self.api_key is None else self.api_key.reveal(),
            transport=self.transport,
            ledger=ledger,
        )


class _ToldLimiter(RateLimiter):
    def __init__(self, rate: float | None, on_throttle: Callable[[], None]) -> None:
        super().__init__(rate)
        self._on_throttle = on_throttle

    def slow_down(self, *, started: float, retry_after: float | None = None) -> None:
        super().slow_down(started=started, retry_after=retry_after)
        self._on_throttle()
