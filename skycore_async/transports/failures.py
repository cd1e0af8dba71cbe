"""What the transports say of an exchange that failed, without a word of the API key.

Rules:

* An error of ours has a copy of the library's as its cause, without the frames:
  their locals hold the request, and with it the API key.
* So it must be raised outside the `except` block that caught the library's,
  whose frames the context would keep.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import Final

from ..errors import NotSent, OutcomeUnknown


def failed(raised: Exception, *, not_sent: bool) -> NotSent | OutcomeUnknown:
    """Make the error for an exchange that `raised` ended; `not_sent` says it is proven so."""
    what = masked(f"{type(raised).__name__}: {raised}" if str(raised) else type(raised).__name__)
    error = NotSent(f"no connection: {what}") if not_sent else OutcomeUnknown(f"no answer: {what}")
    error.__cause__ = _without_frames(raised, what)
    return error


def timed_out(timeout: float, *, not_sent: bool) -> NotSent | OutcomeUnknown:
    """Make the error for an exchange that took too long; `not_sent` says it is proven so."""
    if not_sent:
        return NotSent(f"no connection within {timeout:.2g} seconds")
    return OutcomeUnknown(f"no answer within {timeout:.2g} seconds")


def _without_frames(raised: Exception, what: str) -> Exception:
    # Arguments that are no text may be objects that hold a URL or a password.
    if all(isinstance(arg, str) for arg in raised.args):
        with suppress(Exception):
            return type(raised)(*map(masked, raised.args))
    return RuntimeError(what)


# Of a GET, in its URL or in a Location that has that URL in its own query.
_KEY: Final = re.compile(
    r"(api_key=)[^&#\s'\"]*|(api_key%3D)(?:(?!%26)[^&#\s'\"])*", re.IGNORECASE
)
# Of a proxy, in its URL.
_PASSWORD: Final = re.compile(r"(://)[^/@\s'\"]*@")


def masked(text: str) -> str:
    """Return `text` with asterisks for every API key and every user and password in a URL."""
    return _PASSWORD.sub(r"\1***@", _KEY.sub(r"\1\2***", text))


class _KeyMask(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if (hidden := masked(message)) != message:
            record.msg, record.args = hidden, None
        return True


_KEY_MASK: Final = _KeyMask()


def mask_keys_in_logs(*loggers: str) -> None:
    """Mask the API key in what these loggers are given; naming one twice is no matter."""
    for name in loggers:
        logging.getLogger(name).addFilter(_KEY_MASK)
