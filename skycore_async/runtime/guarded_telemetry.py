"""Work that telemetry is told of, and that telemetry can neither break off nor undo.

Rule: what telemetry raises, before, during or after the work, is logged by its type and ends
there.  A message is sent and a postback is taken in all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Generic, Self, TypeVar

from .event_loop import is_accident
from .logs import log

T = TypeVar("T")


class GuardedTelemetry(Generic[T]):
    """Context manager: the operation that `begin` returns, if any; `what` names the work."""

    def __init__(self, begin: Callable[[], AbstractContextManager[T]], *, what: str) -> None:
        self._begin = begin
        self._what = what
        self._around: AbstractContextManager[T] | None = None

    def __enter__(self) -> Self:
        try:
            around = self._begin()
            self._operation = around.__enter__()
        except BaseException as raised:  # noqa: BLE001 - `_log` raises it again, or the work goes on
            self._log(raised)
        else:
            self._around = around
        return self

    def tell(self, step: Callable[[T], object]) -> None:
        """Do `step` with the operation, where there is one."""
        if self._around is None:
            return
        try:
            step(self._operation)
        except BaseException as raised:  # noqa: BLE001 - the same
            self._log(raised)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._around is None:
            return
        try:
            self._around.__exit__(kind, error, traceback)
        except BaseException as raised:  # noqa: BLE001 - the same
            self._log(raised)

    def _log(self, raised: BaseException) -> None:
        """Log it and go on, where it is telemetry's and not the end of this task."""
        if not is_accident(raised):
            raise raised
        log.error("%s could not be traced: %s", self._what, type(raised).__name__)
