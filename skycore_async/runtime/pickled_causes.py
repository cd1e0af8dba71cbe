"""The cause of an exception, pickled separately from the exception.

Rule: another library's exception may fail to pickle or unpickle in any way; it is then left out,
and the error whose cause it is pickles all the same.
"""

from __future__ import annotations

import pickle


def packed(cause: BaseException | None) -> bytes | None:
    """Return a cause as bytes; None if there is none, or it cannot be pickled."""
    try:
        return None if cause is None else pickle.dumps(cause)
    except Exception:  # noqa: BLE001
        return None


def unpacked(cause: bytes) -> BaseException | None:
    """Return the cause from its bytes; None if it cannot be unpickled."""
    try:
        made: BaseException = pickle.loads(cause)  # noqa: S301 - part of what is being read
    except Exception:  # noqa: BLE001
        return None
    return made
