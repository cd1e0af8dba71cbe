"""Postbacks taken in by the process that sends: `skycore bulk --listen`.

Strategy: the server has a thread and an event loop of its own, so that incoming postbacks do not
hold up the sending.  They are recorded in the event loop that sends, because that one has the
ledger.

Rules:

* The server listens before the first message goes out.  After the last message it goes on while
  receipts are awaited, for at most so many seconds, or until a signal.
* A postback that was answered with 200 is in the ledger, and a STOP is on the shared list of
  opt-outs, too: the process may be killed before ledger and list are compared, and other campaigns
  read the list alone.
* An address that cannot be listened on fails before the user is asked whether to send.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import attrs

from ...errors import ConfigurationError
from ...ledger.base import BaseLedger
from ...ledger.opt_outs import opt_out_of
from ...ledger.sqlite.opt_out_sharing import Telling
from ...notifications import Notification
from ...receiving.receiver import PostbackReceiver
from ...simulator.asgi_thread import ServerThread, listen_on
from ..ui.beside import announce_beside
from ..ui.output import fail, reason_of
from ..ui.postback_url import PATH, SECRET, postback_secret, url_of, warnings_of


@attrs.frozen(kw_only=True)
class Listening:
    """Where to listen, and for how many seconds after the last send."""

    host: str
    port: int
    seconds: float

    def check(self) -> None:
        """Fail where the address cannot be listened on, or the secret would keep nobody out."""
        _receiver(None)
        try:
            listen_on(self.host, self.port).close()
        except OSError as error:
            fail(
                f"cannot listen on {self.host}, port {self.port}: {reason_of(error)}; choose"
                " another with --listen"
            )

    @asynccontextmanager
    async def receiving(
        self, ledger: BaseLedger, telling: Telling | None, *, name: str
    ) -> AsyncGenerator[None]:
        """Take postbacks in while this is open; messages call the ledger `name`.

        `telling` tells the shared list of opt-outs, where there is one.
        """
        taking_in = _Ledger(ledger, telling, asyncio.get_running_loop())
        receiver, is_secret = _receiver(taking_in)
        server = ServerThread(receiver, host=self.host, port=self.port)
        await anyio.to_thread.run_sync(server.start)
        try:
            url = url_of(server.url, is_secret=is_secret)
            warnings = warnings_of(server.url, is_secret=is_secret)
            await announce_beside(f"Postbacks to {url} go to {name}.", *warnings)
            yield
        finally:
            with anyio.CancelScope(shield=True):  # what is being answered needs this event loop
                await anyio.to_thread.run_sync(server.stop)


class _Ledger:
    """A ledger in the event loop `loop`, for a server in another thread's event loop."""

    def __init__(
        self, ledger: BaseLedger, telling: Telling | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._ledger = ledger
        self._telling = telling
        self._loop = loop

    async def record(self, *notifications: Notification) -> None:
        """Record notifications, and return once they are durable."""
        recording = self._record(notifications)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(recording, self._loop))

    async def _record(self, notifications: Sequence[Notification]) -> None:
        await self._ledger.record(*notifications)
        entries = (opt_out_of(each, received=0.0) for each in notifications)
        numbers = {entry.number for entry in entries if entry is not None}
        if numbers and self._telling is not None:
            await self._telling(numbers)


def _receiver(ledger: Any) -> tuple[PostbackReceiver, bool]:
    """Return the receiver, and whether its URL has a secret; without a ledger, only to check."""
    secret = postback_secret()
    given = None if secret is None else secret.reveal()
    try:
        handler = None if ledger is not None else print
        return PostbackReceiver(
            ledger=ledger, on_notification=handler, path=PATH, secret=given
        ), given is not None
    except ConfigurationError as error:
        fail(f"{SECRET}: {error}")
