"""What the tables of a ledger can be asked, whatever database they are in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Generic, Protocol, TypeVar

import attrs

from ..notifications import Notification
from .model import Delivery, MessageRecord, MessageState, StoredNotification, Summary
from .opt_outs import OptOut

T_co = TypeVar("T_co", covariant=True)


@attrs.frozen
class Page(Generic[T_co]):
    """Some of many rows; `last` is the id of the last one where there may be more, else None."""

    rows: Sequence[T_co]
    last: int | None


class LedgerReader(Protocol):
    """What the tables can be asked."""

    def delivery(self, *, plain_id: str | None, key: str | None) -> Delivery | None:
        """Return what is known of one message, by the plain form of its tracking id or its key."""
        ...

    def deliveries(self, state: MessageState | None, after: int) -> Page[Delivery]:
        """Return a page of messages beyond the id `after`, in the order of their ids."""
        ...

    def unplaced(self, after: int) -> Page[Notification]:
        """Return a page of notifications that say what became of a message, and have none."""
        ...

    def summary(self) -> Summary:
        """Count what there is."""
        ...

    def opted_out(self, numbers: Collection[str]) -> set[str]:
        """Return which of these numbers may not be sent to."""
        ...

    def opt_outs(self, numbers: Collection[str]) -> dict[str, OptOut]:
        """Return the last word of these numbers on being sent to, of those that said any."""
        ...

    def texts(self, after: int) -> Page[StoredNotification]:
        """Return a page of notifications that are about no message, as texts from handsets are."""
        ...

    def messages(self, keys: Collection[str]) -> dict[str, MessageRecord]:
        """Return the messages that are there, by their keys."""
        ...
