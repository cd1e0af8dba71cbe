"""Other versions of Python, as far as they could matter to a ledger.

Strategy: `repr` and hashes differ from process to process: one version of Python shows a
character that the other does not know yet, and escapes.

Rule: the first process has the first version of the package, whose digests of content were made
from the `repr` of its Python.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from hashlib import blake2b
from unittest import mock

from skycore_async import SMS
from skycore_async.cli.bulk import lookup
from skycore_async.ledger import content, version_1_digests
from skycore_async.sending import prepare

from .provider import NEW

# What a message was to the first version, in the order of its digests.
_FIELDS = ("to", "text", "from_", "campaign_ref", "spid", "operator_id", "from_mask")
_ESCAPED = ascii(NEW)[1:-1]


def _newer(value: object) -> str:
    return repr(value).replace(_ESCAPED, NEW)


def _older(value: object) -> str:
    return repr(value).replace(NEW, _ESCAPED)


@contextlib.contextmanager
def another_python(number: int) -> Iterator[None]:
    """Have the process of this number run by another version than those beside it."""
    shows = _older if number % 2 else _newer
    with contextlib.ExitStack() as stack:
        for module in (content, version_1_digests):
            stack.enter_context(mock.patch.object(module, "repr", shows, create=True))
        hashes = mock.patch.object(content, "hash", lambda of: hash((number, of)), create=True)
        stack.enter_context(hashes)
        if not number:
            for of in (prepare, lookup):
                stack.enter_context(mock.patch.object(of, "content_of", _of_first_version(shows)))
        yield


def _of_first_version(shows: Callable[[object], str]) -> Callable[[SMS], bytes]:
    def content_of(resolved: SMS) -> bytes:
        shown = shows(tuple(getattr(resolved, name) for name in _FIELDS))
        return blake2b(shown.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    return content_of
