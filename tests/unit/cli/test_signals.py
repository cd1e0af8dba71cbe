"""Signals to a command, and its announcements when nobody reads them."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from typing import NoReturn

import anyio
import click
import pytest

from skycore_async.cli.ui import signals
from skycore_async.cli.ui.output import announce
from skycore_async.cli.ui.signals import Signals


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("is_stopped", [False, True], ids=["gone", "stopped"])
def test_a_second_signal_ends_the_process_whatever_cannot_be_said(
    monkeypatch: pytest.MonkeyPatch, is_stopped: bool
) -> None:
    """A second signal ends the process even if the output is closed or stopped."""
    goes_on, was_said = threading.Event(), threading.Event()

    class ProcessEnded(BaseException):
        """Stands for the end of the process."""

    def end(code: int) -> NoReturn:
        raise ProcessEnded(code)

    def unsaid() -> None:
        if not is_stopped:
            raise BrokenPipeError
        goes_on.wait(5)
        was_said.set()

    async def run() -> None:
        seen = anyio.Event()
        async with Signals().heard(first=seen.set, second=unsaid):
            await anyio.wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGTERM)
            await seen.wait()
            signal.raise_signal(signal.SIGTERM)
            await anyio.sleep(5)

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(signals, "_PATIENCE", 0.05)
    with pytest.raises(BaseExceptionGroup) as raised:
        anyio.run(run)
    assert raised.group_contains(ProcessEnded, match="130")
    assert not was_said.is_set()
    goes_on.set()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("is_ignored", [False, True], ids=["", "nohup"])
def test_a_terminal_that_is_closed_ends_it_once(backend: str, *, is_ignored: bool) -> None:
    """A closed terminal counts as one signal, though it comes twice; `nohup` ignores it."""
    seen: list[str] = []

    async def run() -> None:
        heard = functools.partial(seen.append, "first"), functools.partial(seen.append, "second")
        async with Signals().heard(first=heard[0], second=heard[1]):
            await anyio.wait_all_tasks_blocked()
            for _ in range(2):
                signal.raise_signal(signal.SIGHUP)
                await anyio.sleep(0.05)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    try:
        anyio.run(run, backend=backend)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert seen == ([] if is_ignored else ["first"])


def test_an_exception_within_heard_is_raised_unchanged() -> None:
    """An exception within `heard` is raised unchanged, in no group."""

    async def run() -> None:
        async with Signals().heard(first=anyio.Event().set, second=anyio.Event().set):
            raise LookupError("mine") from KeyError("its cause")

    with pytest.raises(LookupError, match="mine") as raised:
        anyio.run(run)
    assert isinstance(raised.value.__cause__, KeyError)


def test_an_unprintable_announcement_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """An announcement that cannot be printed does not end the run."""

    def refused(*_: object, **__: object) -> NoReturn:
        raise BrokenPipeError

    monkeypatch.setattr(click, "echo", refused)
    announce("accepted 3")
