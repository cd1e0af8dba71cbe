"""The progress display of a bulk send on a terminal that is closed or stopped."""

from __future__ import annotations

import functools
import io
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import anyio
import anyio.to_thread
import pytest
from rich.console import Console

from skycore_async.cli.bulk import live, progress
from skycore_async.cli.bulk.progress import BulkCounters


class _Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, _text: str) -> NoReturn:
        raise OSError(5, "Input/output error")


def test_a_terminal_that_is_gone_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed terminal does not end the run."""
    monkeypatch.setenv("TERM", "xterm")  # on a dumb terminal nothing is drawn
    gone = Console(file=_Gone(), force_terminal=True)
    monkeypatch.setattr(live, "console", lambda *, stderr: gone)
    anyio.run(live.show_live, BulkCounters(total=3))


class _Stopped(io.StringIO):
    """A terminal that blocks after the third write, until `goes_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0
        self.is_awaited = threading.Event()
        self.goes_on = threading.Event()
        self.was_let_go = True

    def write(self, text: str) -> int:
        self.written += 1
        if self.written > 3:
            self.is_awaited.set()
            self.was_let_go &= self.goes_on.wait(5)
        return len(text)


async def beside(
    show: Callable[[BulkCounters], Coroutine[Any, Any, None]], stopped: _Stopped, *, is_ended: bool
) -> None:
    """Show progress on a stopped terminal that goes on before or after the end."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(show, BulkCounters(total=3))
        await anyio.to_thread.run_sync(stopped.is_awaited.wait, 5)
        if is_ended:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
        stopped.goes_on.set()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("is_ended", [False, True], ids=["goes on", "is ended"])
@pytest.mark.parametrize("is_live", [False, True], ids=["lines", "picture"])
def test_a_terminal_that_is_stopped_holds_up_no_message(
    monkeypatch: pytest.MonkeyPatch, is_live: bool, is_ended: bool
) -> None:
    """A stopped terminal does not block the event loop."""
    stopped = _Stopped()
    if is_live:
        shown = Console(file=stopped, force_terminal=True)
        show = live.show_live
        monkeypatch.setattr(live, "console", lambda *, stderr: shown)
        monkeypatch.setattr(live, "_REFRESH", 0)
    else:
        show = progress.show_plain
        monkeypatch.setattr(progress, "_EVERY", 0)
        monkeypatch.setattr(sys, "stderr", stopped)
    anyio.run(functools.partial(beside, show, stopped, is_ended=is_ended))
    assert stopped.was_let_go
