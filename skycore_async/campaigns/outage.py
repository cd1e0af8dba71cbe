"""When an outage stops a campaign: many messages in a row in doubt, over all workers.

Strategy: each worker counts its doubts in a row, and adds them to the campaign's row in the
database a few at a time.  The worker that brings the count there to `LIMIT` halts the campaign
for all.  This module decides what to report, without I/O.

Rules:

* A message with a clear answer, accepted or refused, starts the count anew.  A message that was
  provably not sent changes nothing, as it costs nothing.
* While messages get through, nothing is written, except once a chunk, to clear the doubts that
  other workers counted.
* A worker whose messages are all in doubt stops the campaign, even if other workers' messages
  get through: it would put every message it takes in doubt.
* A report that is repeated after a lost connection counts twice, which stops a campaign a little
  sooner.
"""

from __future__ import annotations

from typing import Final

import attrs

from ..messages import Failed, Outcome
from ..sending.outcomes import meaning_of

LIMIT: Final = 200  # messages in a row that may have been sent, or not
REPORT_EVERY: Final = 10  # doubts, after which a worker reports them


@attrs.frozen(kw_only=True)
class DoubtReport:
    """A worker's doubts in a campaign since its last report.

    `new` messages are in doubt, the last of `in_a_row` at this worker; `error` is that of the last
    one.  `got_through` says that a message before these got a clear answer.
    """

    new: int
    in_a_row: int
    got_through: bool
    error: str


@attrs.define
class DoubtStreak:
    """One worker's count of the messages of one campaign in doubt in a row."""

    in_a_row: int = 0
    _new: int = 0
    _got_through: bool = False
    _is_counted: bool = False  # in the database, by this worker
    _error: str = ""

    def add(self, outcome: Outcome) -> None:
        """Take an outcome into account."""
        if outcome.recorded:
            return
        meaning = meaning_of(outcome)
        if meaning.gets_through:
            self.in_a_row = self._new = 0
            self._got_through = True
        elif isinstance(outcome, Failed) and meaning.in_doubt:
            self.in_a_row += 1
            self._new += 1
            self._error = str(outcome.error)

    @property
    def is_due(self) -> bool:
        """Whether to report now: more doubts, or that the reported ones are over."""
        return self._new >= REPORT_EVERY or (self._got_through and self._is_counted)

    @property
    def has_report(self) -> bool:
        """Whether there is anything to report at the end of a chunk."""
        return self._new > 0 or self._got_through

    def report(self) -> DoubtReport:
        """Return the report of what came since the last one."""
        report = DoubtReport(
            new=self._new,
            in_a_row=self.in_a_row,
            got_through=self._got_through,
            error=self._error,
        )
        self._new, self._got_through, self._is_counted = 0, False, self.in_a_row > 0
        return report
