"""The list of who may not be sent to, that all ledgers of a user share."""

from __future__ import annotations

import stat
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import anyio
import pytest

from skycore_async import LedgerError, MemoryLedger, SQLiteLedger, parse_postback
from skycore_async.ledger.base import BaseLedger
from skycore_async.ledger.commands import TellOptOuts
from skycore_async.ledger.opt_outs import OptOut
from skycore_async.ledger.sqlite.opt_out_list import PAGE, OptOutList
from skycore_async.ledger.sqlite.opt_out_sharing import sharing_opt_outs

NOON = 1_700_000_000.0
ANN, BO = "15551234888", "15551234889"


def entry(
    number: str = ANN, *, out: bool = True, at: float = NOON, stamped: bool = False
) -> OptOut:
    return OptOut(number=number, out=out, at=at, stamped=stamped)


@pytest.fixture
def shared(tmp_path: Path) -> OptOutList:
    return OptOutList(tmp_path / "user" / "opt-outs.db", clock=lambda: NOON + 1000)


class TestList:
    """The list by itself."""

    def test_a_list_is_made_at_its_first_use_and_private(self, shared: OptOutList) -> None:
        """Nobody but its owner can read the numbers, and an empty one has nobody."""
        assert shared.count() == 0
        assert stat.S_IMODE(shared.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(shared.path.parent.stat().st_mode) == 0o700
        assert list(shared.opted_out()) == []
        assert shared.changes(0) == []

    def test_a_list_is_the_same_in_another_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A program that goes to work elsewhere would find one there with nobody on it."""
        monkeypatch.chdir(tmp_path)
        shared = OptOutList(Path("opt-outs.db"))
        shared.tell([entry()])
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir("elsewhere")
        assert shared.count() == 1
        assert list(Path().iterdir()) == []

    @pytest.mark.parametrize(
        ("entries", "is_out"),
        [
            ([entry()], True),
            ([entry(), entry(out=False, at=NOON + 1)], False),
            ([entry(stamped=True), entry(out=False, at=NOON - 1, stamped=True)], True),
            ([entry(out=False, stamped=True), entry(at=NOON - 1, stamped=True)], False),
            ([entry(out=False), entry(at=NOON - 100, stamped=True)], True),
            ([entry(stamped=True), entry(out=False, at=NOON - 100)], False),
        ],
    )
    @pytest.mark.parametrize("at_once", [True, False])
    def test_the_latest_entry_counts(
        self, shared: OptOutList, entries: list[OptOut], is_out: bool, at_once: bool
    ) -> None:
        """Told at once or one by one, the rules of a ledger say which entry counts."""
        for some in [entries] if at_once else [[each] for each in entries]:
            shared.tell(some)
        assert [each.number for each in shared.opted_out()] == ([ANN] if is_out else [])
        assert shared.count() == is_out

    def test_changes_are_numbered_in_their_order(self, shared: OptOutList) -> None:
        """What did not change has no new number, and what changed again has the last."""
        shared.tell([entry(ANN), entry(BO)])
        (first, second) = shared.changes(0)
        shared.tell([entry(ANN)])
        assert shared.changes(second.number) == []
        shared.tell([entry(ANN, out=False, at=NOON + 1)])
        (third,) = shared.changes(second.number)
        assert (third.entry.number, third.entry.out) == (ANN, False)
        assert first.number < second.number < third.number

    @pytest.mark.parametrize(
        ("listed", "known", "has_seen", "is_out"),
        [
            (None, None, False, False),
            (None, entry(), False, True),
            (entry(), None, True, True),  # as where the ledger was made anew
            (entry(out=False, at=NOON + 1), entry(), False, False),
            (entry(out=False, at=NOON + 1), entry(at=NOON + 2), False, True),
            (entry(), entry(out=False, at=NOON + 1), False, True),
            (entry(), entry(out=False, at=NOON + 1), True, False),
            (entry(), entry(out=False, at=NOON - 1), True, True),  # ... or put back from a backup
            (entry(out=False), entry(at=NOON - 1), True, True),
        ],
    )
    def test_a_list_says_what_a_ledger_will_know(
        self,
        shared: OptOutList,
        listed: OptOut | None,
        known: OptOut | None,
        has_seen: bool,
        is_out: bool,
    ) -> None:
        """Who may not be sent to is as that ledger says it once it has taken the list in."""
        if listed is not None:
            shared.tell([entry(BO), listed])
            shared.note_seen("promo.db", 2 if has_seen else 1)
        with shared.asked("promo.db") as is_opted_out:
            assert is_opted_out(ANN, {} if known is None else {ANN: known}) is is_out

    def test_a_number_is_on_it_without_its_country_code_too(self, shared: OptOutList) -> None:
        """Until that number itself is opted in later, by the list's entry or by the ledger's."""
        shared.tell([entry(ANN[1:])])
        with shared.asked("promo.db") as is_opted_out:
            assert is_opted_out(ANN, {})
            assert not is_opted_out(BO, {})
            assert is_opted_out(ANN, {ANN: entry(out=False, at=NOON - 1)})
            assert not is_opted_out(ANN, {ANN: entry(out=False, at=NOON + 1)})
        shared.tell([entry(ANN, out=False, at=NOON + 1)])
        with shared.asked("promo.db") as is_opted_out:
            assert not is_opted_out(ANN, {})
        with shared.asked() as is_opted_out:
            assert is_opted_out(ANN[1:], {})

    def test_many_are_read_in_pages(self, shared: OptOutList) -> None:
        """More than a page of them are all told, each once."""
        numbers = [str(15550000000 + n) for n in range(2 * PAGE + 1)]
        shared.tell(map(entry, numbers))
        assert [each.number for each in shared.opted_out()] == numbers
        assert shared.entries(numbers).keys() == set(numbers)
        seen, last = [], 0
        while page := shared.changes(last):
            seen += [change.entry.number for change in page]
            last = page[-1].number
        assert seen == numbers

    def test_one_that_took_the_place_of_another_is_told(self, shared: OptOutList) -> None:
        """Whoever has seen more of the one before would try for ever to tell it an entry."""
        assert shared.tell([entry()], ledger="promo.db", seen=7) == 1
        assert shared.count() == 1
        assert shared.tell([entry(BO)], ledger="promo.db", seen=0) is None
        assert shared.count() == 1

    def test_a_text_and_a_directory_are_no_lists(self, tmp_path: Path) -> None:
        """They are refused, and not changed."""
        text = tmp_path / "text"
        text.write_text("to\n15551234888\n")
        for path in (text, tmp_path):
            with pytest.raises(LedgerError, match="list of who may not be sent to, cannot be"):
                OptOutList(path).count()
        assert text.read_text() == "to\n15551234888\n"


class Looks:
    """A sleep that is over when the test says so; it is made in an event loop."""

    def __init__(self) -> None:
        self._go = anyio.Event()
        self._sleeps = anyio.Event()

    async def __call__(self, seconds: float) -> None:
        self._sleeps.set()
        await self._go.wait()
        self._go = anyio.Event()

    async def look(self) -> None:
        """Let one look happen, and return when it is over."""
        await self._sleeps.wait()
        self._sleeps = anyio.Event()
        self._go.set()
        await self._sleeps.wait()


@pytest.fixture(params=["memory", "file"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BaseLedger]:
    made = MemoryLedger() if request.param == "memory" else SQLiteLedger(tmp_path / "promo.db")
    async with made:
        yield made


STOP = (
    f"<POSTBACK><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE><FROM>{ANN}</FROM><TO>60856</TO>"
    "<TEXT>STOP</TEXT></POSTBACK>"
)


@pytest.mark.anyio
class TestSharing:
    """A ledger with a list."""

    async def test_the_list_is_there_before_anything_is_sent(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """Once it is entered, the ledger knows whom the list has, more than a page of them."""
        numbers = [str(15550000000 + n) for n in range(PAGE + 1)]
        shared.tell(map(entry, numbers))
        async with sharing_opt_outs(ledger, shared, name="a", sleep=Looks()):
            for number in (numbers[0], numbers[-1]):
                assert await ledger.is_opted_out(number)

    @pytest.mark.slow
    async def test_what_the_ledger_has_goes_onto_the_list(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """Also the entries from before it shared a list, even more than one page of them."""
        numbers = [str(15550000000 + n) for n in range(PAGE + 1)]
        for number in numbers:
            await ledger.opt_out(number)
        async with sharing_opt_outs(ledger, shared, name="a", sleep=Looks()):
            assert shared.count() == len(numbers)

    async def test_what_is_heard_meanwhile_goes_both_ways(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """A STOP in one ledger is in another at the looks after it, and a START as well."""
        ours, theirs = Looks(), Looks()
        async with (
            MemoryLedger() as other,
            sharing_opt_outs(ledger, shared, name="a", sleep=ours),
            sharing_opt_outs(other, shared, name="b", sleep=theirs),
        ):
            await ledger.record(*parse_postback(STOP))
            await ours.look()
            await theirs.look()
            assert await other.is_opted_out(ANN)
            await other.opt_in(ANN)
            await theirs.look()
            await ours.look()
            assert not await ledger.is_opted_out(ANN)
            await ours.look()
            await theirs.look()
            assert not await other.is_opted_out(ANN)
        assert shared.count() == 0

    async def test_a_stop_is_not_undone_by_what_was_said_elsewhere_before_it(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """A caller's leave to send that comes later than it was given takes no STOP back."""
        ours = Looks()
        async with sharing_opt_outs(ledger, shared, name="a", sleep=ours):
            await ledger.record(*parse_postback(STOP))
            shared.tell([entry(out=False)])
            await ours.look()
            assert await ledger.is_opted_out(ANN)
        assert shared.count() == 1

    async def test_no_ledger_hears_its_own_entries_again(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """A ledger ignores its own entries on the list: otherwise it could undo later ones."""
        ours = Looks()
        async with sharing_opt_outs(ledger, shared, name="a", sleep=ours):
            await ledger.opt_out(ANN)
            await ours.look()
            assert len(shared.changes(0)) == 1
            assert shared.changes(shared.seen_by("a")) == []

    async def test_a_database_hears_nothing_again_for_its_port_being_in_its_name(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """What it saw under the name without it is seen: a START since would be undone by it."""
        name, ours = "PostgreSQL database orders at host", Looks()
        named = f"{name}, port 6432, of service live"
        shared.tell([entry(), entry(BO)])
        shared.note_seen(name, 1)
        await ledger.run(TellOptOuts(entries=(entry(out=False, at=NOON + 9, stamped=True),)))
        with shared.asked(named) as is_opted_out:
            assert not is_opted_out(ANN, {ANN: entry(out=False, at=NOON + 9, stamped=True)})
        async with sharing_opt_outs(ledger, shared, name=named, sleep=ours):
            assert not await ledger.is_opted_out(ANN)
            assert await ledger.is_opted_out(BO)
        assert shared.seen_by(named) == 3
        assert shared.seen_by(name) == 1

    async def test_a_database_beside_another_hears_what_it_lacks(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """The name without a port may be of another, which has seen what this one has not."""
        name = "PostgreSQL database orders at host"
        shared.tell([entry()])
        shared.note_seen(name, 1)
        async with sharing_opt_outs(ledger, shared, name=f"{name}, port 6432", sleep=Looks()):
            assert await ledger.is_opted_out(ANN)

    async def test_what_has_changed_on_the_list_is_taken_in_before_anything_is_told(
        self, ledger: BaseLedger, shared: OptOutList, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A number that opts out while another ledger tells its entries is out in both."""
        ours, entries = Looks(), OptOutList.entries
        async with sharing_opt_outs(ledger, shared, name="a", sleep=ours):
            await ledger.run(TellOptOuts(entries=(entry(out=False),)))

            def told_meanwhile(self: OptOutList, numbers: Collection[str]) -> dict[str, OptOut]:
                monkeypatch.setattr(OptOutList, "entries", entries)
                found = self.entries(numbers)
                self.tell([entry(at=NOON - 1)])
                return found

            monkeypatch.setattr(OptOutList, "entries", told_meanwhile)
            await ours.look()
            assert await ledger.is_opted_out(ANN)
        assert shared.count() == 1

    async def test_what_was_heard_last_is_told_at_the_end(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """A STOP within the last second is not forgotten by the next campaign."""
        async with sharing_opt_outs(ledger, shared, name="a", sleep=Looks()):
            await ledger.record(*parse_postback(STOP))
        assert [each.number for each in shared.opted_out()] == [ANN]

    @pytest.mark.parametrize(
        "raised",
        [LookupError("mine"), SystemExit(3), KeyboardInterrupt(), ExceptionGroup("", [OSError()])],
        ids=repr,
    )
    async def test_what_the_caller_raises_is_raised_as_it_is(
        self, ledger: BaseLedger, shared: OptOutList, raised: BaseException
    ) -> None:
        """It is in no group, and what was heard is told all the same."""
        found: BaseException | None = None
        try:
            async with sharing_opt_outs(ledger, shared, name="a", sleep=Looks()):
                await ledger.opt_out(ANN)
                raise raised
        except BaseException as error:  # noqa: BLE001 - whatever it is
            found = error
        assert found is raised
        assert shared.count() == 1

    async def test_it_is_left_in_another_task_than_it_was_entered_in(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """As where a framework begins and ends a program in two tasks."""
        looks = Looks()
        sharing = sharing_opt_outs(ledger, shared, name="a", sleep=looks)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sharing.__aenter__)
        await ledger.record(*parse_postback(STOP))
        await looks.look()
        assert shared.count() == 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sharing.__aexit__, None, None, None)

    async def test_a_ledger_that_is_closed_before_it_breaks_nothing_off(
        self, shared: OptOutList, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One warning is logged, and the entries are shared once the ledger is open again."""
        looks, ledger = Looks(), SQLiteLedger(tmp_path / "sent.db")
        await ledger.open()
        async with sharing_opt_outs(ledger, shared, name="a", sleep=looks):
            await ledger.record(*parse_postback(STOP))
            await ledger.aclose()
            for _ in range(2):
                await looks.look()
            assert sum("was closed" in record.message for record in caplog.records) == 1
            async with ledger:
                await looks.look()
                assert shared.count() == 1

    async def test_a_look_that_fails_is_not_the_last(
        self,
        ledger: BaseLedger,
        shared: OptOutList,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Where no thread could be had for a moment, whoever opts out after that is heard."""

        def fail(_shared: OptOutList) -> None:
            raise RuntimeError("can't start new thread")

        looks = Looks()
        async with sharing_opt_outs(ledger, shared, name="a", sleep=looks):
            with monkeypatch.context() as patched:
                patched.setattr(OptOutList, "last", fail)
                for _ in range(2):
                    await looks.look()
            shared.tell([entry()])
            await looks.look()
            assert await ledger.is_opted_out(ANN)
        (record,) = caplog.records
        assert "that others write to raised RuntimeError\n" in record.getMessage()

    async def test_a_person_is_believed_once(self, ledger: BaseLedger, shared: OptOutList) -> None:
        """Who was taken off the list stays off, though ledgers heard the STOP before."""
        await ledger.record(*parse_postback(STOP))
        async with sharing_opt_outs(ledger, shared, name="a", sleep=Looks()):
            pass
        shared.tell([entry(out=False, at=time.time())])
        for _ in range(2):
            async with sharing_opt_outs(ledger, shared, name="a", sleep=Looks()):
                assert not await ledger.is_opted_out(ANN)
        assert shared.count() == 0

    async def test_a_new_ledger_of_an_old_name_takes_all(self, shared: OptOutList) -> None:
        """A ledger that was begun anew under its name knows whom the first one knew."""
        shared.tell([entry()])
        for _ in range(2):
            async with (
                MemoryLedger() as ledger,
                sharing_opt_outs(ledger, shared, name="a", sleep=Looks()),
            ):
                assert await ledger.is_opted_out(ANN)

    async def test_a_ledger_that_was_put_back_takes_what_it_has_forgotten(
        self, shared: OptOutList
    ) -> None:
        """A STOP since the backup counts, which only the list has heard by now."""
        async with MemoryLedger() as ledger:
            await ledger.opt_in(ANN)
            async with sharing_opt_outs(ledger, shared, name="a", sleep=Looks()):
                await ledger.opt_out(ANN)
        async with MemoryLedger() as backup:
            await backup.run(TellOptOuts(entries=(entry(out=False),)))
            async with sharing_opt_outs(backup, shared, name="a", sleep=Looks()):
                assert await backup.is_opted_out(ANN)
        assert shared.count() == 1

    @pytest.mark.parametrize("is_written_over", [False, True])
    async def test_a_list_that_took_the_place_of_another_is_taken_in(
        self, shared: OptOutList, is_written_over: bool
    ) -> None:
        """An open ledger obeys a STOP on the new list, and adds all its own entries to it."""
        shared.tell([entry(BO)])
        backup = shared.path.read_bytes()
        shared.tell(entry(str(15550000000 + n)) for n in range(9))
        looks = Looks()
        async with (
            MemoryLedger() as ledger,
            sharing_opt_outs(ledger, shared, name="a", sleep=looks),
        ):
            if is_written_over:
                shared.path.write_bytes(backup)
            else:
                shared.path.rename(shared.path.with_suffix(".old"))
            shared.tell([entry()])
            await looks.look()
            assert await ledger.is_opted_out(ANN)
            assert shared.count() == 11

    async def test_a_list_that_cannot_be_read_is_an_error_before_anything_is_sent(
        self, ledger: BaseLedger, tmp_path: Path
    ) -> None:
        """It is never taken for an empty one."""
        (tmp_path / "no-list").write_text("to")
        broken = OptOutList(tmp_path / "no-list")
        with pytest.raises(LedgerError, match="cannot be used"):
            async with sharing_opt_outs(ledger, broken, name="a", sleep=Looks()):
                pytest.fail("it was entered")

    async def test_a_list_that_is_lost_meanwhile_costs_no_message(
        self, ledger: BaseLedger, shared: OptOutList, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Each loss is logged once, and the entries are shared once the list is back."""
        looks = Looks()
        async with sharing_opt_outs(ledger, shared, name="a", sleep=looks):
            kept = shared.path.read_bytes()
            shared.path.write_text("broken" * 1000)
            await ledger.opt_out(ANN)
            await looks.look()
            await looks.look()
            assert sum("cannot be used" in record.message for record in caplog.records) == 1
            shared.path.write_bytes(kept)
            await looks.look()
            assert shared.count() == 1
            shared.path.write_text("broken" * 1000)
            await looks.look()
        assert sum("cannot be used" in record.message for record in caplog.records) == 2
        shared.path.write_bytes(kept)
        async with sharing_opt_outs(ledger, shared, name="a", sleep=Looks()):
            assert shared.count() == 1
