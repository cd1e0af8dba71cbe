"""The inbox file beside a ledger: what is added is durable, and belongs to one ledger."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from skycore_async.errors import LedgerError
from skycore_async.ledger.sqlite import inbox_file
from skycore_async.ledger.sqlite.inbox_file import InboxFile, KeptPostback, inbox_of
from tests.support.ledger_cases import NOON, notice, said
from tests.support.measuring import measured

OURS, THEIRS = b"o" * 16, b"t" * 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def inbox(path: Path) -> Iterator[InboxFile]:
    file = InboxFile(path)
    file.open()
    yield file
    file.close()


def kept(name: str = "T", *, received: float = NOON) -> KeptPostback:
    return KeptPostback.of([notice(tracking_id=name)], received=received)


def texts(inbox: InboxFile, after: int = 0) -> list[tuple[int, str | None]]:
    """Return the id and the tracking id of each notification in the inbox."""
    return [
        (each.id, getattr(one, "tracking_id", None))
        for each in inbox.read(after)[0]
        for one in each.notifications()
    ]


def test_a_postback_comes_out_as_it_went_in(inbox: InboxFile) -> None:
    """A stored postback comes back with its notifications in order and its time of receipt."""
    whole = [notice(tracking_id="A"), said("Stop &amp; \N{SNOWMAN}"), notice(tracking_id="B")]
    inbox.add([KeptPostback.of(whole, received=NOON + 0.25)])
    ((found,), is_all) = inbox.read()
    assert is_all
    assert (found.received, found.notifications()) == (NOON + 0.25, whole)


def test_an_inbox_is_private_from_its_first_byte(path: Path) -> None:
    """The inbox and its journal have mode 600 from the start, whatever the umask."""
    before = os.umask(0)
    try:
        inbox = InboxFile(path)
        inbox.open()
    finally:
        os.umask(before)
    modes: list[int] = []

    def look(action: int, *_: object) -> int:
        if action == sqlite3.SQLITE_INSERT:
            modes.extend(file.stat().st_mode & 0o777 for file in path.parent.iterdir())
        return sqlite3.SQLITE_OK

    inbox._connection.set_authorizer(look)
    inbox.add([kept()])
    inbox.close()
    assert set(modes) == {0o600}
    assert [file.name for file in path.parent.iterdir()] == ["ledger.db-inbox"]


@pytest.mark.slow
def test_several_write_at_once(path: Path) -> None:
    """Postbacks that several writers add at once are all stored, each with an id of its own."""
    inboxes = [InboxFile(path) for _ in range(4)]

    def write(number: int) -> None:
        inboxes[number].open()
        for count in range(10):
            inboxes[number].add([kept(f"{number}-{count}")])
        inboxes[number].close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reading = InboxFile(path)
    assert reading.open_if_there()
    found = texts(reading)
    assert [id_ for id_, _ in found] == list(range(1, 41))
    assert {name for _, name in found} == {f"{n}-{c}" for n in range(4) for c in range(10)}
    reading.close()


def test_no_id_is_used_twice(inbox: InboxFile) -> None:
    """An id is not used again after all postbacks were removed."""
    inbox.add([kept("A"), kept("B")])
    inbox.remove(2)
    assert inbox.is_empty()
    inbox.add([kept("C")])
    assert texts(inbox) == [(3, "C")]
    assert (inbox.count(), inbox.is_empty()) == (1, False)


def test_a_part_is_read_at_a_time(inbox: InboxFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read returns at most as many postbacks and characters as allowed, but at least one."""
    monkeypatch.setattr(inbox_file, "MOST", 3)
    inbox.add([kept(str(number)) for number in range(5)])
    assert [id_ for id_, _ in texts(inbox)] == [1, 2, 3]
    assert [id_ for id_, _ in texts(inbox, 3)] == [4, 5]
    assert [inbox.read(after)[1] for after in (0, 2, 3)] == [False, False, True]
    monkeypatch.setattr(inbox_file, "_MOST_CHARACTERS", 2 * len(kept("0").text))
    assert [id_ for id_, _ in texts(inbox)] == [1, 2]
    assert [inbox.read(after)[1] for after in (0, 3, 4)] == [False, False, True]
    monkeypatch.setattr(inbox_file, "_MOST_CHARACTERS", 1)
    assert [id_ for id_, _ in texts(inbox)] == [1]


def test_where_the_disk_is_full_nothing_is_added(inbox: InboxFile) -> None:
    """On a full disk a group of postbacks is added as a whole or not at all."""
    inbox.add([kept("A")])
    inbox._connection.execute("PRAGMA max_page_count = 1")  # as many as it has
    large = KeptPostback.of([said("x" * 100_000)], received=NOON)
    with pytest.raises(LedgerError, match=r"ledger\.db-inbox, .*full.*What it holds already is"):
        inbox.add([kept("B"), large])
    assert texts(inbox) == [(1, "A")]
    inbox._connection.execute("PRAGMA max_page_count = 1000000")
    inbox.add([kept("C")])
    assert texts(inbox) == [(1, "A"), (2, "C")]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_nothing_is_added_to_an_inbox_that_was_moved(inbox: InboxFile, when: str) -> None:
    """Adding to an inbox file that was moved, before or during the commit, raises LedgerError."""
    elsewhere = inbox.path.with_name("elsewhere")

    def move(_action: int, what: object, *_: object) -> int:
        if what == "COMMIT" and not elsewhere.exists():
            inbox.path.rename(elsewhere)
        return sqlite3.SQLITE_OK

    if when == "before":
        inbox.path.rename(elsewhere)
    else:
        inbox._connection.set_authorizer(move)
    with pytest.raises(LedgerError, match="was moved, removed or replaced"):
        inbox.add([kept()])
    elsewhere.rename(inbox.path)
    inbox._connection.set_authorizer(None)
    inbox.add([kept()])
    assert inbox.count() == (1 if when == "before" else 2)


def test_nothing_is_added_beside_a_link_to_a_ledger_that_was_moved(
    path: Path, inbox: InboxFile
) -> None:
    """Adding raises LedgerError once the ledger's path is a link; a moved inbox still works."""
    (path.parent / "larger").mkdir()
    moved = path.parent / "larger" / path.name
    path.touch()
    inbox.add([kept("A")])
    path.rename(moved)
    path.symlink_to(moved)
    with pytest.raises(LedgerError, match=r"was made a symbolic link .*, move .*-inbox to where"):
        inbox.add([kept("B")])
    inbox.path.rename(inbox_of(moved))
    there = InboxFile(path.resolve())
    there.open()
    there.add([kept("B")])
    assert texts(there) == [(1, "A"), (2, "B")]
    there.close()


def test_a_reader_of_the_inbox_opens_the_file_that_is_there_now(
    path: Path, inbox: InboxFile
) -> None:
    """A reader opens a new inbox file that replaced the old one, and none where none is there."""
    taking = InboxFile(path)
    assert taking.open_if_there()
    taking.give_to(b"first")
    inbox.path.unlink()
    assert not taking.open_if_there()
    other = InboxFile(path)
    other.open()
    assert taking.open_if_there()
    other.give_to(b"other")
    assert taking.claimed_by() == b"other"
    for file in (other, taking, taking):
        file.close()


def test_opening_an_inbox_again_changes_nothing(inbox: InboxFile) -> None:
    """Opening an open inbox again keeps it and its postbacks."""
    inbox.add([kept("A")])
    inbox.open()
    assert texts(inbox) == [(1, "A")]


def test_an_inbox_that_is_no_database_is_a_ledger_error(path: Path) -> None:
    """An inbox file that is no database is a LedgerError that names the file."""
    inbox_of(path).write_text("to;name\n" * 100)
    with pytest.raises(LedgerError, match=r"ledger\.db-inbox, the inbox of a ledger, cannot be"):
        InboxFile(path).open()


def test_without_a_directory_it_cannot_be_made(tmp_path: Path) -> None:
    """An inbox in a missing directory is a LedgerError with the system's words."""
    with pytest.raises(LedgerError, match="cannot be used: No such file or directory"):
        InboxFile(tmp_path / "no" / "ledger.db").open()


def test_an_inbox_is_of_one_ledger_while_something_is_in_it(inbox: InboxFile) -> None:
    """The first ledger claims an inbox; another one can claim it only when it is empty."""
    inbox.add([kept()])
    assert inbox.claimed_by() is None
    assert inbox.give_to(OURS)
    assert inbox.give_to(OURS)
    assert not inbox.give_to(THEIRS)
    assert inbox.claimed_by() == OURS
    inbox.remove(1)
    assert inbox.give_to(THEIRS)
    assert inbox.claimed_by() == THEIRS


FORKED = """
import os, sys, warnings
from pathlib import Path
from skycore_async import LedgerError
from skycore_async.ledger.sqlite.inbox_file import InboxFile, KeptPostback

warnings.simplefilter("ignore", DeprecationWarning)  # of forking a process with threads
inbox = InboxFile(Path(sys.argv[1]))
inbox.open()
closed = InboxFile(Path(sys.argv[1]))
closed.open()
closed.close()
inbox._connection.execute("BEGIN IMMEDIATE")
inbox._connection.execute("INSERT INTO postbacks (received, notifications) VALUES (1, '[]')")
if not (child := os.fork()):
    try:
        inbox.add([KeptPostback(received=2, text="[]")])
    except LedgerError as error:
        print(error, flush=True)
    inbox.close()
    del inbox
    sys.exit()
os.waitpid(child, 0)
inbox._connection.execute("COMMIT")
print(inbox.count())
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process is forked there")
def test_a_forked_child_leaves_it_to_its_parent(path: Path) -> None:
    """A forked child can add nothing to the inbox, and its exit undoes no write of the parent."""
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", FORKED, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env=measured(),
    )
    refused, count = done.stdout.splitlines()
    assert "is open in the process that forked this one" in refused
    assert count == "1"
