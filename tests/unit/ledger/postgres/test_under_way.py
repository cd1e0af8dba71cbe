"""Which attempts of a session may be under way, as the others are told."""

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
    """Make the command that ends it."""
    made = Attempt(session=1, number=number)
    return PendingCommand(Finish(key=f"k{number}", submission=accepted(), attempt=made))


def test_an_attempt_is_under_way_until_its_outcome_is_on_the_disk() -> None:
    """From before its intent may be written, whatever is begun meanwhile."""
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


def test_what_was_not_begun_is_not_under_way() -> None:
    """Neither what was refused, nor what the ledger knew."""
    attempts, refused, known, begun = UnderWayAttempts(), begin(1), begin(2), begin(3)
    refused.error = RecipientOptedOut("STOP")
    known.result = accepted()
    group = [refused, known, begun]
    attempts.add(group)
    attempts.committed(group)
    assert attempts.oldest == 3


def test_what_failed_is_under_way_where_it_may_have_been_written() -> None:
    """A group that was lost on its way is taken back later, and one that was refused is not."""
    attempts = UnderWayAttempts()
    attempts.add([begin(1), begin(2), begin(3)])
    attempts.failed([begin(2), begin(3)], {Attempt(session=1, number=3): finish(3)})
    attempts.committed([finish(1)])
    assert attempts.oldest == 3


def test_what_was_refused_is_under_way_where_it_may_have_been_written() -> None:
    """Before it was refused: it is, until what takes it back is on the disk."""
    attempts, refused = UnderWayAttempts(), begin(1)
    refused.error = RecipientOptedOut("STOP")
    attempts.add([refused])
    attempts.committed([refused], {Attempt(session=1, number=1): finish(1)})
    assert attempts.oldest == 1
    attempts.committed([finish(1)], {Attempt(session=1, number=1): finish(1)})
    assert attempts.oldest is None
