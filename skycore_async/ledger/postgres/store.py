"""A ledger's steps as statements for many at once.

Strategy: the steps of a group are sorted by what they are, and each kind is a
statement or two over arrays, however many there are.  What may be decided by
arithmetic on rows is decided in `ledger.base` and `ledger.receipts`, as for every
ledger; what must not happen twice is decided by the statement that changes it.

Rules:

* An intent is an insert, or a compare-and-set on the row that is there.  It
  bears a number, its attempt, by which its holder knows its own again after a
  lost connection, and by which nobody else's outcome is taken for its own.
* Under a fence, a chunk and an epoch, an intent is written only while they hold.
  What was not sent is to be sent with its chunk: who was taken for dead can be the
  one who learns it, of a doubt, after others were done with the chunk.
* Where two meet at a row or a number, the second waits, looks again and sees the
  first: what it goes by was read after it got its lock.
* `touched` has the keys and tracking ids that were changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, LiteralString

from ...errors import LedgerError, RecipientOptedOut, SkycoreError
from ...postgres.schema import Connection
from ..commands import LedgerCommand, UnderWay
from ..group_commit import PendingCommand
from ..model import MessageState, SendIntent, Submission
from ..opt_outs import OptOut
from ..rules import known_or_conflict
from ..settlement import SETTLE_WITHIN
from ..sqlite.reading import raw_column, submission_in
from .receipts import Receipts

_BEGIN: Final = """
INSERT INTO skycore.messages
    (key, content, recipient, sender, state, began, holder, attempt)
SELECT key, content, recipient, sender, 'sending', began, %s, attempt
FROM unnest(%b::text[], %b::bytea[], %b::text[], %b::text[], %b::float8[], %b::bigint[],
    %b::boolean[]) AS given (key, content, recipient, sender, began, attempt, is_willing)
WHERE is_willing
    OR NOT EXISTS (SELECT 1 FROM skycore.opt_outs WHERE number = recipient AND out)
ORDER BY key
ON CONFLICT (key) DO NOTHING
RETURNING attempt
"""
_BEGIN_AGAIN: Final = """
UPDATE skycore.messages
SET doubted = state = 'in_doubt', state = 'sending', began = %s, ended = NULL, code = NULL,
    info = NULL, http_status = NULL, holder = %s, attempt = %s
WHERE key = %s
"""
_FINISH: Final = """
WITH given AS (
    SELECT * FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::text[], %b::text[], %b::text[],
        %b::int[], %b::text[])
    AS given (key, attempt, state, tracking_id, code, info, http_status, raw)
), done AS (
    UPDATE skycore.messages AS message
    SET ended = %s, tracking_id = given.tracking_id, code = given.code, info = given.info,
        http_status = given.http_status, raw = given.raw,
        -- That the second was not accepted says nothing of the first.
        state = CASE WHEN doubted AND given.state <> 'accepted' THEN 'in_doubt'
            ELSE given.state END
    FROM given
    WHERE message.key = given.key AND message.holder = %s AND message.attempt = given.attempt
        AND message.state IN ('sending', 'in_doubt')
    RETURNING message.id, message.key, recipient, message.state, message.tracking_id,
        message.code
), submitted AS (
    INSERT INTO skycore.submissions AS submission (tracking_id, message, recipient)
    SELECT tracking_id, id, recipient FROM done WHERE tracking_id IS NOT NULL
    ORDER BY tracking_id
    ON CONFLICT (tracking_id) DO UPDATE SET message = excluded.message
    RETURNING tracking_id, xmax <> 0 AS has_come
)
SELECT id, key, recipient, state, code, coalesce(has_come, false), EXISTS (
    SELECT 1 FROM skycore.submissions AS stray
    WHERE stray.message IS NULL AND stray.recipient = done.recipient)
FROM done LEFT JOIN submitted USING (tracking_id)
"""
_HOLDS: Final = """
SELECT chunks.id, epoch, campaigns.state
FROM skycore.chunks JOIN skycore.campaigns ON campaigns.id = campaign
WHERE chunks.id = ANY(%s)
ORDER BY chunks.id
FOR KEY SHARE OF chunks
"""
# In two statements, so that the second sees a chunk as whoever finished it has left it.
_KEEP: Final = "SELECT FROM skycore.chunks WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE"
_REOPEN: Final = """
UPDATE skycore.chunks SET state = 'waiting', due = clock_timestamp()
WHERE id = ANY(%s) AND state = 'done'
"""


class Superseded(LedgerError):
    """The chunk is another worker's by now, or its campaign is not running."""


class PostgresStore(Receipts):
    """The steps of a ledger over `connection`, taken for `holder`.

    `clock` gives seconds since 1970.  A postback settles a doubt within
    `settle_within` seconds of its intent.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        holder: int,
        clock: Callable[[], float],
        settle_within: float = SETTLE_WITHIN,
    ) -> None:
        super().__init__(connection, clock=clock, settle_within=settle_within)
        self._holder = holder

    def take(self, group: Iterable[PendingCommand]) -> None:
        """Take the steps of a group, each kind of them together."""
        kinds: dict[str, list[PendingCommand]] = {}
        for waiting in group:
            waiting.result = waiting.error = None
            kinds.setdefault(waiting.step.name, []).append(waiting)
        for name, together in kinds.items():
            if at_once := _AT_ONCE.get(name):
                at_once(self, together)
            else:
                for waiting in together:
                    waiting.take(self)
        self.settle_all()

    def alive(self, _together: Sequence[PendingCommand]) -> None:
        """See to what those have left who are not alive any more."""
        self.doubt_the_forsaken()

    def lookup(self, together: Sequence[PendingCommand]) -> None:
        """Tell what came of messages before; None where they may be begun or are under way."""
        rows = self._rows([waiting.step.arguments[0].key for waiting in together])
        for waiting in together:
            row = rows.get(waiting.step.arguments[0].key)
            with _told(waiting):
                known = None if row is None else _known(waiting, row)
                is_under_way = known is not None and known.state is MessageState.SENDING
                waiting.result = None if is_under_way else known

    def lookup_many(
        self, intents: Sequence[SendIntent], *, resend_in_doubt: bool = False
    ) -> dict[str, Submission]:
        """Return what came of many messages before, by their keys; no conflict is raised."""
        settings = {"resend_in_doubt": resend_in_doubt}
        asked = [
            PendingCommand(LedgerCommand("lookup", (intent,), settings)) for intent in intents
        ]
        self.lookup(asked)
        return {each.step.arguments[0].key: each.result for each in asked if each.result}

    def begin(self, together: Sequence[PendingCommand]) -> None:
        """Write intents; or tell what came of them before, or why they may not be begun."""
        free = list(self._unfenced(together))
        intents: list[SendIntent] = [waiting.step.arguments[0] for waiting in free]
        rows = self._execute(
            _BEGIN,
            (
                self._holder,
                [intent.key for intent in intents],
                [intent.content for intent in intents],
                [intent.to for intent in intents],
                [intent.from_ for intent in intents],
                [intent.started_at for intent in intents],
                [waiting.step.settings["attempt"] for waiting in free],
                [waiting.step.settings["ignore_opt_out"] for waiting in free],
            ),
        )
        begun = {attempt for (attempt,) in rows}
        there = [each for each in free if each.step.settings["attempt"] not in begun]
        if there:
            self._begin_again(there)

    def _unfenced(self, together: Sequence[PendingCommand]) -> Iterator[PendingCommand]:
        """Return those whose fence holds, or that have none; the others are told."""
        fences = [waiting.step.settings.get("fence") for waiting in together]
        chunks = sorted({fence[0] for fence in fences if fence is not None})
        rows = self._execute(_HOLDS, (chunks,)) if chunks else ()
        holds = {(chunk, epoch): state for chunk, epoch, state in rows}
        for waiting, fence in zip(together, fences, strict=True):
            if fence is None or holds.get(fence) == "running":
                yield waiting
            else:
                said = f"its campaign is {holds[fence]}" if fence in holds else "it was taken over"
                waiting.error = Superseded(f"chunk {fence[0]} is not to be sent from here: {said}")

    def _begin_again(self, there: Sequence[PendingCommand]) -> None:
        """Begin what is there already and may be begun, and tell of the rest."""
        intents: dict[str, SendIntent] = {
            waiting.step.arguments[0].key: waiting.step.arguments[0] for waiting in there
        }
        rows = self._rows(list(intents), "ORDER BY key FOR UPDATE")
        opted_out = self._opted_out([intent.to for intent in intents.values()])
        for waiting in there:
            intent, settings = waiting.step.arguments[0], waiting.step.settings
            with _told(waiting):
                row = rows.get(intent.key)
                if row is None:  # it was refused where it would have been inserted
                    raise RecipientOptedOut("the number has opted out")
                if tuple(row[:2]) == (self._holder, settings["attempt"]):
                    continue  # it was begun by a transaction whose end was not heard of
                if known := _known(waiting, row):
                    if known.state is MessageState.SENDING:
                        raise UnderWay
                    waiting.result = known
                    continue
                if intent.to in opted_out and not settings["ignore_opt_out"]:
                    raise RecipientOptedOut("the number has opted out")
                attempt = settings["attempt"]
                self._execute(_BEGIN_AGAIN, (intent.started_at, self._holder, attempt, intent.key))
                rows[intent.key] = (None, None, intent.content, "sending", *[None] * 5)

    def finish(self, together: Sequence[PendingCommand]) -> None:
        """Write what came of messages that were begun, and place what was waiting for them."""
        given: list[Submission] = [waiting.step.arguments[1] for waiting in together]
        self._reopen(together)
        rows = self._execute(
            _FINISH,
            (
                [waiting.step.arguments[0] for waiting in together],
                [waiting.step.settings["attempt"] for waiting in together],
                [submission.state.value for submission in given],
                [submission.tracking_id for submission in given],
                [submission.code for submission in given],
                [submission.info for submission in given],
                [submission.http_status for submission in given],
                [raw_column(submission) for submission in given],
                self._clock(),
                self._holder,
            ),
        ).fetchall()
        self.touched.update(row[1] for row in rows)
        self._tell([id_ for id_, *_, has_come, _ in rows if has_come])
        for _, _, recipient, state, code, _, has_strays in rows:
            if code == "E114":
                self._mark(OptOut(number=recipient, out=True, at=self._clock()))
            if has_strays or state == "in_doubt":
                self._unsettled.add(recipient)

    def _reopen(self, together: Sequence[PendingCommand]) -> None:
        """Have chunks looked at again that were done before it was known what is not sent."""
        fences = [
            waiting.step.settings.get("fence")
            for waiting in together
            if waiting.step.arguments[1].state is MessageState.NOT_SENT
        ]
        if chunks := sorted({fence[0] for fence in fences if fence is not None}):
            self._execute(_KEEP, (chunks,))
            self._execute(_REOPEN, (chunks,))

    def _rows(self, keys: list[str], how: LiteralString = "") -> dict[str, Sequence[Any]]:
        """Return what is known of keys: holder, attempt, content, and the submission."""
        rows = self._execute(
            "SELECT key, holder, attempt, content, state, tracking_id, code, info, http_status,"
            f" raw FROM skycore.messages WHERE key = ANY(%s) {how}",
            (keys,),
        )
        return {row[0]: row[1:] for row in rows}


def _known(waiting: PendingCommand, row: Sequence[Any]) -> Submission | None:
    _holder, _attempt, content, *columns = row
    return known_or_conflict(
        waiting.step.arguments[0],
        bytes(content),
        submission_in(columns),
        resend_in_doubt=waiting.step.settings["resend_in_doubt"],
    )


@contextmanager
def _told(waiting: PendingCommand) -> Iterator[None]:
    """Keep for the caller what a step is meant to raise."""
    try:
        yield
    except (SkycoreError, UnderWay) as error:
        waiting.error = error


# The kinds of step that are taken together, by what they are called.
_AT_ONCE: Final[dict[str, Callable[[PostgresStore, Sequence[PendingCommand]], None]]] = {
    "lookup": PostgresStore.lookup,
    "begin": PostgresStore.begin,
    "finish": PostgresStore.finish,
    "record": PostgresStore.record,
    "alive": PostgresStore.alive,
}
