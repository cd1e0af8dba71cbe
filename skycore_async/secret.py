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

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the secret itself."""
        return self._value

    def hide_in(self, document: bytes) -> bytes:
        """Mask the secret in what someone else wrote, plain or escaped as XML or a URL has it.

        A secret of fewer than 8 characters is left alone.
        """
        if len(self._value) < _SHORTEST_TO_HIDE:
            return document
        written = (self._value, escape(self._value, quote=False), escape(self._value))
        for form in {*written, quote_plus(self._value)}:
            document = document.replace(form.encode(), b"***")
        return document

    def __repr__(self) -> str:
        return "Secret('***')"

    def __reduce__(self) -> tuple[type, tuple[()]]:
        raise TypeError("a Secret is not pickled, lest it be written somewhere")
