"""Time that passes at once: the clock of the running event loop is set forward.

Strategy: a timeout should be long, and still cost a test no time.  So the test waits until
nothing moves any more, which a server knows, and then lets the time of the timeout pass.

Rules:

* All other tasks see the time pass as well, with all their timeouts.
* The clock of uvloop cannot be set forward: there the real time passes, and the loop stands still.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from trio.lowlevel import current_clock

from skycore_async.runtime.event_loop import is_trios


def pass_time(seconds: float) -> None:
    """Set the running event loop's clock forward by some seconds."""
    if is_trios():
        clock: Any = current_clock()
        object.__setattr__(clock, "offset", clock.offset + seconds)  # which is frozen
    elif not isinstance(loop := asyncio.get_running_loop(), asyncio.BaseEventLoop):
        time.sleep(seconds)
    else:
        ahead = loop.time() - time.monotonic() + seconds
        loop.time = lambda: time.monotonic() + ahead  # type: ignore[method-assign]
