"""What `skycore bulk --cluster` does after the yes: load the campaign, and return.

Rules:

* Either all rows that are messages are loaded, or none is.
* A message is loaded as it is to be sent: it keeps its short code and campaign reference,
  whatever the settings of the workers.
* Doubts show in the rejects, in what is printed, and in the exit code.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import attrs

from ...campaigns.campaigns import Loaded, load
from ...ledger.model import MessageState
from ...ledger.postgres.campaign_messages import count_doubts, states_of
from ...messages import SMS
from ...postgres.schema import Connection
from ...protocol.numbers import may_be_same
from ...runtime.secret import Secret
from ...sending.hours import SendingHours
from ..ui.campaigns import say_what_stops_it
from ..ui.database import with_connection
from ..ui.marks import IN_DOUBT, mark_of
from ..ui.output import Exit, emit, say
from ..ui.times import time_of
from .doubtful_rows import reconsidered
from .judged_rows import JudgedRows
from .rejects import Rejects
from .rows import JudgedRow, MessageRow, RejectedRow, RejectionKind

_AT_A_TIME: Final = 500  # rows whose keys the ledger is asked for in one step

# The advice also holds where the commit succeeded and only its answer was lost.
_AGAIN: Final = "; all was loaded or nothing: run it again, which loads what is not there"

_Known = tuple[MessageState | None, str | None, str]  # a state, what settled it, and the number
_UNKNOWN: Final[_Known] = (None, None, "")


def load_campaign(
    dsn: Secret,
    name: str,
    rows: JudgedRows,
    rejects: Rejects,
    *,
    start: datetime | None,
    hours: SendingHours | None,
    numbers: dict[str, Any],
    as_json: bool,
) -> int:
    """Load the rows that are messages, write the others to `rejects`, and return the exit code.

    `numbers` is what the estimate says of the recipients' numbers, for programs.
    """
    counted = _MessageRows(rows, rejects)

    def loaded_by(connection: Connection) -> tuple[Loaded, int]:
        messages = counted.read(connection)
        unread = _keys_as_written(rows) if any(_keys_as_written(rows)) else None
        loaded = load(connection, name, messages, starts_at=start, hours=hours, unread=unread)
        return loaded, count_doubts(connection, name)

    loaded, doubts = with_connection(dsn, loaded_by, advice=_AGAIN)
    rejects.close()
    doubts += counted.left_in_doubt
    if as_json:
        what = {"campaign": name, **attrs.asdict(loaded), "in_doubt": doubts}
        when = {"starts_at": start, "hours": None if hours is None else str(hours)}
        path = str(rejects.path) if rejects.count else None
        emit({**what, **when, "rejects": path, **numbers})
    else:
        _say_counts(loaded, doubts, rejects)
    _say_what_follows(loaded, doubts, start, hours)
    if doubts:
        return Exit.IN_DOUBT
    return Exit.NOT_ALL_WELL if rejects.count else Exit.DONE


def _say_counts(loaded: Loaded, doubts: int, rejects: Rejects) -> None:
    """Print how many rows are loaded, and the other counts that are not zero."""
    counts = (("mended", loaded.mended), ("known before", loaded.known), ("in doubt", doubts))
    for said, count in (("loaded", loaded.new), *((said, n) for said, n in counts if n)):
        say(f"{said:<13} {count:,}")
    if rejects.count:
        say(f"{'to mend':<13} {rejects.count:,} rows in {rejects.path}")


def _say_what_follows(
    loaded: Loaded, doubts: int, start: datetime | None, hours: SendingHours | None
) -> None:
    """Print how the loaded messages are sent, and that messages in doubt are not."""
    if doubts:
        say(
            f"{doubts:,} may have been sent. What is in doubt is never sent again on its own:"
            " `skycore settle DSN` asks Skycore's own report which were sent. Under another key,"
            " or in another campaign, whoever has it already would get it twice.",
            err=True,
        )
    if loaded.state == "running":
        then = "" if start is None else f" from {time_of(start)} on"
        then += "" if hours is None else f" between {hours}"
        what = "them" if loaded.new or loaded.mended else "what is left of it"
        say(
            f"`skycore worker DSN` sends {what}{then}, `skycore status DSN` tells of it.", err=True
        )
    else:
        say_what_stops_it(loaded.state)


def _keys_as_written(rows: JudgedRows) -> Iterator[str]:
    """Yield the keys that messages would have without --country."""
    for row in rows:
        if isinstance(row, MessageRow) and (message := row.as_written) is not None:
            yield message.key or ""


class _MessageRows:
    """The messages among judged rows; reading them writes the other rows to `rejects`."""

    def __init__(self, rows: JudgedRows, rejects: Rejects) -> None:
        self._rows = rows
        self._rejects = rejects
        self.left_in_doubt = 0

    def read(self, connection: Connection) -> Iterator[tuple[SMS, ...]]:
        """Yield messages; those to one number under several keys come together."""
        rows = iter(self._rows)
        while some := list(itertools.islice(rows, _AT_A_TIME)):
            # No message has a key with NUL in it, and PostgreSQL takes none.
            keys = [key for row in some for key in _keys_to_ask(row) if key and "\0" not in key]
            known = states_of(connection, keys)
            for judged in (_reconsidered(row, known) for row in some):
                if isinstance(judged, MessageRow):
                    yield _together(judged, known)
                else:
                    state, *_ = known.get(judged.key or "", _UNKNOWN)
                    self._reject(judged, judged.marked(mark_of(state)))

    def _reject(self, row: RejectedRow, reason: str) -> None:
        self._rejects.write(row.row, reason)
        self.left_in_doubt += reason.startswith(IN_DOUBT)


def _keys_to_ask(row: JudgedRow) -> list[str | None]:
    if isinstance(row, RejectedRow):
        return [row.key]
    return [each.message.key for each in (row, *row.others)] if row.others else []


def _together(row: MessageRow, known: Mapping[str, _Known]) -> tuple[SMS, ...]:
    """Return the messages to one number; first the one that went out already, if any did."""
    messages = (row.message, *(other.message for other in row.others))
    return tuple(sorted(messages, key=lambda each: not _is_out(each, known)))


def _is_out(message: SMS, known: Mapping[str, _Known]) -> bool:
    state, _, to = known.get(message.key or "", _UNKNOWN)
    # Another row may have sent to another number under this key; a pruned message has no number.
    return mark_of(state) != "" and (not to or may_be_same(to, message.to))


def _reconsidered(row: JudgedRow, known: Mapping[str, _Known]) -> JudgedRow:
    if isinstance(row, RejectedRow) and row.kind is RejectionKind.IN_DOUBT:
        state, settled_by, _ = known.get(row.key or "", _UNKNOWN)
        return reconsidered(row, state, settled_by)
    return row
