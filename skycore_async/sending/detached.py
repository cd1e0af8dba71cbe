"""A message that is sent in a task of the client's, so that no caller can break it off.

Rules:

* The caller waits for the outcome, and may be cancelled while waiting.  The sending learns that,
  and decides whether to go on.
* An error of the sending is raised to the caller.  If the event loop ends during the sending, but
  not the wait of its caller, the message may be out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from ..errors import OutcomeUnknown
from ..messages import Outcome
from .prepare import PreparedSend


class DetachedSend:
    """A message that is sent in another task than its caller's, and its outcome."""

    def __init__(
        self,
        submit: Callable[[PreparedSend, float, float, Callable[[], bool]], Awaitable[Outcome]],
        prepared: PreparedSend,
        started: float,
        deadline: float,
    ) -> None:
        self._submit = submit
        self._prepared = prepared
        self._started = started
        self._deadline = deadline
        self._abandoned = False
        self._outcome: Outcome | None = None
        self._error: Exception | None = None
        self._done = anyio.Event()

    async def run(self) -> None:
        """Send it, and keep its outcome or error."""
        try:
            self._outcome = await self._submit(
                self._prepared, self._started, self._deadline, lambda: self._abandoned
            )
        except Exception as error:  # noqa: BLE001 - the waiter for the outcome has it
            self._error = error
        finally:
            self._done.set()

    async def outcome(self) -> Outcome:
        """Wait for its outcome; a caller who is cancelled here has left."""
        try:
            await self._done.wait()
        except BaseException:
            self._abandoned = True
            raise
        if self._outcome is not None:
            return self._outcome
        raise self._error or OutcomeUnknown("the sending was broken off, as the event loop ended")
