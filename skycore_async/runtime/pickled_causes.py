"""The cause of an exception, as bytes by itself.

Rule: a foreign exception may fail to pickle, or to be made again, in any way; it is left behind
then, and costs the error that has it nothing.
"""

from __future__ import annotations

import pickle


def packed(cause: BaseException | None) -> bytes | None:
    """Return a cause as bytes; None where there is none, or it cannot be pickled."""
    try:
        return None if cause is None else pickle.dumps(cause)
    except Exception:  # noqa: BLE001
        return None


def unpacked(cause: bytes) -> BaseException | None:
    """Return the cause again; None where it cannot be made again."""
    try:
        made: BaseException = pickle.loads(cause)  # noqa: S301 - part of what is being read
    except Exception:  # noqa: BLE001
        return None
    return made
