"""Work that telemetry is told of, and that telemetry can neither break off nor undo.

Rule: what telemetry raises, before, during or after the work, is logged by its type and ends
there.  A message is sent and a postback is taken in all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Generic, Self, TypeVar

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
        except Exception as error:  # noqa: BLE001 - whatever it is, the work goes on
            self._log(error)
        else:
            self._around = around
        return self

    def tell(self, step: Callable[[T], object]) -> None:
        """Do `step` with the operation, where there is one."""
        if self._around is None:
            return
        try:
            step(self._operation)
        except Exception as error:  # noqa: BLE001 - the same
            self._log(error)

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
        except Exception as raised:  # noqa: BLE001 - the same
            self._log(raised)

    def _log(self, error: Exception) -> None:
        log.error("%s could not be traced: %s", self._what, type(error).__name__)
