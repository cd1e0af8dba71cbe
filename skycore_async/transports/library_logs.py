"""What HTTP libraries log of an exchange, without key, number and text, and without harm.

Strategy: a filter, the first of its logger, masks a record and hands it on itself.

Rules:

* Of a URL that has the API key in it nothing is left behind the key; of another text that has
  it, as a document has, nothing at all.
* The keys of clients are masked wherever they stand, as in a header of somebody else's making.
* What a filter or handler of the program raises ends here.  Libraries log in the middle of an
  exchange, and it would take the answer with it.
"""

from __future__ import annotations

import logging
import re
from typing import Final
from weakref import WeakValueDictionary

from ..runtime.logs import report
from ..runtime.secret import Secret

# The key of a GET and all behind it, in its URL or in a URL that has that one in its own query.
_IN_URL: Final = re.compile(r"(api_key(?:=|%(?:25){0,3}3D))[^\s'\"]*", re.IGNORECASE)
# Anywhere else, as in a document that an answer repeats, plain or escaped.
_ELSEWHERE: Final = re.compile(r"(api_key)(?!=|%(?:25){0,3}3D|\w).*", re.IGNORECASE | re.DOTALL)
# Of a proxy, in its URL.
_PASSWORD: Final = re.compile(r"(://)[^/@\s'\"]*@")
# How httpcore shows an exception, which quotes what came.
_EXCEPTION: Final = re.compile(r"(exception=\w+)\(.*", re.DOTALL)


# Without a lock, which a process that is forked would find held.
_keys: Final[WeakValueDictionary[int, Secret]] = WeakValueDictionary()


def hide_key(key: Secret) -> None:
    """Mask a key in what libraries log, for as long as it is there."""
    _keys[id(key)] = key


def _without_keys(text: str) -> str:
    document = text.encode(errors="surrogatepass")
    for key in filter(None, (held() for held in _keys.valuerefs())):
        document = key.hide_in(document)
    return document.decode(errors="surrogatepass")


def without_secrets(text: str) -> str:
    """Return `text` with asterisks for API keys and what follows, and for passwords in URLs."""
    text = _ELSEWHERE.sub(r"\1***", _IN_URL.sub(r"\1***", text))
    return _EXCEPTION.sub(r"\1(***)", _PASSWORD.sub(r"\1***@", text))


class _Mask(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "is_masked_by_skycore", False):
            return True
        record.is_masked_by_skycore = True
        try:
            message = record.getMessage()
            if (hidden := _without_keys(without_secrets(message))) != message:
                record.msg, record.args = hidden, None
            logging.getLogger(record.name).handle(record)
        except Exception as error:  # noqa: BLE001 - see above
            report(error)
        return False  # it was handled


_MASK: Final = _Mask()


def mask_library_logs(*loggers: str) -> None:
    """Mask what these loggers are given; naming one twice is no matter."""
    for name in loggers:
        logger = logging.getLogger(name)
        if _MASK not in logger.filters:
            logger.filters.insert(0, _MASK)
