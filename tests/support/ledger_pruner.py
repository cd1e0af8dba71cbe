"""Another process that prunes a ledger, and is killed at a statement."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from skycore_async import SQLiteLedger
from skycore_async.ledger import prune_commands
from skycore_async.ledger.sqlite.open_file import connect


class KilledConnection:
    """A connection of SQLite that overwrites nothing, whose process is killed at a statement."""

    def __init__(self, path: str, *, statement: str, times: int, is_before: bool) -> None:
        self.connection: Any = connect(path)
        self.connection.execute("PRAGMA secure_delete = OFF")
        self.statement, self.left, self.is_before = statement, times, is_before
        self.is_pruning = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def execute(self, text: str, *values: object) -> Any:
        """Run a statement; if it is the chosen one, kill the process before or after it."""
        is_it = self.is_pruning and text.startswith(self.statement)
        if is_it and not self.left and self.is_before:
            os.kill(os.getpid(), signal.SIGKILL)
        done = self.connection.execute(text, *values)
        if is_it and not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= is_it
        return done


async def prune_and_be_killed(
    pipe: Connection, path: Path, now: float, crash: tuple[str, int], when: str
) -> None:
    """Prune what is older than 180 days, row by row, until a statement has come so many times."""
    prune_commands._AT_ONCE = 1  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
    statement, times = crash
    connections: list[KilledConnection] = []

    def killed(path: str) -> Any:
        one = KilledConnection(path, statement=statement, times=times, is_before=when == "before")
        connections.append(one)
        return one

    async with SQLiteLedger(path, clock=lambda: now, connect=killed) as ledger:
        for one in connections:
            one.is_pruning = True
        await ledger.prune(older_than=timedelta(days=180))
    pipe.close()
