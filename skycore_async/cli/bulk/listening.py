"""Postbacks that the process takes in which sends: `skycore bulk --listen`.

Strategy: the server has a thread and an event loop of its own, so that whoever posts does not
hold up the sending.  What it takes in is recorded in the loop that sends, which has the ledger,
together with what is sent.

Rules:

* It listens before the first message goes out.  After the last it goes on for as long as
  receipts are awaited, for so many seconds at most, or until a signal.
* What is answered with 200 is in the ledger, and a STOP on the list of who may not be sent to as
  well: the process may be killed before the two are compared, and others know the list alone.
* An address that cannot be had is told before anybody is asked whether to send.
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
        """Fail where nobody can listen there, or with a secret that would keep nobody out."""
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
        """Take postbacks in while this is open, for the ledger that errors call `name`.

        `telling` tells the list that is shared, where one is.
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
    """A ledger of the event loop `loop`, for the one of a server in another thread."""

    def __init__(
        self, ledger: BaseLedger, telling: Telling | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._ledger = ledger
        self._telling = telling
        self._loop = loop

    async def record(self, *notifications: Notification) -> None:
        """Take notifications in."""
        recording = self._record(notifications)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(recording, self._loop))

    async def _record(self, notifications: Sequence[Notification]) -> None:
        await self._ledger.record(*notifications)
        entries = (opt_out_of(each, received=0.0) for each in notifications)
        numbers = {entry.number for entry in entries if entry is not None}
        if numbers and self._telling is not None:
            await self._telling(numbers)


def _receiver(ledger: Any) -> tuple[PostbackReceiver, bool]:
    """Return the receiver, and whether it asks for a secret."""
    secret = postback_secret()
    given = None if secret is None else secret.reveal()
    try:
        # Without a ledger it is made to see whether it can be.
        handler = None if ledger is not None else print
        return PostbackReceiver(
            ledger=ledger, on_notification=handler, path=PATH, secret=given
        ), given is not None
    except ConfigurationError as error:
        fail(f"{SECRET}: {error}")
