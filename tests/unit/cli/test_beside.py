"""What is told beside messages that are under way, on a terminal that Ctrl-S has stopped."""

from __future__ import annotations

import io
import logging
import sys
import threading
from typing import NoReturn

import click
import pytest

from skycore_async.cli.ui.beside import Beside, LogBeside
from skycore_async.cli.ui.output import announce


class Stopped(io.StringIO):
    """A terminal that is stopped until `goes_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()
        self.was_let_go = True

    def write(self, text: str) -> int:
        self.was_let_go &= self.goes_on.wait(5)
        return super().write(text)


def test_who_tells_waits_for_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was told is all there once the terminal goes on, in its order, at the latest then."""
    monkeypatch.setattr(sys, "stderr", stopped := Stopped())
    with Beside(announce) as lines:
        for line in ("lost", "here again", "Stopping"):
            lines.give(line)
        assert not stopped.getvalue()
        stopped.goes_on.set()
    assert stopped.getvalue() == "lost\nhere again\nStopping\n"
    assert stopped.was_let_go


def test_who_logs_waits_for_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the log holds up no message either, and is written before the program ends."""
    monkeypatch.setattr(sys, "stderr", stopped := Stopped())
    log = logging.Logger("own")
    handler = LogBeside(logging.ERROR)
    log.addHandler(handler)
    log.error("%s was lost", "the database")
    assert not stopped.getvalue()
    stopped.goes_on.set()
    handler.close()
    assert stopped.getvalue() == "skycore: the database was lost\n"
    assert stopped.was_let_go


def test_an_error_of_the_reader_ends_no_telling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody reads any more, what comes after is given all the same."""
    shown: list[str] = []

    def refuse(line: str, **_: object) -> NoReturn:
        shown.append(line)
        raise BrokenPipeError

    monkeypatch.setattr(click, "echo", refuse)
    with Beside(announce) as lines:
        lines.give("one")
        lines.give("two")
    assert shown == ["one", "two"]
