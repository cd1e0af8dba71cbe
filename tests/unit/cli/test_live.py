"""The picture of a bulk send on a terminal that goes away."""

from __future__ import annotations

import io
from typing import NoReturn

import anyio
import pytest
from rich.console import Console

from skycore_async.cli.bulk import live
from skycore_async.cli.bulk.progress import BulkCounters


class _Gone(io.StringIO):
    """A terminal that was closed under a process that lives on."""

    def write(self, _text: str) -> NoReturn:
        raise OSError(5, "Input/output error")


def test_a_terminal_that_is_gone_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn any more, and no error stops the messages."""
    gone = Console(file=_Gone(), force_terminal=True)
    monkeypatch.setattr(live, "console", lambda *, stderr: gone)
    anyio.run(live.show_live, BulkCounters(total=3))
