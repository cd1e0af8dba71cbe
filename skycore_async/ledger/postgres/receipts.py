"""Postbacks in PostgreSQL: kept once, placed with their message, and settling doubt.

Strategy: a notification is written first, and then the submission of its tracking
id, which is there if an answer named it before.  Numbers at which doubts may
be settled are gathered, and looked at last in the transaction.

Rules:

* Any two that are about one submission do it one after the other: each writes
  its row, and what it goes by was read after that.
* So do any two that change what settles a doubt at a number: each writes first,
  then locks the number's undecided messages, and then looks.  What misses each
  other all the same is found by whoever looks for the forsaken next.
* Rows are written in the sorted order.  Where the database finds a deadlock all
  the same, the transaction is begun anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from ...notifications import Notification
from ...postgres.schema import Connection
from ..group_commit import PendingCommand
from ..opt_outs import OptOut, opt_out_of
from ..settlement import (
    Doubt,
    StoredNotification,
    UnmatchedSubmission,
    derive_state,
    event_of,
    match_doubts,
)
from ..sqlite.reading import EVENT, columns_of
from .reading import PostgresReading, event

_RECORD: Final = f"""
INSERT INTO skycore.events ({EVENT})
SELECT {EVENT}
FROM unnest(%b::bytea[], %b::text[], %b::text[], %b::text[], %b::float8[], %b::float8[],
    %b::text[], %b::text[], %b::text[]) WITH ORDINALITY AS given ({EVENT}, place)
ORDER BY place
ON CONFLICT (identity) DO NOTHING
RETURNING identity
"""
_SUBMITTED: Final = """
INSERT INTO skycore.submissions AS known (tracking_id, recipient)
SELECT DISTINCT ON (tracking_id) tracking_id, recipient
FROM unnest(%b::text[], %b::text[]) AS given (tracking_id, recipient)
ORDER BY tracking_id, recipient
ON CONFLICT (tracking_id)
    DO UPDATE SET recipient = coalesce(known.recipient, excluded.recipient)
RETURNING tracking_id, message
"""
_MARK: Final = """
INSERT INTO skycore.opt_outs (number, out, at) VALUES (%s, %s, %s)
ON CONFLICT (number) DO UPDATE SET out = excluded.out, at = excluded.at
WHERE excluded.at >= opt_outs.at
"""
# What nobody alive is sending: its holder has let its time run out, or has left.
_FORSAKEN: Final = """
UPDATE skycore.messages SET state = 'in_doubt'
WHERE state = 'sending' AND NOT EXISTS (
    SELECT 1 FROM skycore.holders WHERE id = holder AND alive_until > clock_timestamp())
RETURNING key, recipient
"""
_UNSETTLED: Final = """
SELECT DISTINCT recipient
FROM skycore.messages JOIN skycore.submissions AS stray USING (recipient)
WHERE state IN ('sending', 'in_doubt') AND stray.message IS NULL
"""


class Receipts(PostgresReading):
    """The steps of a ledger over `connection` that take postbacks in, and settle doubt."""

    def __init__(
        self, connection: Connection, *, clock: Callable[[], float], settle_within: float
    ) -> None:
        super().__init__(connection)
        self._clock = clock
        self._settle_within = settle_within
        self._unsettled: set[str] = set()
        self.touched: set[str] = set()

    def record(self, together: Sequence[PendingCommand]) -> None:
        """Write notifications, each once, and place them where their message is known."""
        received = self._clock()
        kept: dict[bytes, tuple[StoredNotification, Notification]] = {}
        for notification in (each for waiting in together for each in waiting.step.arguments[0]):
            kept_as = event_of(notification, received=received)
            kept.setdefault(kept_as.identity, (kept_as, notification))
        rows = self._execute(_RECORD, _columns(kept_as for kept_as, _ in kept.values()))
        new = [kept[bytes(identity)] for (identity,) in rows]
        self._submitted([kept_as for kept_as, _ in new if kept_as.tracking_id is not None])
        for _, notification in new:
            if opt_out := opt_out_of(notification, received=received):
                self._mark(opt_out)

    def _submitted(self, events: Collection[StoredNotification]) -> None:
        """Place events with the submissions that they are of."""
        if not events:
            return
        rows = self._execute(
            _SUBMITTED,
            ([event.tracking_id for event in events], [event.to for event in events]),
        ).fetchall()
        self._tell([message for _, message in rows if message is not None])
        strays = {tracking_id for tracking_id, message in rows if message is None}
        self._unsettled.update(
            event.to for event in events if event.tracking_id in strays and event.to is not None
        )

    def _tell(self, messages: Sequence[int]) -> None:
        """Bring messages' states up to their notifications."""
        if not messages:
            return
        rows = self._execute(
            "SELECT id, key, tracking_id FROM skycore.messages WHERE id = ANY(%s)",
            (list(messages),),
        ).fetchall()
        events = self._events(messages)
        told = {id_: derive_state(events.get(id_, ())) for id_, _, _ in rows}
        self._execute(
            "UPDATE skycore.messages SET state = given.state, reason = given.reason"
            " FROM unnest(%b::bigint[], %b::text[], %b::text[]) AS given (id, state, reason)"
            " WHERE messages.id = given.id",
            (
                list(told),
                [state.value for state, _ in told.values()],
                [reason for _, reason in told.values()],
            ),
        )
        for _, key, tracking_id in rows:
            self.touched.update((key, tracking_id))

    def settle_all(self) -> None:
        """Settle what can be at the numbers that this transaction was about."""
        recipients, self._unsettled = sorted(self._unsettled), set()
        for recipient in recipients:
            self._settle(recipient)

    def _settle(self, recipient: str) -> None:
        rows = self._execute(
            "SELECT id, sender, began, state FROM skycore.messages"
            " WHERE state IN ('sending', 'in_doubt') AND recipient = %s ORDER BY id FOR UPDATE",
            (recipient,),
        )
        doubts = [
            Doubt(id=id_, from_=sender, began=began, under_way=state == "sending")
            for id_, sender, began, state in rows
        ]
        if all(doubt.under_way for doubt in doubts):
            return
        pairs = match_doubts(doubts, self._strays(recipient), within=self._settle_within)
        for message, tracking_id in pairs:
            self._execute(
                "UPDATE skycore.messages SET tracking_id = %s, settled_by = 'postback',"
                " code = NULL, info = NULL, http_status = NULL WHERE id = %s",
                (tracking_id, message),
            )
            self._execute(
                "UPDATE skycore.submissions SET message = %s WHERE tracking_id = %s",
                (message, tracking_id),
            )
        self._tell([message for message, _ in pairs])

    def _strays(self, recipient: str) -> list[UnmatchedSubmission]:
        rows = self._execute(
            f"SELECT {EVENT} FROM skycore.events WHERE recipient = %s AND tracking_id IN"
            " (SELECT tracking_id FROM skycore.submissions WHERE message IS NULL)",
            (recipient,),
        )
        events: dict[str, list[StoredNotification]] = {}
        for known in map(event, rows):
            events.setdefault(str(known.tracking_id), []).append(known)
        return [
            UnmatchedSubmission(tracking_id=id_, events=about) for id_, about in events.items()
        ]

    def mark(self, number: str, *, out: bool) -> None:
        """Mark or unmark a number now."""
        self._mark(OptOut(number=number, out=out, at=self._clock()))

    def _mark(self, word: OptOut) -> None:
        # The last word counts, in whichever order the words arrive.
        self._execute(_MARK, (word.number, word.out, word.at))

    def _opted_out(self, numbers: Sequence[str]) -> set[str]:
        rows = self._execute(
            "SELECT number FROM skycore.opt_outs WHERE out AND number = ANY(%s)", (list(numbers),)
        )
        return {number for (number,) in rows}

    def doubt_the_forsaken(self) -> None:
        """Take what nobody alive is sending for in doubt, and settle what can be."""
        for key, recipient in self._execute(_FORSAKEN).fetchall():
            self.touched.add(key)
            self._unsettled.add(recipient)
        self._unsettled.update(recipient for (recipient,) in self._execute(_UNSETTLED))


def _columns(events: Iterable[StoredNotification]) -> tuple[list[Any], ...]:
    rows = [columns_of(event) for event in events]
    return tuple(map(list, zip(*rows, strict=True))) if rows else tuple([] for _ in range(9))
