"""The log of this package, whose failures affect no message.

Rule: an exception from a filter or a handler of the program goes no further than this module.
Records are made while an outcome is on its way to the ledger and to the caller, and both of
these matter more.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any, Final


class _Logger(logging.LoggerAdapter[logging.Logger]):
    """A logger that raises nothing."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a record that names the caller's file and line instead of this function's."""
        try:
            super().log(level, msg, *args, **{**kwargs, "stacklevel": 2})
        except Exception as error:  # noqa: BLE001 - whatever it is, see above
            report(error)


log: Final = _Logger(logging.getLogger("skycore_async"))
log.logger.addHandler(logging.NullHandler())  # a program without logging stays quiet


def report(error: Exception) -> None:
    """Write an error that logging raised to stderr, by type and place, as `logging` itself does.

    Its text is left out, since it may hold what was logged.  Nothing is written if
    `logging.raiseExceptions` is off.
    """
    if not logging.raiseExceptions or sys.stderr is None:
        return
    where = "".join(traceback.format_tb(error.__traceback__, limit=-1))
    try:
        sys.stderr.write(f"skycore_async: logging raised {type(error).__name__}\n{where}")
    except Exception:  # noqa: BLE001 - nobody is left to be told
        return
