"""A string that does not show itself.

Tracebacks, logs and debuggers print the `repr` of whatever they find in a
frame; a key kept in a `Secret` from the first line on is not among it.
"""

from __future__ import annotations

from html import escape
from typing import Final
from urllib.parse import quote_plus

# A shorter one, as tests have, would be found inside other words.
_SHORTEST_TO_HIDE: Final = 8


class Secret:
    """Hold a secret string; `reveal` gives it, `hide_in` uses it, nothing else does."""

    __slots__ = ("_value", "_written")

    def __init__(self, value: str) -> None:
        self._value = value
        self._written: frozenset[bytes] | None = None

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def hide_in(self, document: bytes) -> bytes:
        """Mask the secret in what someone else wrote, plain or escaped as XML or a URL has it.

        A secret of fewer than 8 characters is left alone.
        """
        if self._written is None:
            self._written = _forms(self._value)
        for form in self._written:
            if form in document:
                document = document.replace(form, b"***")
        return document

    def __repr__(self) -> str:
        return "Secret('***')"

    def __reduce__(self) -> tuple[type, tuple[()]]:
        raise TypeError("a Secret is not pickled, lest it be written somewhere")


def _forms(value: str) -> frozenset[bytes]:
    """Return each way in which a secret may be written in an answer."""
    if len(value) < _SHORTEST_TO_HIDE:
        return frozenset()
    written = (value, escape(value, quote=False), escape(value), quote_plus(value))
    return frozenset(form.encode() for form in written)
