"""What a command does at a signal, and with what it says of itself, where nobody hears it."""

from __future__ import annotations

import functools
import os
import signal
import sys
from typing import NoReturn

import anyio
import click
import pytest

from skycore_async.cli.ui.output import tell
from skycore_async.cli.ui.signals import Signals


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_second_signal_ends_the_process_whatever_cannot_be_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where nobody reads what is printed; else it would wait for what is in flight."""

    class Ended(BaseException):
        """What stands for the end of the process."""

    def end(code: int) -> NoReturn:
        raise Ended(code)

    def unsaid() -> NoReturn:
        raise BrokenPipeError

    async def run() -> None:
        seen = anyio.Event()
        async with anyio.create_task_group() as beside:
            watch = functools.partial(Signals().watch, first=seen.set, second=unsaid)
            beside.start_soon(watch)
            await anyio.wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGTERM)
            await seen.wait()
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(BaseExceptionGroup) as raised:
        anyio.run(run)
    assert raised.group_contains(Ended, match="130")


def test_what_only_tells_of_a_run_ends_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody reads it, or the disk of a log is full, the messages go on."""

    def refused(*_: object, **__: object) -> NoReturn:
        raise BrokenPipeError

    monkeypatch.setattr(click, "echo", refused)
    tell("accepted 3")
