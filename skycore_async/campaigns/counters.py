"""The outcomes that a worker counts: those of one chunk, and all of them.  No I/O.

Rules:

* A message that was refused before it was begun is in no ledger: its key is kept for the chunk.
* A chunk is stopped when many messages in a row do not get through: no other would either.
* Outcomes recorded before are counted when a worker first looks at their chunk, and only then.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

from ..codes import Verdict
from ..errors import KeyConflict, Rejected, SendingHalted
from ..ledger.model import UNDECIDED, MessageState
from ..messages import Accepted, Outcome
from ..sending.bulk import BulkSend
from ..sending.outcomes import StuckCounter, meaning_of
from .chunks import Chunk
from .hours import WaitingMessages

_STUCK: Final = 100  # messages in a row that do not get through


@attrs.define(kw_only=True)
class WorkerCounters:
    """What a worker did: messages by outcome, chunks done, campaigns halted.

    `halted` has the reasons by the names of the campaigns that it worked on, whoever halted
    them; `is_outage` says that one was halted for many messages in doubt.  `looked_at` has the
    ids of the chunks it looked at.
    """

    accepted: int = 0
    in_doubt: int = 0
    not_sent: int = 0
    refused: Counter[str] = attrs.field(factory=Counter)
    chunks: int = 0
    halted: dict[str, str] = attrs.field(factory=dict)
    is_outage: bool = False
    looked_at: set[int] = attrs.field(factory=set)


@attrs.define
class ChunkWork:
    """What is known about a chunk while its messages are sent."""

    chunk: Chunk
    bulk: BulkSend
    waiting: WaitingMessages
    counters: WorkerCounters
    left_out: dict[str, str] = attrs.field(factory=dict)
    stuck: StuckCounter = attrs.field(factory=lambda: StuckCounter(_STUCK))
    got_through: bool = False
    is_left: bool = False
    is_lost: bool = False
    error: SendingHalted | None = None
    was_looked_at: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.was_looked_at = self.chunk.id in self.counters.looked_at
        self.counters.looked_at.add(self.chunk.id)

    def record(self, outcome: Outcome) -> None:
        """Take an outcome into account."""
        counters = self.counters
        if outcome.recorded and self.was_looked_at:
            counters = WorkerCounters()  # it was counted at the first look
        meaning = meaning_of(outcome)
        self.got_through = self.got_through or bool(meaning.gets_through)
        self.stuck.add(outcome)
        if self.stuck.is_stuck:
            self.bulk.stop()
        if isinstance(outcome, Accepted):
            counters.accepted += 1
            return
        error = outcome.error
        if error.verdict is Verdict.PUT_OFF:
            self.waiting.add(outcome.message)
            return
        self.is_left = self.is_left or not (meaning.is_final or meaning.in_doubt)
        if error.verdict is Verdict.REFUSED_HERE:
            why = type(error).__name__
            if isinstance(error, KeyConflict):  # with what may have gone out, which is to be seen
                state = MessageState(error.state or MessageState.IN_DOUBT)
                why = f"{why}: the other message is {state}"
                counters.in_doubt += state in UNDECIDED
            self.left_out[outcome.message.key or ""] = why
            counters.refused[why] += 1
        elif meaning.in_doubt:
            counters.in_doubt += 1
        elif isinstance(error, Rejected):
            counters.refused[getattr(error, "code", None) or "no code"] += 1
        else:
            counters.not_sent += 1

    @property
    def put_off(self) -> list[str]:
        """The keys of messages outside of their hours; none if any other message is left."""
        return self.waiting.keys() if self._only_waits else []

    @property
    def _only_waits(self) -> bool:
        return self.waiting.are_any and not self.is_left and not self.stuck.is_stuck

    def pause(self, retry: float) -> float:
        """Return in how many seconds the chunk is due again, `retry` if something went wrong."""
        return self.waiting.seconds() if self._only_waits else retry

    @property
    def is_refused(self) -> bool:
        """Whether it is stopped by a refusal of the API that other messages would get as well."""
        return self.error is not None and isinstance(self.error.__cause__, Rejected)
