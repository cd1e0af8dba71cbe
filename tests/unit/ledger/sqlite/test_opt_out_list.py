"""The list of opt-outs that all ledgers of a user share."""

from __future__ import annotations

import stat
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from skycore_async import LedgerError, MemoryLedger, SQLiteLedger, parse_postback
from skycore_async.ledger.base import BaseLedger
from skycore_async.ledger.commands import TellOptOuts
from skycore_async.ledger.opt_outs import OptOut
from skycore_async.ledger.sqlite import opt_out_sharing
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
        """A list is made at its first use, empty and readable by its owner alone."""
        assert shared.count() == 0
        assert stat.S_IMODE(shared.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(shared.path.parent.stat().st_mode) == 0o700
        assert list(shared.opted_out()) == []
        assert shared.changes(0) == []

    def test_a_list_is_the_same_in_another_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A list with a relative path is the same file after the program changed its directory."""
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
        """The latest entry of a number counts, whether entries are added at once or one by one."""
        for some in [entries] if at_once else [[each] for each in entries]:
            shared.tell(some)
        assert [each.number for each in shared.opted_out()] == ([ANN] if is_out else [])
        assert shared.count() == is_out

    def test_changes_are_numbered_in_their_order(self, shared: OptOutList) -> None:
        """A changed entry gets a new number; an entry that is repeated unchanged does not."""
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
        """The list answers as the ledger will once it has taken the list in."""
        if listed is not None:
            shared.tell([entry(BO), listed])
            shared.note_seen("promo.db", 2 if has_seen else 1)
        with shared.asked("promo.db") as is_opted_out:
            assert is_opted_out(ANN, {} if known is None else {ANN: known}) is is_out

    def test_a_number_is_on_it_without_its_country_code_too(self, shared: OptOutList) -> None:
        """A number listed without its country code is opted out until it is opted in itself."""
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
        """More entries than a page has are all returned, each once."""
        numbers = [str(15550000000 + n) for n in range(2 * PAGE + 1)]
        shared.tell(map(entry, numbers))
        assert [each.number for each in shared.opted_out()] == numbers
        assert shared.entries(numbers).keys() == set(numbers)
        seen, last = [], 0
        while page := shared.changes(last):
            seen += [change.entry.number for change in page]
            last = page[-1].number
        assert seen == numbers

    def test_a_list_that_replaced_another_is_reported(self, shared: OptOutList) -> None:
        """Adding entries returns None if the list is older than what the ledger has seen."""
        assert shared.tell([entry()], ledger="promo.db", seen=7) == 1
        assert shared.count() == 1
        assert shared.tell([entry(BO)], ledger="promo.db", seen=0) is None
        assert shared.count() == 1

    def test_a_text_and_a_directory_are_no_lists(self, tmp_path: Path) -> None:
        """A text file and a directory are refused as lists, and not changed."""
        text = tmp_path / "text"
        text.write_text("to\n15551234888\n")
        for path in (text, tmp_path):
            with pytest.raises(LedgerError, match="list of who may not be sent to, cannot be"):
                OptOutList(path).count()
        assert text.read_text() == "to\n15551234888\n"


class PassingTime:
    """A clock by which `step` seconds pass each time that it is asked."""

    def __init__(self) -> None:
        self.time = self.step = 0.0

    def __call__(self) -> float:
        self.time += self.step
        return self.time


def on(shared: OptOutList) -> list[str]:
    """Return who is on a list."""
    return [each.number for each in shared.opted_out()]


class ManualSleep:
    """A sleep that ends when the test calls `look`; to be made in an event loop."""

    longest = 0.0  # seconds that were asked for

    def __init__(self) -> None:
        self._go = anyio.Event()
        self._sleeps = anyio.Event()

    async def __call__(self, seconds: float) -> None:
        self.longest = max(self.longest, seconds)
        self._sleeps.set()
        await self._go.wait()
        self._go = anyio.Event()

    async def look(self) -> None:
        """Let one look happen, and return when it is over."""
        await self._sleeps.wait()
        self._sleeps = anyio.Event()
        self._go.set()
        await self._sleeps.wait()


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> PassingTime:
    """Return the time by which it is told how long it takes to compare a ledger with a list."""
    clock = PassingTime()
    monkeypatch.setattr(opt_out_sharing, "now", clock)
    return clock


@pytest.fixture(params=["memory", "file"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BaseLedger]:
    made = MemoryLedger() if request.param == "memory" else SQLiteLedger(tmp_path / "promo.db")
    async with made:
        yield made


STOP = (
    f"<POSTBACK><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE><FROM>{ANN}</FROM><TO>60856</TO>"
    "<TEXT>STOP</TEXT></POSTBACK>"
)


@asynccontextmanager
async def compared_slowly(
    ledger: BaseLedger, shared: OptOutList, passing: PassingTime
) -> AsyncIterator[ManualSleep]:
    """Share a ledger's opt-outs, where the comparison that found Ann's took two seconds."""
    ours = ManualSleep()
    async with sharing_opt_outs(ledger, shared, name="a", sleep=ours):
        passing.step = 2.0
        await ledger.opt_out(ANN)
        await ours.look()
        yield ours


@pytest.mark.anyio
@pytest.mark.usefixtures("passing")
class TestSharing:
    """A ledger with a list."""

    async def test_a_slow_comparison_delays_no_stop_of_the_list(
        self, ledger: BaseLedger, shared: OptOutList, passing: PassingTime
    ) -> None:
        """A STOP on the list reaches a ledger at the next look, even after a slow comparison."""
        async with compared_slowly(ledger, shared, passing) as ours:
            assert on(shared) == [ANN]
            shared.tell([entry(BO)])
            await ours.look()
            assert await ledger.is_opted_out(BO)
            assert ours.longest == 1

    async def test_after_a_slow_comparison_the_next_one_waits(
        self, ledger: BaseLedger, shared: OptOutList, passing: PassingTime
    ) -> None:
        """A ledger that takes long to compare is compared again after ten times as long."""
        async with compared_slowly(ledger, shared, passing) as ours:
            await ledger.opt_out(BO)
            for _ in range(20):
                await ours.look()
            assert on(shared) == [ANN]
            await ours.look()
            assert on(shared) == [ANN, BO]

    async def test_the_list_is_there_before_anything_is_sent(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """A ledger has taken in the whole list before its first message."""
        numbers = [str(15550000000 + n) for n in range(PAGE + 1)]
        shared.tell(map(entry, numbers))
        async with sharing_opt_outs(ledger, shared, name="a", sleep=ManualSleep()):
            for number in (numbers[0], numbers[-1]):
                assert await ledger.is_opted_out(number)

    @pytest.mark.slow
    async def test_earlier_opt_outs_of_a_ledger_go_onto_the_list(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """A ledger's earlier opt-outs are added to the list, even more than one page."""
        numbers = [str(15550000000 + n) for n in range(PAGE + 1)]
        for number in numbers:
            await ledger.opt_out(number)
        async with sharing_opt_outs(ledger, shared, name="a", sleep=ManualSleep()):
            assert shared.count() == len(numbers)

    async def test_stop_and_start_reach_the_other_ledger_at_the_next_looks(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """A STOP in one ledger reaches another at the next looks, and so does a START."""
        ours, theirs = ManualSleep(), ManualSleep()
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

    async def test_a_stop_is_not_undone_by_an_older_opt_in_of_the_list(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """An older opt-in that comes from the list later does not undo a STOP."""
        ours = ManualSleep()
        async with sharing_opt_outs(ledger, shared, name="a", sleep=ours):
            await ledger.record(*parse_postback(STOP))
            shared.tell([entry(out=False)])
            await ours.look()
            assert await ledger.is_opted_out(ANN)
        assert shared.count() == 1

    async def test_a_ledger_does_not_take_in_its_own_entries(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """A ledger ignores its own entries on the list, which could undo newer ones."""
        ours = ManualSleep()
        async with sharing_opt_outs(ledger, shared, name="a", sleep=ours):
            await ledger.opt_out(ANN)
            await ours.look()
            assert len(shared.changes(0)) == 1
            assert shared.changes(shared.seen_by("a")) == []

    async def test_a_database_whose_name_got_a_port_keeps_what_it_has_seen(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """A database whose name now has a port does not take in again what it has seen."""
        name, ours = "PostgreSQL database orders at host", ManualSleep()
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

    async def test_a_database_of_another_port_takes_in_what_it_lacks(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """A database takes in an opt-out that a database of the name without port has seen."""
        name = "PostgreSQL database orders at host"
        shared.tell([entry()])
        shared.note_seen(name, 1)
        async with sharing_opt_outs(
            ledger, shared, name=f"{name}, port 6432", sleep=ManualSleep()
        ):
            assert await ledger.is_opted_out(ANN)

    async def test_changes_of_the_list_are_taken_in_before_entries_are_added(
        self, ledger: BaseLedger, shared: OptOutList, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A number that opts out on the list while a ledger adds entries is out in both."""
        ours, entries = ManualSleep(), OptOutList.entries
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

    async def test_a_last_stop_is_added_to_the_list_on_leaving(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """A STOP recorded just before the end is on the list afterwards."""
        async with sharing_opt_outs(ledger, shared, name="a", sleep=ManualSleep()):
            await ledger.record(*parse_postback(STOP))
        assert [each.number for each in shared.opted_out()] == [ANN]

    @pytest.mark.parametrize(
        "raised",
        [LookupError("mine"), SystemExit(3), KeyboardInterrupt(), ExceptionGroup("", [OSError()])],
        ids=repr,
    )
    async def test_an_exception_of_the_caller_is_raised_unchanged(
        self, ledger: BaseLedger, shared: OptOutList, raised: BaseException
    ) -> None:
        """The caller's exception is raised unchanged, and opt-outs still go onto the list."""
        found: BaseException | None = None
        try:
            async with sharing_opt_outs(ledger, shared, name="a", sleep=ManualSleep()):
                await ledger.opt_out(ANN)
                raise raised
        except BaseException as error:  # noqa: BLE001 - whatever it is
            found = error
        assert found is raised
        assert shared.count() == 1

    async def test_sharing_may_be_left_in_another_task(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """Sharing may be entered in one task and left in another."""
        looks = ManualSleep()
        sharing = sharing_opt_outs(ledger, shared, name="a", sleep=looks)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sharing.__aenter__)
        await ledger.record(*parse_postback(STOP))
        await looks.look()
        assert shared.count() == 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sharing.__aexit__, None, None, None)

    async def test_a_ledger_closed_while_sharing_is_logged_once(
        self, shared: OptOutList, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A closed ledger is logged once, and shares its entries once it is open again."""
        looks, ledger = ManualSleep(), SQLiteLedger(tmp_path / "sent.db")
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
        """After a look at the list failed, later looks take in what has come."""

        def fail(_shared: OptOutList) -> None:
            raise RuntimeError("can't start new thread")

        looks = ManualSleep()
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

    async def test_an_opt_in_by_hand_is_not_undone_by_older_stops(
        self, ledger: BaseLedger, shared: OptOutList
    ) -> None:
        """A number opted in by hand stays so, although ledgers have an older STOP."""
        await ledger.record(*parse_postback(STOP))
        async with sharing_opt_outs(ledger, shared, name="a", sleep=ManualSleep()):
            pass
        shared.tell([entry(out=False, at=time.time())])
        for _ in range(2):
            async with sharing_opt_outs(ledger, shared, name="a", sleep=ManualSleep()):
                assert not await ledger.is_opted_out(ANN)
        assert shared.count() == 0

    async def test_a_new_ledger_of_an_old_name_takes_all(self, shared: OptOutList) -> None:
        """A new ledger of a known name takes in the whole list."""
        shared.tell([entry()])
        for _ in range(2):
            async with (
                MemoryLedger() as ledger,
                sharing_opt_outs(ledger, shared, name="a", sleep=ManualSleep()),
            ):
                assert await ledger.is_opted_out(ANN)

    async def test_a_restored_ledger_takes_in_opt_outs_that_it_lacks(
        self, shared: OptOutList
    ) -> None:
        """A ledger restored from a backup takes in a STOP that only the list has."""
        async with MemoryLedger() as ledger:
            await ledger.opt_in(ANN)
            async with sharing_opt_outs(ledger, shared, name="a", sleep=ManualSleep()):
                await ledger.opt_out(ANN)
        async with MemoryLedger() as backup:
            await backup.run(TellOptOuts(entries=(entry(out=False),)))
            async with sharing_opt_outs(backup, shared, name="a", sleep=ManualSleep()):
                assert await backup.is_opted_out(ANN)
        assert shared.count() == 1

    @pytest.mark.parametrize("is_written_over", [False, True])
    async def test_a_list_that_took_the_place_of_another_is_taken_in(
        self, shared: OptOutList, is_written_over: bool
    ) -> None:
        """An open ledger takes in a list that replaced the old one, and adds its own entries."""
        shared.tell([entry(BO)])
        backup = shared.path.read_bytes()
        shared.tell(entry(str(15550000000 + n)) for n in range(9))
        looks = ManualSleep()
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
        """A list that cannot be read raises LedgerError before any message is sent."""
        (tmp_path / "no-list").write_text("to")
        broken = OptOutList(tmp_path / "no-list")
        with pytest.raises(LedgerError, match="cannot be used"):
            async with sharing_opt_outs(ledger, broken, name="a", sleep=ManualSleep()):
                pytest.fail("it was entered")

    async def test_a_list_that_is_lost_meanwhile_costs_no_message(
        self, ledger: BaseLedger, shared: OptOutList, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A damaged list is logged once per damage, and entries are shared once it is back."""
        looks = ManualSleep()
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
        async with sharing_opt_outs(ledger, shared, name="a", sleep=ManualSleep()):
            assert shared.count() == 1
