"""The two sides of an inbox, each a process: one records postbacks, one has the ledger open."""

from __future__ import annotations

from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import anyio
from anyio import to_thread

from skycore_async import PostbackInbox, SQLiteLedger, parse_postback
from tests.support.notification_xml import notification


async def receive(pipe: Connection, path: Path) -> None:
    """Record a receipt for each name received, and send the name back after `record`."""
    async with PostbackInbox(path, look_every=0.02) as inbox, anyio.create_task_group() as group:

        async def record(name: str) -> None:
            await inbox.record(*parse_postback(notification(int(name), tracking_id=f"SMS_{name}")))
            pipe.send(name)

        while name := await to_thread.run_sync(pipe.recv):
            group.start_soon(record, name)


async def hold(pipe: Connection, path: Path) -> None:
    """Keep the ledger open until a message comes, or the other end of the pipe is closed."""
    async with SQLiteLedger(path, open_timeout=20, look_every=0.01):
        with suppress(EOFError):
            await to_thread.run_sync(pipe.recv)
