"""The options of `skycore bulk` that concern the sending, and not the rows."""

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
from .confirmed_ledger import LedgerCounts

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
    ledger_name: str = ""  # by which the list of opt-outs knows the ledger
    resend_in_doubt: bool = False
    resends_once: bool = False
    known: LedgerCounts  # what the ledger had when the user confirmed
    # Called every few seconds, and at the end, with how many messages the ledger has.
    note_last_turn: Callable[[int], object] = lambda _turn: None
    settle: bool = False
    listening: Listening | None = None
    start: datetime | None = None
    hours: SendingHours = ANY_TIME
    clock: Clock = utc_now
    live: bool = False

    def client_over(self, ledger: SQLiteLedger, on_throttle: Callable[[], None]) -> SkycoreClient:
        """Return a client over a ledger; each throttle answer calls `on_throttle`."""
        return SkycoreClient(
            **self.client,
            rate=_ReportingLimiter(self.rate, on_throttle),
            api_key=None if self.api_key is None else self.api_key.reveal(),
            transport=self.transport,
            ledger=ledger,
        )


class _ReportingLimiter(RateLimiter):
    def __init__(self, rate: float | None, on_throttle: Callable[[], None]) -> None:
        super().__init__(rate)
        self._on_throttle = on_throttle

    def slow_down(self, *, started: float, retry_after: float | None = None) -> None:
        super().slow_down(started=started, retry_after=retry_after)
        self._on_throttle()
