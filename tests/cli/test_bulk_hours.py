"""`skycore bulk` with a start time, and with hours by the recipients' clocks."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from click.testing import CliRunner, Result

from skycore_async.cli.bulk import check, options, progress, waiting
from skycore_async.cli.bulk import run as module_of_run
from skycore_async.cli.commands.bulk import bulk
from skycore_async.cli.ui.output import Exit
from skycore_async.simulator import API_KEY, Simulator
from tests.support.cli_program import program

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

NEW_YORK, LOS_ANGELES, IDAHO, NOWHERE = "12125550100", "13105550100", "12085550100", "15551234888"
HOURS = ("--between", "09:00-20:00")
BERLIN = (*HOURS, "--tz", "Europe/Berlin")


@attrs.define
class Clock:
    """A clock that stands still until somebody waits, and then jumps to that time."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now

    async def wait_until(self, time: datetime, _clock: object) -> None:
        await anyio.sleep(0.1)  # so that what is waited for is shown
        self.now = time


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory of its own, with key and sender, and poll clocks without pause."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKYCORE_API_KEY", API_KEY)
    monkeypatch.setenv("SKYCORE_FROM", "60856")
    monkeypatch.setenv("SKYCORE_BASE_URL", "http://127.0.0.1:9/")
    monkeypatch.setattr(waiting, "_LOOK_EVERY", 0.005)
    monkeypatch.setattr(progress, "_EVERY", 0.01)


@pytest.fixture
def simulator(surroundings: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Run a simulator at the base URL."""
    with Simulator(behaviours={}) as running:
        monkeypatch.setenv("SKYCORE_BASE_URL", running.url)
        yield running


@pytest.fixture
def it_is(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Set the time for the commands."""

    def set_clock(clock: Callable[[], datetime] | str) -> None:
        if isinstance(clock, str):
            clock = Clock(datetime.fromisoformat(clock).replace(tzinfo=UTC))
            monkeypatch.setattr(module_of_run, "wait_until", clock.wait_until)
        for module in (check, options):
            monkeypatch.setattr(module, "utc_now", clock)

    return set_clock


def run(*args: str, to: tuple[str, ...] = (NEW_YORK, LOS_ANGELES)) -> Result:
    Path("promo.csv").write_text("".join(f"{number}\n" for number in ("to", *to)))
    done = CliRunner().invoke(bulk, ["promo.csv", "--text", "Hi", "--yes", *args])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def sent_to(simulator: Simulator) -> list[str]:
    return [message.to for message in simulator.messages]


@pytest.mark.slow
def test_each_recipient_is_sent_to_within_hours_of_their_own(
    simulator: Simulator, it_is: Callable[[str], None]
) -> None:
    """Each recipient is sent to within their own hours, without holding up others."""
    it_is("2026-12-01T14:30")  # half past nine in New York
    to = (IDAHO, LOS_ANGELES, NEW_YORK, NOWHERE)
    done = run(*BERLIN, "--json", to=to)
    assert done.exit_code == Exit.DONE
    assert set(sent_to(simulator)[:2]) == {NEW_YORK, NOWHERE}
    assert sorted(sent_to(simulator)) == sorted(to)
    assert (
        "  not yet     2 of these: hours are 09:00-20:00 where the recipients are, or else in"
        " Europe/Berlin\n"
    ) in done.stderr
    assert (
        "accepted 2  not yet 2  waiting until 09:00 for 2 recipients in America/Los_Angeles and 1"
        " other zone (2026-12-01 17:00:00Z)\n"
    ) in done.stderr  # the later one of the two counts that Idaho is in
    told = json.loads(done.stdout)
    assert (told["accepted"], told["not_sent"], told["outside_hours"]) == (4, 0, 0)


@pytest.mark.slow
def test_hours_over_midnight_are_waited_for(
    simulator: Simulator, it_is: Callable[[str], None]
) -> None:
    """Hours over midnight are waited for."""
    it_is("2026-12-02T02:30")  # half past nine in the evening in New York
    assert run("--between", "20:00-02:00").exit_code == Exit.DONE
    assert sent_to(simulator) == [NEW_YORK, LOS_ANGELES]


@pytest.mark.slow
def test_waiting_rows_are_sent_before_unread_rows(
    simulator: Simulator, it_is: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting recipients whose hours have come go before rows not read yet."""
    monkeypatch.setattr("skycore_async.cli.bulk.run.AT_A_TIME", 1)
    nine = datetime(2026, 12, 1, 17, tzinfo=UTC)

    def clock() -> datetime:
        return nine if simulator.billed > 2 else nine - timedelta(minutes=1)

    it_is(clock)
    many = tuple(f"1212555{n:04}" for n in range(100, 130))
    done = run(*HOURS, "--in-flight", "1", to=(LOS_ANGELES, *many))
    assert done.exit_code == Exit.DONE
    assert 2 < sent_to(simulator).index(LOS_ANGELES) < 10
    assert len(simulator.messages) == len({*sent_to(simulator)}) == 31


@pytest.mark.slow
def test_a_message_too_late_for_its_hours_is_sent_the_next_day(
    simulator: Simulator, it_is: Callable[[Any], None]
) -> None:
    """A message that could start only after its hours waits for the next day."""
    closes = datetime(2026, 12, 2, 1, tzinfo=UTC)  # eight in the evening in New York
    times: list[datetime] = []

    def clock() -> datetime:
        if simulator.billed < 3:
            return closes - timedelta(minutes=1)
        times.append(closes + timedelta(minutes=30) * len(times))
        return times[-1]

    it_is(clock)
    many = tuple(f"1212555{n:04}" for n in range(100, 110))
    done = run(*HOURS, "--rate", "100", "--in-flight", "1", "--json", to=many)
    assert (done.exit_code, json.loads(done.stdout)["accepted"]) == (Exit.DONE, 10)
    assert sorted(sent_to(simulator)) == sorted(many)
    # Those that were read before they could not begin any more were put off, too.
    assert "not yet 7  waiting until 09:00 for 7 recipients in America/New_York" in done.stderr


@pytest.mark.slow
def test_a_limit_counts_recipients_outside_their_hours(
    simulator: Simulator, it_is: Callable[[str], None]
) -> None:
    """`--limit` counts recipients who wait for their hours."""
    it_is("2026-12-01T15:00")
    to = (LOS_ANGELES, NEW_YORK, "12125550101")
    told = json.loads(run(*HOURS, "--limit", "2", "--json", to=to).stdout)
    assert sent_to(simulator) == [NEW_YORK, LOS_ANGELES]
    assert (told["accepted"], told["held_back"]) == (2, 1)


@pytest.mark.slow
def test_nothing_is_sent_before_the_start(
    simulator: Simulator, it_is: Callable[[Any], None]
) -> None:
    """Nothing is sent before --start, and hours are shown as of that time."""
    it_is("2026-12-01T16:00")
    done = run(*HOURS, "--start", "2026-12-01T09:00-08:00")
    assert done.exit_code == Exit.DONE
    assert "0/2  accepted 0  waiting for the start, 2026-12-01 17:00:00Z\n" in done.stderr
    assert "start         2026-12-01 17:00:00Z\n" in done.stdout
    assert "  not yet     0 of these: hours are 09:00-20:00 where" in done.stdout
    assert sorted(sent_to(simulator)) == [NEW_YORK, LOS_ANGELES]


@pytest.mark.slow
def test_a_start_that_is_over_keeps_nobody_waiting(
    simulator: Simulator, it_is: Callable[[str], None]
) -> None:
    """A --start in the past begins at once."""
    it_is("2026-12-01T16:00")
    done = run("--start", "2026-12-01T15:00+00:00")
    assert (done.exit_code, len(simulator.messages)) == (Exit.DONE, 2)
    assert "waiting for the start" not in done.stderr
    past = "start         2026-12-01 15:00:00Z, which is past: it begins at once\n"
    assert past in done.stdout


def test_a_number_whose_zone_is_not_known_is_asked_about(it_is: Callable[[str], None]) -> None:
    """A number without time zone is refused with advice to name --tz."""
    it_is("2026-12-01T17:00")
    done = run(*HOURS, to=(NEW_YORK, NOWHERE, "15551234889"))
    assert done.exit_code == Exit.USAGE
    assert (
        "nothing was sent: the time zone of 2 numbers is not known, first on line 3, and it may be"
        " night there: name the one that counts for these, as --tz America/New_York"
    ) in done.stderr
    assert not Path("promo.db").exists()


def test_a_dry_run_counts_recipients_outside_their_hours(it_is: Callable[[str], None]) -> None:
    """A dry run says who would wait for their hours."""
    it_is("2026-12-01T15:00")
    done = run(*BERLIN, "--dry-run", "--json", to=(NEW_YORK, LOS_ANGELES, NOWHERE))
    assert json.loads(done.stdout)["hours"] == {
        "hours": "09:00-20:00 where the recipients are, or else in Europe/Berlin",
        "outside": 1,
        "without_zone": 0,
        "first_without_line": 0,
    }
    assert json.loads(run("--dry-run", "--json").stdout)["hours"] is None


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--between", "9-20"), "--between: '9-20' says no hours, as 09:00-20:00 does"),
        (("--between", "09:00-09:00"), "--between: '09:00-09:00' begins and ends at one time"),
        ((*HOURS, "--tz", "Eastern"), "--tz: 'Eastern' is no time zone that this machine knows"),
        (("--tz", "Europe/Berlin"), "--tz goes with --between FROM-TO"),
        ((*HOURS, "--start", "9999-12-31T23:59"), "'9999-12-31T23:59' is no time"),
    ],
)
def test_an_error_in_the_hours_is_named(args: tuple[str, ...], said: str) -> None:
    """Wrong hours or zones are refused before anything is read."""
    done = run(*args)
    assert done.exit_code == Exit.USAGE
    assert said in done.stderr
    assert not Path("promo.db").exists()


def later_hours() -> str:
    """Return hours in UTC that begin some hours from now."""
    hour = datetime.now(UTC).hour
    return f"{(hour + 6) % 24:02}:00-{(hour + 8) % 24:02}:00"


@pytest.mark.slow
@needs_signals
@pytest.mark.parametrize("waits", ["for hours", "for a start"])
def test_ctrl_c_ends_the_waiting_and_the_same_command_goes_on(
    simulator: Simulator, waits: str
) -> None:
    """Ctrl-C ends the wait at once, and the same command continues."""
    Path("promo.csv").write_text(f"to\n{NOWHERE}\n15551234889\n")
    words = ("bulk", "promo.csv", "--text", "Hi", "--yes")
    option: tuple[str, ...] = ("--between", later_hours(), "--tz", "UTC")
    if waits == "for a start":
        option = ("--start", "2099-12-01T09:00")
    with program(*words, *option, "--json") as process:
        assert process.stderr is not None
        while "waiting" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        told = json.loads(process.communicate()[0])
        assert process.returncode == Exit.INTERRUPTED
    assert (told["interrupted"], told["accepted"], told["not_sent"]) == (True, 0, 2)
    assert told["outside_hours"] == (2 if waits == "for hours" else 0)
    done = CliRunner().invoke(bulk, words[1:])
    assert (done.exit_code, len(simulator.messages)) == (Exit.DONE, 2)
