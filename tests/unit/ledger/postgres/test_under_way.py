"""Which attempts of a PostgreSQL session may be under way."""

from __future__ import annotations

from skycore_async.errors import RecipientOptedOut
from skycore_async.ledger.commands import Begin, Finish, KeepAlive, PendingCommand
from skycore_async.ledger.model import Attempt
from skycore_async.ledger.postgres.under_way import UnderWayAttempts
from tests.support.ledger_cases import accepted, intent


def begin(number: int) -> PendingCommand:
    """Make the command that begins an attempt."""
    return PendingCommand(
        Begin(intent=intent(f"k{number}"), attempt=Attempt(session=1, number=number))
    )


def finish(number: int) -> PendingCommand:
    """Make the command that ends an attempt."""
    made = Attempt(session=1, number=number)
    return PendingCommand(Finish(key=f"k{number}", submission=accepted(), attempt=made))


def test_an_attempt_is_under_way_until_its_outcome_is_on_the_disk() -> None:
    """An attempt is under way from before its intent is written until its outcome is committed."""
    attempts = UnderWayAttempts()
    assert not attempts
    assert attempts.add([begin(1), begin(2), PendingCommand(KeepAlive())])
    assert attempts.oldest == 1
    assert not attempts.add([finish(1)])
    assert attempts.oldest == 1
    attempts.committed([finish(1), PendingCommand(KeepAlive())])
    assert attempts.oldest == 2
    attempts.committed([finish(2)])
    assert attempts.oldest is None
    assert not attempts


def test_an_attempt_that_was_refused_or_known_is_not_under_way() -> None:
    """An attempt whose begin was refused, or whose outcome was known, is not under way."""
    attempts, refused, known, begun = UnderWayAttempts(), begin(1), begin(2), begin(3)
    refused.error = RecipientOptedOut("STOP")
    known.result = accepted()
    group = [refused, known, begun]
    attempts.add(group)
    attempts.committed(group)
    assert attempts.oldest == 3


def test_a_failed_begin_is_under_way_only_where_its_commit_is_unclear() -> None:
    """A begin whose commit is unclear stays under way; a begin that was rolled back does not."""
    attempts = UnderWayAttempts()
    attempts.add([begin(1), begin(2), begin(3)])
    attempts.failed([begin(2), begin(3)], {Attempt(session=1, number=3): finish(3)})
    attempts.committed([finish(1)])
    assert attempts.oldest == 3


def test_a_refused_begin_that_may_be_written_is_under_way_until_its_undo_is_committed() -> None:
    """A refused begin that may have been written is under way until its undo is committed."""
    attempts, refused = UnderWayAttempts(), begin(1)
    refused.error = RecipientOptedOut("STOP")
    attempts.add([refused])
    attempts.committed([refused], {Attempt(session=1, number=1): finish(1)})
    assert attempts.oldest == 1
    attempts.committed([finish(1)], {Attempt(session=1, number=1): finish(1)})
    assert attempts.oldest is None
