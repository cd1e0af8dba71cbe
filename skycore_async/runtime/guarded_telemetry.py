"""Work that is reported to telemetry, and that telemetry can neither interrupt nor undo.

Rule: what telemetry raises before, during or after the work is logged by its type, and goes no
further.  The message is sent, or the postback stored, all the same.
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
    """Context manager that yields the operation `begin` returns, if any; `what` names the work."""

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
        """Call `step` with the operation, if there is one."""
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
        """Log an error that telemetry raised and go on; re-raise what ends this task."""
        if not is_accident(raised):
            raise raised
        log.error("%s could not be traced: %s", self._what, type(raised).__name__)
