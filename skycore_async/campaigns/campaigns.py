"""Campaigns: their messages loaded in chunks, started and stopped for all workers at once.

Strategy: plain synchronous steps over a connection.  A campaign is a row with a
state; its messages are in chunks, which `chunks` hands to workers.

Rules:

* A load is one transaction: a campaign exists with all its messages or not at all, and a load
  that died leaves nothing behind.
* Loading the same messages again changes nothing, except that messages which were left out are
  tried again.  New messages are added at the end.  A message with other content replaces the
  loaded one if that cannot have gone out; otherwise the load is refused, since the ledger would
  refuse the message later.
* Messages to one number under several keys are given as one group, of which one is loaded: the
  one that was loaded before, in whatever order they come.
* Each load, the first or a later one, may set when the campaign starts and within which hours it
  is sent.  That changes nothing for messages already sent.
* Of a message that was pruned only the key is known: that it is loaded again with other content
  goes unnoticed, and it is not sent again.
* A state changes by the table below.  A cancelled campaign stays cancelled, and a campaign that
  is cancelled while it is being loaded is not loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final

import attrs
import psycopg

from ..errors import CampaignError
from ..ledger.postgres.pruning import NO_ROW
from ..ledger.postgres.reader import named
from ..ledger.pruning import pruned_name
from ..messages import SMS
from ..postgres.schema import Connection
from ..sending.hours import SendingHours, utc_now
from .changed_keys import refuse_reread
from .hours import check_zone, check_zones, hours_of, set_hours
from .left_out import LeftOut
from .message_rows import rows_of, standing
from .outage import LIMIT, DoubtReport
from .replace_content import ChangedContent

CHUNK: Final = 500  # messages

_LOADING: Final = 0x534C  # two that load one campaign do it one after the other

_LOADED: Final = f"SELECT key, message FROM skycore_loaded WHERE {named('key')}"  # noqa: S608

# An operator's actions: the states in which each is possible, and the state it leads to.
_ACTIONS: Final = {
    "pause": ({"running", "paused"}, "paused"),
    "resume": ({"running", "paused", "halted"}, "running"),
    "cancel": ({"running", "paused", "halted", "cancelled"}, "cancelled"),
}
# Nothing is written while nothing is in doubt; the count of a stopped campaign is kept.
_COUNT_DOUBTS: Final = """
UPDATE skycore.campaigns SET in_doubt_in_a_row = CASE WHEN state <> 'running'
    THEN in_doubt_in_a_row WHEN %(got_through)s THEN %(in_a_row)s
    ELSE greatest(in_doubt_in_a_row + %(new)s, %(in_a_row)s) END
WHERE name = %(name)s AND (in_doubt_in_a_row > 0 OR %(new)s > 0)
RETURNING in_doubt_in_a_row
"""


@attrs.frozen(kw_only=True)
class CampaignState:
    """Whether a campaign is running, paused, halted (and why, and whether now) or cancelled.

    `is_outage` says that it is halted because many messages in a row were in doubt.
    """

    state: str
    reason: str | None
    is_outage: bool
    is_halted_now: bool = False


@attrs.frozen(kw_only=True)
class Loaded:
    """The result of a load: how many messages are new, replaced, and were loaded already."""

    new: int
    mended: int
    known: int
    state: str


# Loading.


def load(
    connection: Connection,
    name: str,
    messages: Iterable[SMS | Sequence[SMS]],
    *,
    starts_at: datetime | None = None,
    hours: SendingHours | None = None,
    unread: Iterable[str] | None = None,
    size: int = CHUNK,
) -> Loaded:
    """Load messages, each with its key, into a campaign, which is created if there is none.

    Of each group one message is loaded: the first that was loaded before, or else the first.  No
    message is sent before `starts_at` or outside of `hours`; if either is not given, it stays as
    it was.  `unread` are the keys that messages would have if their numbers had not been read as
    ones of a country.

    Raises CampaignError if the campaign is cancelled, a key was loaded with other content
    that may have gone out, a key is there from before its number was read, or a number has no
    time zone that the hours could be of; nothing is loaded then.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LOADING, name))
        campaign, number = _opened(connection, name)
        if unread is not None:
            refuse_reread(connection, name, unread)
        counted = _Counted(messages, hours or hours_of(connection, campaign))
        left_out = LeftOut(connection, campaign)
        changed = ChangedContent(connection, campaign)
        fresh = rows_of(counted.firsts())
        if number:
            fresh = _fresh(connection, campaign, counted, left_out, changed, size=size)
        new = _add_chunks(connection, campaign, fresh, after=number, size=size)
        changed.replace()
        left_out.look_again()
        if hours is not None:
            # After the replacements, which may mend a number that had no time zone.
            check_zones(connection, campaign, hours, until=number, at=utc_now())
            set_hours(connection, campaign, hours)
        if starts_at is not None:  # last, so that a worker which halts it waits for no load
            connection.execute(
                "UPDATE skycore.campaigns SET starts_at = %s WHERE id = %s", (starts_at, campaign)
            )
        state = _state_to_load(connection, campaign, name)  # which others may have changed
    known = counted.count - changed.count - new
    return Loaded(new=new, mended=changed.count, known=known, state=state)


def _add_chunks(
    connection: Connection,
    campaign: int,
    rows: Iterator[tuple[str, str]],
    *,
    after: int,
    size: int,
) -> int:
    """Add messages in chunks, numbered `after` the last one, and return how many they were."""
    number, new = after, 0
    while chunk := list(islice(rows, size)):
        number += 1
        keys, messages = zip(*chunk, strict=True)
        connection.execute(
            "INSERT INTO skycore.chunks (campaign, number, keys, messages)"
            " VALUES (%s, %s, %s, %s)",
            (campaign, number, list(keys), list(messages)),
        )
        new += len(chunk)
    return new


def _opened(connection: Connection, name: str) -> tuple[int, int]:
    """Return a campaign's id, and the number of its last chunk."""
    if not name.strip():
        raise CampaignError("a campaign needs a name: give one with --campaign")
    try:
        connection.execute(
            "INSERT INTO skycore.campaigns (name, state) VALUES (%s, 'running')"
            " ON CONFLICT (name) DO NOTHING",
            (name,),
        )
    except psycopg.errors.ProgramLimitExceeded:  # so that there is none of this name
        raise CampaignError(
            f"the campaign's name is too long, with {len(name):,} characters; one of up to 600"
            " always fits: give a shorter one with --campaign"
        ) from None
    campaign, number = _row(
        connection,
        "SELECT id, coalesce((SELECT max(number) FROM skycore.chunks"
        " WHERE campaign = campaigns.id), 0) FROM skycore.campaigns WHERE name = %s",
        (name,),
    )
    _state_to_load(connection, campaign, name)
    return campaign, number


def _state_to_load(connection: Connection, campaign: int, name: str) -> str:
    """Return the state of a campaign; raises CampaignError if it is cancelled."""
    (state,) = _row(connection, "SELECT state FROM skycore.campaigns WHERE id = %s", (campaign,))
    if state == "cancelled":
        raise CampaignError(
            f"the campaign {name!r} was cancelled, and stays so; what was sent of it would be"
            " sent again under another name: see it with `skycore status`"
        )
    return str(state)


class _Counted:
    """Count messages as they are read, and check that each has a time zone if `hours` need one."""

    def __init__(self, messages: Iterable[SMS | Sequence[SMS]], hours: SendingHours) -> None:
        self._messages = messages
        self._hours = hours
        self._now = utc_now()
        self.count = 0

    def __iter__(self) -> Iterator[Sequence[SMS]]:
        for message in self._messages:
            self.count += 1
            together = (message,) if isinstance(message, SMS) else message
            check_zone(together[0], self._hours, self._now)
            yield together

    def firsts(self) -> Iterator[SMS]:
        """Return the first of each group."""
        return (together[0] for together in self)


def _fresh(
    connection: Connection,
    campaign: int,
    messages: _Counted,
    left_out: LeftOut,
    content: ChangedContent,
    *,
    size: int,
) -> Iterator[tuple[str, str]]:
    """Return the messages that are new to the campaign, and note those with changed content."""
    connection.execute(
        "CREATE TEMP TABLE skycore_loaded ON COMMIT DROP AS"
        " SELECT key, message, id AS chunk"
        " FROM skycore.chunks, unnest(keys, messages) AS row (key, message)"
        " WHERE campaign = %s",
        (campaign,),
    )
    connection.execute("CREATE INDEX ON skycore_loaded (key)")
    connection.execute("ANALYZE skycore_loaded")
    given = iter(messages)
    while together := list(islice(given, size)):
        known = _known(connection, [message.key or "" for each in together for message in each])
        some = list(rows_of(standing(several, known) for several in together))
        changed = {key: row for key, row in some if known.get(key, row) not in {row, NO_ROW}}
        if changed:
            content.note(changed, known)
        left_out.see([key for key, _ in some if key in known])
        yield from ((key, row) for key, row in some if key not in known)


def _known(connection: Connection, keys: list[str]) -> dict[str | None, str]:
    """Return the campaign's rows under these keys, `NO_ROW` for a message that was pruned."""
    known: dict[str | None, str] = dict(connection.execute(_LOADED, {"names": keys}).fetchall())
    if NO_ROW in known.values():
        known.update({key: NO_ROW for key in keys if pruned_name(key) in known})
    return known


# Starting and stopping: by the operator, or by a worker that cannot go on.


def change(connection: Connection, action: str, name: str) -> str:
    """Pause, resume or cancel a campaign, and return its state before that.

    Raises CampaignError if there is none, or its state does not allow the change.
    """
    possible_in, leads_to = _ACTIONS[action]
    with connection.transaction():
        campaign, state = locked_campaign(connection, name)
        if state not in possible_in:
            raise CampaignError(f"the campaign {name!r} is {state}: it cannot {action}")
        connection.execute(
            "UPDATE skycore.campaigns SET state = %s, reason = NULL, in_doubt_in_a_row = 0"
            " WHERE id = %s",
            (leads_to, campaign),
        )
    return state


def locked_campaign(connection: Connection, name: str) -> tuple[int, str]:
    """Return the id and the state of a campaign, locked until the transaction ends.

    Raises CampaignError if there is none.
    """
    row = connection.execute(
        "SELECT id, state FROM skycore.campaigns WHERE name = %s FOR NO KEY UPDATE", (name,)
    ).fetchone()
    if row is None:
        raise CampaignError(f"there is no campaign {name!r}")
    campaign, state = row
    return campaign, state


def halt(connection: Connection, name: str, reason: str) -> bool:
    """Stop a campaign for all workers, with the reason; return False if it was not running."""
    halted = connection.execute(
        "UPDATE skycore.campaigns SET state = 'halted', reason = %s"
        " WHERE name = %s AND state = 'running'",
        (reason, name),
    )
    return halted.rowcount > 0


def report_doubts(connection: Connection, name: str, report: DoubtReport) -> CampaignState | None:
    """Add a worker's report to the campaign's doubts in a row, and halt it if they are many.

    Returns the state of the campaign after that, None if it has no doubts to count.
    """
    with connection.transaction():
        row = connection.execute(_COUNT_DOUBTS, {"name": name, **attrs.asdict(report)}).fetchone()
        if row is None:
            return None
        (in_a_row,) = row
        is_halted_now = False
        if in_a_row >= LIMIT:
            is_halted_now = halt(
                connection,
                name,
                f"{in_a_row} messages in a row may have been sent or not, as none got a clear"
                f" answer: {report.error}",
            )
        state, reason = _row(
            connection, "SELECT state, reason FROM skycore.campaigns WHERE name = %s", (name,)
        )
    is_outage = state == "halted" and in_a_row >= LIMIT
    return CampaignState(
        state=state, reason=reason, is_outage=is_outage, is_halted_now=is_halted_now
    )


def halted(connection: Connection, names: Collection[str]) -> dict[str, CampaignState]:
    """Return which of these campaigns are halted."""
    rows = connection.execute(
        "SELECT name, reason, in_doubt_in_a_row FROM skycore.campaigns"
        " WHERE state = 'halted' AND name = ANY(%s)",
        (list(names),),
    )
    return {
        name: CampaignState(state="halted", reason=reason, is_outage=in_a_row >= LIMIT)
        for name, reason, in_a_row in rows
    }


def _row(connection: Connection, query: Any, arguments: Sequence[object]) -> Any:
    return connection.execute(query, arguments).fetchone()
