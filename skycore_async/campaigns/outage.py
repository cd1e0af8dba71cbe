"""When an outage stops a campaign: many messages in a row in doubt, over all workers.

Strategy: each worker counts the doubts in a row that it meets, and adds them to the
campaign's row in the database a few at a time.  The worker that brings that row to
`LIMIT` halts the campaign for all.  What to report is decided here, without I/O.

Rules:

* A message that got a clear answer, accepted or refused, starts the count anew.
  One that was provably not sent costs nothing, and changes nothing.
* Where messages get through, nothing is written; that they do is said once a chunk, for
  the doubts that others counted.
* A worker that meets only doubt stops the campaign, however well others fare:
  it would put every message it takes in doubt.
* A report that is repeated after a lost connection counts twice, and stops a
  campaign a little sooner.
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
    """What a worker met in a campaign since its last report.

    `new` messages are in doubt, the last of `in_a_row` that this worker met; `error`
    is the last one's.  `got_through` says that one before those got a clear answer.
    """

    new: int
    in_a_row: int
    got_through: bool
    error: str


@attrs.define
class DoubtStreak:
    """The messages of one campaign in doubt in a row, as one worker meets them."""

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
        """Whether to report now: doubts, or that what was reported is over."""
        return self._new >= REPORT_EVERY or (self._got_through and self._is_counted)

    @property
    def has_report(self) -> bool:
        """Whether there is anything to report at all, as at the end of a chunk."""
        return self._new > 0 or self._got_through

    def report(self) -> DoubtReport:
        """Return what was met since the last report."""
        report = DoubtReport(
            new=self._new,
            in_a_row=self.in_a_row,
            got_through=self._got_through,
            error=self._error,
        )
        self._new, self._got_through, self._is_counted = 0, False, self.in_a_row > 0
        return report
