"""Small worlds in which faults were found, and how a world is made small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from skycore_async.codes import Verdict
from skycore_async.ledger import rules
from skycore_async.ledger.model import MessageState

from .drawing import draw
from .events import (
    Answer,
    Answers,
    Backup,
    Bulk,
    Crash,
    FullDisk,
    Jump,
    Message,
    OptOut,
    Outage,
    Plan,
    PutBack,
    Reopen,
    Send,
    SendMany,
    Settings,
    Settle,
    Tells,
    Told,
    Wait,
    Way,
)
from .mutants import mutants
from .running import Worlds, worlds
from .shrinking import shrunk

pytestmark = pytest.mark.unmeasured

FOUND = {
    "a START in the inbox took an opt-out back that came after it, by a clock set back": Plan(
        chance=0,
        settings=Settings(thread=0.5, has_inbox=True),
        events=(
            OptOut(at=0.0, number=107, is_out=False, by_text=True),
            Jump(at=1.0, seconds=-4000.0),
            OptOut(at=1.176, number=107, is_out=True, by_text=False),
            Send(at=1.464, message=Message(7, 107)),
        ),
    ),
    "an opening that was left while its thread opened the file kept the lock for good": Plan(
        chance=0, settings=Settings(leaves_opening=0.06), events=()
    ),
    "no doubt was settled any more once a clock was set back while a message was under way": Plan(
        chance=0,
        settings=Settings(reads_report=True),
        events=(
            Answers(key=0, answers=(Answer.NEVER,)),
            Send(at=1.0, message=Message(0, 100)),
            Jump(at=2.0, seconds=-90_000.0),
            Settle(at=7.0),
        ),
    ),
    "what was sent while a clock was ahead was proven not sent once that was set right": Plan(
        chance=3,
        settings=Settings(reads_report=True),
        events=(
            Jump(at=1.0, seconds=456),
            Send(at=1.374, message=Message(5, 105)),
            Crash(at=1.41, steps=6),
            Jump(at=1.536, seconds=-456),
        ),
    ),
    "a STOP was undone by another ledger that heard of an earlier leave to send later": Plan(
        chance=5649,
        settings=Settings(shares_opt_outs=True),
        events=(
            OptOut(at=1.0, number=100, is_out=False, by_text=False),
            OptOut(at=2.0, number=100, is_out=True, by_text=False),
        ),
    ),
    "an older opt-out of another ledger took a STOP's place, and its leave took that back": Plan(
        chance=2,
        settings=Settings(shares_opt_outs=True),
        events=(
            OptOut(at=1.0, number=111, is_out=True, by_text=False),
            OptOut(at=1.587, number=111, is_out=False, by_text=False),
            OptOut(at=2.0, number=111, is_out=True, by_text=True),
        ),
    ),
    "a power cut before the first commit left a ledger that asked for a log which there was not": (
        Plan(
            chance=0,
            settings=Settings(in_flight=8, loses_power=True, thread=0.5),
            events=(
                Tells(key=7, told=(Told(kind="failed", after=0.0, hours=-7),)),
                Bulk(at=0.0, messages=(Message(7, 107),)),
                Crash(at=0.732, steps=7, down=4000.0),
                OptOut(at=1.0, number=102, is_out=False, by_text=True),
                SendMany(at=1.508, messages=(Message(5, 105), Message(6, 106), Message(4, 104))),
                Reopen(at=2.0),
                Crash(at=3.0, steps=30, is_power=True),
            ),
        )
    ),
    "a row in doubt was being sent again by another while its file was read, and was none": Plan(
        chance=0,
        settings=Settings(),
        events=(
            Outage(at=0.0, lasts=6.05),
            Send(at=0.0, message=Message(6, 103)),
            Send(at=1.0, message=Message(7, 103)),
            Send(at=2.0, message=Message(7, 103), word=True),
            Bulk(at=2.0, messages=(Message(7, 103), Message(6, 103))),
        ),
    ),
    "a clock was set back twice, and a report of the wrong hours proved that nothing was sent": (
        Plan(
            chance=1,
            settings=Settings(reads_report=True),
            events=(
                Answers(key=16, answers=(Answer.LOST,)),
                Tells(key=16, told=(Told(kind="sent", after=4500.0),)),
                Jump(at=0.0, seconds=-1914),
                Send(at=2.0, message=Message(11, 1105)),
                Jump(at=4000.0, seconds=-4000.0),
                Send(at=4002.352, message=Message(16, 108)),
            ),
        )
    ),
    "a clock was set back for hours, and the wrong hour's report proved that nothing was sent": (
        Plan(
            chance=1004662,
            settings=Settings(reads_report=True),
            events=(
                Answers(key=22, answers=(Answer.LATE,)),
                Answers(key=23, answers=(Answer.LOST,)),
                Jump(at=1.0, seconds=-4000.0),
                Send(at=1.0, message=Message(19, 1109)),
                SendMany(at=4000.0, messages=(Message(23, 1111), Message(22, 111))),
            ),
        )
    ),
    "a disk had the journal back that a new ledger had removed, and with it the empty file": Plan(
        chance=0,
        settings=Settings(loses_power=True, shares_opt_outs=True),
        events=(
            OptOut(at=0.0, number=129, is_out=True, by_text=True),
            Crash(at=0.0, steps=12, is_power=True),
        ),
    ),
    "a log that could not begin on a full disk did not belong to its file after a power cut": Plan(
        chance=0,
        settings=Settings(loses_power=True),
        events=(
            FullDisk(at=0.0, writes=7, lasts=19),
            Send(at=1.61, message=Message(14, 107, 1)),
            Crash(at=2.0, steps=526, is_power=True, writes=11),
            Send(at=2.0, message=Message(24, 112)),
        ),
    ),
    "what was begun anew on a full disk was taken for the work of another program": Plan(
        chance=5,
        settings=Settings(rate=5.0, loses_power=True, pages=8, leaves_opening=0.00508, lags=1.0),
        events=(
            Send(at=1.0, message=Message(1, 0)),
            FullDisk(at=1.319, writes=29, lasts=54),
            FullDisk(at=2.0, writes=18, lasts=12),
        ),
    ),
    "a text refused on a full disk, and mended, was told that it is being sent already": (
        Plan(
            chance=0,
            settings=Settings(rate=5.0, loses_power=True, thread=0.5),
            events=(
                Answers(key=27, answers=(Answer.REFUSED,)),
                Send(at=2.0, message=Message(27, 127)),
                Send(at=1.725, message=Message(4, 104)),
                OptOut(at=1.769, number=125, is_out=True, by_text=True),
                FullDisk(at=2.0, writes=54, lasts=40),
            ),
        )
    ),
    "who had waited in vain, and looked what it was, was not told that the disk was full": Plan(
        chance=5,
        settings=Settings(rate=5.0, loses_power=True, pages=40, thread=1.0),
        events=(
            Answers(key=0, answers=(Answer.TOO_MANY,)),
            Tells(key=1, told=(Told(kind="sent", after=0.0),)),
            OptOut(at=0.0, number=102, is_out=False, by_text=True),
            Wait(at=1.0, key=2, timeout=3.25),
            SendMany(at=1.0, messages=(Message(0, 2), Message(0, 2), Message(1, 101))),
            Send(at=1.0, message=Message(0, 2)),
            FullDisk(at=3.0, writes=47, lasts=30),
        ),
    ),
    "a mended text that met the one before, which was just taken back, was not given again": Plan(
        chance=1,
        settings=Settings(in_flight=20),
        events=(
            Answers(key=6, answers=(Answer.REFUSED,)),
            Bulk(
                at=3.0,
                messages=(
                    Message(4, 102),
                    Message(1, 1100),
                    Message(3, 1101),
                    Message(0, 100),
                    Message(2, 101),
                    Message(7, 1103),
                    Message(6, 103, 1),
                    Message(3, 1101),
                ),
            ),
            Send(at=4003.0, message=Message(6, 103), word=True, leaves=0.0796),
        ),
    ),
    "an earlier copy of file and log was copied over both, and messages went out on": Plan(
        chance=0,
        settings=Settings(),
        events=(
            Send(at=0.5, message=Message(1, 101)),
            Backup(at=1.0, with_log=True),
            Send(at=1.5, message=Message(2, 102)),
            PutBack(at=2.5, way=Way.COPIED),
            Send(at=3.0, message=Message(3, 103)),
        ),
    ),
    "a backup put back into an open ledger forgot a STOP, and the number was sent to": Plan(
        chance=0,
        settings=Settings(),
        events=(
            Backup(at=1.0),
            OptOut(at=1.5, number=107, is_out=True, by_text=True),
            PutBack(at=2.0, way=Way.RESTORED, noticed=3.0),
            Send(at=3.0, message=Message(7, 107)),
        ),
    ),
    "what a log was written over with was ruined by the commit that found it out": Plan(
        chance=0,
        settings=Settings(),
        events=(
            SendMany(at=0.1, messages=(Message(1, 101), Message(2, 102))),
            Crash(at=0.7, steps=1),
            Backup(at=1.0, with_log=True),
            Send(at=1.1, message=Message(3, 103)),
            PutBack(at=1.5, way=Way.COPIED),
            Send(at=1.6, message=Message(4, 104)),
        ),
    ),
}


@pytest.fixture(params=["asyncio", "trio"])
def here(request: pytest.FixtureRequest) -> Iterator[Worlds]:
    """Make a place for worlds, on both event loops."""
    with worlds(str(request.param)) as place:
        yield place


@pytest.mark.slow
@pytest.mark.parametrize("plan", FOUND.values(), ids=FOUND)
def test_what_was_found_is_mended(here: Worlds, plan: Plan) -> None:
    """A world in which a fault was found keeps the promise now."""
    assert here.broken_in(plan) == []


@pytest.mark.slow
def test_a_broken_world_is_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where doubt is taken for not sent, what is left is a lost answer and a message."""
    told = {**rules.STATES, Verdict.IN_DOUBT: MessageState.NOT_SENT}
    monkeypatch.setattr(rules, "STATES", told)
    message = Message(3, 103)
    plan = Plan(
        chance=1,
        settings=Settings(in_flight=8, rate=40.0),
        events=(
            Answers(key=3, answers=(Answer.LOST, Answer.REFUSED)),
            Answers(key=4, answers=(Answer.SLOW,)),
            Jump(at=0.5, seconds=400.0),
            SendMany(at=1.5, messages=(Message(4, 104), message), reads=9),
            Send(at=3.25, message=message),
            Crash(at=5.0, steps=3),
        ),
    )
    with worlds() as here:
        broken = here.broken_in(plan)

        def run(tried: Plan) -> list[str]:
            """Return what is broken in a world, without running each of them."""
            kinds = {type(event) for event in tried.events if _is_about_lost(event)}
            return broken if kinds >= {Answers, Send} else []

        small = shrunk(plan, run)
        assert here.broken_in(small) != []
    assert small.settings == Settings()
    assert {type(event) for event in small.events} == {Answers, Send}
    assert len(small.events) <= 3


def _is_about_lost(event: object) -> bool:
    """Return whether an event has that the answer to a message is lost, or has it sent."""
    if isinstance(event, Answers):
        return Answer.LOST in event.answers
    return isinstance(event, Send) and event.message.key == 3


def test_there_are_mistakes_to_be_found() -> None:
    """Each of the mistakes for worlds to find can still be made in the package."""
    there = mutants()
    assert [mutant.name for mutant in there if not mutant.applies()] == []
    assert len({mutant.name for mutant in there}) == len(there) >= 20


def test_worlds_differ() -> None:
    """Each seed has a world of its own."""
    assert len({str(draw(seed)) for seed in range(100)}) == 100
