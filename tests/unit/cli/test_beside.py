"""Lines and logs printed beside messages under way, on a terminal stopped by Ctrl-S."""

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
    """A terminal that blocks until `goes_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()
        self.was_let_go = True

    def write(self, text: str) -> int:
        self.was_let_go &= self.goes_on.wait(5)
        return super().write(text)


def test_announcements_wait_for_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Announcements do not wait for a stopped terminal, and all appear in order later."""
    monkeypatch.setattr(sys, "stderr", stopped := Stopped())
    with Beside(announce) as lines:
        for line in ("lost", "here again", "Stopping"):
            lines.give(line)
        assert not stopped.getvalue()
        stopped.goes_on.set()
    assert stopped.getvalue() == "lost\nhere again\nStopping\n"
    assert stopped.was_let_go


def test_log_records_wait_for_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log records do not wait for a stopped terminal, and are written before the end."""
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
    """An output error does not keep later lines from being printed."""
    shown: list[str] = []

    def refuse(line: str, **_: object) -> NoReturn:
        shown.append(line)
        raise BrokenPipeError

    monkeypatch.setattr(click, "echo", refuse)
    with Beside(announce) as lines:
        lines.give("one")
        lines.give("two")
    assert shown == ["one", "two"]
