"""The shared list of opt-outs, used by a program of the user's own."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import platformdirs
import pytest

from skycore_async import (
    ConfigurationError,
    LedgerError,
    MemoryLedger,
    RecipientOptedOut,
    SkycoreClient,
    SQLiteLedger,
    parse_postback,
    share_opt_outs,
)
from skycore_async.cli.ui.ledger_target import LedgerFile
from skycore_async.cli.ui.opt_out_list import list_of
from skycore_async.ledger.opt_outs import OptOut
from skycore_async.ledger.sqlite.opt_out_list import OptOutList
from skycore_async.ledger.sqlite.user_opt_outs import LIST_ENVIRONMENT, NONE
from skycore_async.runtime.extras import MissingExtra
from skycore_async.runtime.user_files import ENVIRONMENT, user_file
from tests.support.stub_transport import StubTransport
from tests.unit.ledger.sqlite.test_opt_out_list import ANN, BO, STOP

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name a directory for the user's data."""
    home = tmp_path / "user"
    monkeypatch.setenv(ENVIRONMENT, str(home))
    monkeypatch.delenv(LIST_ENVIRONMENT, raising=False)
    return home


@pytest.fixture(params=["memory", "file"])
async def ledger(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[MemoryLedger | SQLiteLedger]:
    made = MemoryLedger() if request.param == "memory" else SQLiteLedger(tmp_path / "service.db")
    async with made:
        yield made


def the_commands_list() -> OptOutList:
    """Return the list that the commands share."""
    found = list_of(None)
    assert found is not None
    return found


def opt_out(shared: OptOutList, number: str) -> None:
    """Add an opt-out, as `skycore opt-outs add` does."""
    shared.tell([OptOut(number=number, out=True, at=time.time(), stamped=False)])


@pytest.mark.parametrize("path", [":memory:", "file:list.db", "file:///srv/list.db"])
def test_sqlite_special_names_are_refused_as_paths(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    path: str,
) -> None:
    """`:memory:` and `file:` texts are refused as paths of a list; a Path is a file."""
    monkeypatch.chdir(tmp_path)
    said = "a file of that very name.* 'none' shares none"
    with pytest.raises(ConfigurationError, match=said):
        share_opt_outs(MemoryLedger(), path)
    with pytest.raises(SystemExit):
        list_of(path)
    assert re.search(said, capsys.readouterr().err)
    assert not [*tmp_path.iterdir()]
    for named in (Path(path), f"./{path}"):
        share_opt_outs(MemoryLedger(), named)


async def test_it_shares_the_list_of_the_commands(ledger: MemoryLedger | SQLiteLedger) -> None:
    """A program refuses numbers on the commands' list, and a STOP goes onto that list."""
    shared = the_commands_list()
    opt_out(shared, ANN)
    transport = StubTransport()
    client = SkycoreClient(api_key="a key", from_="60856", transport=transport, ledger=ledger)
    async with share_opt_outs(ledger), client:
        with pytest.raises(RecipientOptedOut):
            await client.send_sms(to=ANN, text="Hello")
        await ledger.record(*parse_postback(STOP.replace(ANN, BO)))
    assert [word.number for word in shared.opted_out()] == [ANN, BO]
    assert transport.sent == []


async def test_the_list_knows_it_by_the_name_that_commands_have_for_it(tmp_path: Path) -> None:
    """A program's ledger has the same name on the list as for the commands."""
    shared, path = the_commands_list(), tmp_path / "service.db"
    opt_out(shared, ANN)
    async with SQLiteLedger(path) as ledger, share_opt_outs(ledger):
        pass
    assert shared.seen_by(LedgerFile(path).full_name) == shared.changes(0)[-1].number


@pytest.mark.parametrize("is_given", [True, False], ids=["in code", "by the environment"])
async def test_another_list_can_be_named(
    ledger: MemoryLedger | SQLiteLedger,
    is_given: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A path or SKYCORE_OPT_OUTS names another list, which is used instead of the user's own."""
    other = tmp_path / "other.db"
    opt_out(OptOutList(other), BO)
    opt_out(the_commands_list(), ANN)
    if not is_given:
        monkeypatch.setenv(LIST_ENVIRONMENT, str(other))
    async with share_opt_outs(ledger, other if is_given else None):
        assert await ledger.is_opted_out(BO)
        assert not await ledger.is_opted_out(ANN)


@pytest.mark.parametrize("variable", ["SKYCORE_HOME", LIST_ENVIRONMENT])
async def test_a_relative_path_in_the_environment_is_refused(
    ledger: MemoryLedger | SQLiteLedger, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A relative path in SKYCORE_HOME or SKYCORE_OPT_OUTS is refused."""
    monkeypatch.setenv(variable, "somewhere")
    with pytest.raises(ConfigurationError, match=f"{variable}: it is not an absolute path"):
        share_opt_outs(ledger)


@pytest.mark.parametrize("below", [None, "~/.local/share/skycore"])
async def test_a_user_without_a_home_is_told_what_to_set(
    ledger: MemoryLedger | SQLiteLedger, monkeypatch: pytest.MonkeyPatch, below: str | None
) -> None:
    """A user without a home directory gets an error that says to set SKYCORE_HOME."""

    def data_path(*_: object, **__: object) -> Path:
        if below is None:
            raise RuntimeError
        return Path(below)

    monkeypatch.setattr(platformdirs, "user_data_path", data_path)
    monkeypatch.delenv(ENVIRONMENT)
    with pytest.raises(ConfigurationError, match=r"no home directory .* set SKYCORE_HOME"):
        share_opt_outs(ledger)


async def test_none_is_shared_where_that_is_said(
    ledger: MemoryLedger | SQLiteLedger, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SKYCORE_OPT_OUTS=none shares no list and makes none."""
    monkeypatch.setenv(LIST_ENVIRONMENT, NONE)
    async with share_opt_outs(ledger):
        await ledger.opt_out(ANN)
    assert not home.exists()  # noqa: ASYNC240


async def test_a_file_that_is_no_list_is_an_error_before_anything_is_sent(
    ledger: MemoryLedger | SQLiteLedger, tmp_path: Path
) -> None:
    """A file that is no list is an error, with its path and how to name another list."""
    path = tmp_path / "promo.csv"
    path.write_text("to\n")
    with pytest.raises(LedgerError, match=r"promo\.csv.*SKYCORE_OPT_OUTS names another list"):
        async with share_opt_outs(ledger, path):
            pytest.fail("it was entered")


async def test_where_programs_keep_their_data_is_known_by_an_extra(
    ledger: MemoryLedger | SQLiteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a named directory the extra `cli` is needed, and the error says so."""
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    async with share_opt_outs(ledger):
        pass
    monkeypatch.delenv(ENVIRONMENT)
    with pytest.raises(MissingExtra, match=r"pip install 'skycore-async\[cli\]'"):
        share_opt_outs(ledger)


def test_without_a_directory_it_is_where_programs_keep_their_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By default the list is in the user's data directory, under `skycore`."""
    monkeypatch.delenv(ENVIRONMENT)
    path = user_file("opt-outs.db")
    assert path == platformdirs.user_data_path("skycore", appauthor=False) / "opt-outs.db"


@pytest.fixture
def usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the list is of a user who names no directory for it."""
    monkeypatch.delenv(ENVIRONMENT)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return user_file("opt-outs.db")


@pytest.mark.skipif(sys.platform == "win32", reason="there it counts nowhere")
def test_the_directory_is_the_same_whether_a_shell_has_another_for_data(
    tmp_path: Path, usual: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cron may not have XDG_DATA_HOME, and a STOP that a shell heard counts for it, too."""
    monkeypatch.setenv("XDG_DATA_HOME", f"{tmp_path / 'data'}/")
    assert user_file("opt-outs.db") == usual


@pytest.mark.skipif(sys.platform == "win32", reason="there it counts nowhere")
def test_a_list_that_an_earlier_version_kept_for_one_shell_is_told(
    tmp_path: Path, usual: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its STOPs are not forgotten: who has it says where it is to be, and loses neither of two."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    earlier = tmp_path / "data" / "skycore"
    earlier.mkdir(parents=True)
    (earlier / "opt-outs.db").touch()
    with pytest.raises(
        ConfigurationError,
        match=f"opt-outs.db is where .* move what is in {earlier} to {usual.parent}, or",
    ):
        share_opt_outs(MemoryLedger())
    usual.parent.mkdir(parents=True)
    usual.touch()
    with pytest.raises(ConfigurationError, match="Bring what is in both into one") as raised:
        share_opt_outs(MemoryLedger())
    assert "move what" not in str(raised.value)


@pytest.mark.skipif(sys.platform == "win32", reason="there it counts nowhere")
def test_one_directory_under_two_names_is_one(
    tmp_path: Path, usual: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who names the usual directory by a link goes on: there is one list, and nothing to move."""
    usual.parent.mkdir(parents=True)
    usual.touch()
    (tmp_path / "link").symlink_to(usual.parent.parent)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "link"))
    assert user_file("opt-outs.db") == usual


@pytest.mark.skipif(sys.platform == "win32", reason="there it counts nowhere")
def test_who_has_no_home_directory_may_name_one_for_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose user is a number alone: there is no other place."""

    def home() -> Path:
        raise RuntimeError

    monkeypatch.delenv(ENVIRONMENT)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(Path, "home", home)
    assert user_file("opt-outs.db") == tmp_path / "skycore" / "opt-outs.db"
