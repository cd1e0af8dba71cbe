"""The log of this package, which costs no message anything.

Rule: what a filter or a handler of the program raises ends here.  A record is made where
an outcome is on its way to the ledger and to its caller, and both come first.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any, Final


class _Logger(logging.LoggerAdapter[logging.Logger]):
    """A logger that raises nothing."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log, with the caller's place and not this one."""
        try:
            super().log(level, msg, *args, **{**kwargs, "stacklevel": 2})
        except Exception as error:  # noqa: BLE001 - whatever it is, see above
            report(error)


log: Final = _Logger(logging.getLogger("skycore_async"))
log.logger.addHandler(logging.NullHandler())  # a program without logging stays quiet


def report(error: Exception) -> None:
    """Say on stderr what logging raised, by its type and place, as `logging` itself does.

    Not its text, which may hold what was logged; and nothing where `logging.raiseExceptions`
    is off.
    """
    if not logging.raiseExceptions or sys.stderr is None:
        return
    where = "".join(traceback.format_tb(error.__traceback__, limit=-1))
    try:
        sys.stderr.write(f"skycore_async: logging raised {type(error).__name__}\n{where}")
    except Exception:  # noqa: BLE001 - nobody is left to be told
        return
