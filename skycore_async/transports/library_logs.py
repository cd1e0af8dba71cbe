"""Keep keys, numbers and texts out of what HTTP libraries log of an exchange.

Strategy: a filter, the first of each logger, masks a record and passes it on itself.

Rules:

* A URL with the API key in it is cut off at the key; any other text with the key, such as a
  document, is left out whole.
* The keys of clients are masked wherever they are, for example in somebody else's header.
* An exception from a filter or handler of the program goes no further than this module: libraries
  log in the middle of an exchange, and its answer would be lost.
"""

from __future__ import annotations

import logging
import re
from typing import Final
from weakref import WeakValueDictionary

from ..runtime.logs import report
from ..runtime.secret import Secret

# The key of a GET and all after it, in its URL or in a URL with that URL in its query.
_IN_URL: Final = re.compile(r"(api_key(?:=|%(?:25){0,3}3D))[^\s'\"]*", re.IGNORECASE)
# A key anywhere else, as in a document that an answer repeats, plain or escaped.
_ELSEWHERE: Final = re.compile(r"(api_key)(?!=|%(?:25){0,3}3D|\w).*", re.IGNORECASE | re.DOTALL)
# The password of a proxy in its URL.
_PASSWORD: Final = re.compile(r"(://)[^/@\s'\"]*@")
# httpcore's form of an exception, which quotes received bytes.
_EXCEPTION: Final = re.compile(r"(exception=\w+)\(.*", re.DOTALL)


# Without a lock, since a forked process could find it held.
_keys: Final[WeakValueDictionary[int, Secret]] = WeakValueDictionary()


def hide_key(key: Secret) -> None:
    """Mask a key in what libraries log, for as long as the key object lives."""
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
    """Mask the records of these loggers; a logger may be named twice."""
    for name in loggers:
        logger = logging.getLogger(name)
        if _MASK not in logger.filters:
            logger.filters.insert(0, _MASK)
