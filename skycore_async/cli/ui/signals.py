"""Ctrl-C and SIGTERM where messages are in flight: once to stop, twice to exit.

Rules:

* After the first, nothing more starts, and the program waits for what is in flight.
  It says so, since a user who does not know what it waits for presses Ctrl-C again.
* The second ends the process where it stands.  The intents are durable, and what
  was in flight is in doubt from then on.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio

from .output import Exit

STOPPING: Final = "Stopping: waiting for what is in flight."


class Signals:
    """How many signals came."""

    def __init__(self) -> None:
        self.count = 0

    async def hear(self, *, stop: Callable[[], None], leave: Callable[[], None]) -> None:
        """Call `stop` at the first signal, and `leave` at the second, which ends the process."""
        with (
            suppress(NotImplementedError),  # on Windows, where Ctrl-C ends the loop
            anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
        ):
            async for _ in signals:
                self.count += 1
                if self.count > 1:
                    leave()
                    # Every way that ends the loop in order waits for the exchanges in flight.
                    os._exit(Exit.INTERRUPTED)
                stop()
