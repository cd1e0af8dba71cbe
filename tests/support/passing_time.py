"""Time that passes at once: the clock of the event loop that runs is put on.

Strategy: a timeout is meant to be long and to cost a test nothing.  So the test waits until
nothing moves any more, which a server knows, and has the time pass that the timeout takes.

Rules:

* What is under way meanwhile sees the time pass as well, with all its timeouts.
* The clock of uvloop cannot be put on: there the time passes, and nothing else is done.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from trio.lowlevel import current_clock

from skycore_async.runtime.event_loop import is_trios


def pass_time(seconds: float) -> None:
    """Have the running event loop's clock go on by some seconds."""
    if is_trios():
        clock: Any = current_clock()
        object.__setattr__(clock, "offset", clock.offset + seconds)  # which is frozen
    elif not isinstance(loop := asyncio.get_running_loop(), asyncio.BaseEventLoop):
        time.sleep(seconds)
    else:
        ahead = loop.time() - time.monotonic() + seconds
        loop.time = lambda: time.monotonic() + ahead  # type: ignore[method-assign]
