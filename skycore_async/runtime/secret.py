"""A string that does not show itself.

Tracebacks, logs and debuggers print the `repr` of whatever they find in a frame; they cannot
print a key that is kept in a `Secret` from the first line on.

A text from elsewhere may repeat the secret in any encoding: each character may be escaped by
itself, or be wider than a byte.  So the secret is looked for by a pattern of these encodings,
and as a whole in hexadecimal and base64.
"""

from __future__ import annotations

import re
from base64 import b64encode
from html.entities import codepoint2name
from typing import Final

# A shorter secret, as tests have, would be found inside other words.
_SHORTEST_TO_HIDE: Final = 8
# A text without any of these has no escaped character.
_MARK: Final = re.compile(rb"[&%\\=\0+]")


class Secret:
    """Hold a secret string; only `reveal` returns it, and only `hide_in` uses it."""

    __slots__ = ("__weakref__", "_escaped", "_value", "_whole")

    def __init__(self, value: str) -> None:
        self._value = value
        self._whole: tuple[bytes, ...] | None = None
        self._escaped: re.Pattern[bytes] | None = None

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    @property
    def is_utf8(self) -> bool:
        """Whether the secret can be encoded as UTF-8; a value from the environment may not be."""
        try:
            self._value.encode()
        except UnicodeEncodeError:  # which has the secret in it, and ends here
            return False
        return True

    def hide_in(self, document: bytes) -> bytes:
        """Mask the secret in a text from elsewhere: plain, escaped or encoded, in any case.

        A secret of fewer than 8 characters is left alone.
        """
        if len(document) < len(self._value):
            return document  # it is in none of these ways shorter than it is
        if self._whole is None:
            self._whole = _encoded(self._value)
        if self._whole:
            lower = document.lower()
            for form in self._whole:
                if form in lower:
                    document = re.sub(re.escape(form), b"***", document, flags=re.IGNORECASE)
            if _MARK.search(document):
                self._escaped = self._escaped or _pattern(self._value)
                document = self._escaped.sub(b"***", document)
        return document

    def __repr__(self) -> str:
        return "Secret('***')"

    def __reduce__(self) -> tuple[type, tuple[()]]:
        raise TypeError("a Secret is not pickled, lest it be written somewhere")


def _encoded(value: str) -> tuple[bytes, ...]:
    """Return the secret as it is, in hexadecimal and in base64, all in lower case."""
    if len(value) < _SHORTEST_TO_HIDE:
        return ()
    plain = value.encode()
    # In base64, the digits that share no bit with the surrounding text, for each place in a
    # group of three bytes where the secret may begin.
    in_base64 = {
        b64encode(bytes(before) + plain + bytes(2), altchars)[
            -(-before * 8 // 6) : (before + len(plain)) * 8 // 6
        ].lower()
        for before in range(3)
        for altchars in (b"+/", b"-_")
    }
    return tuple({plain.lower(), plain.hex().encode(), *in_base64})


def _pattern(value: str) -> re.Pattern[bytes]:
    # The zero bytes are those of UTF-16 and UTF-32.  No repetition is unbounded, so that no
    # answer takes long to search.
    written = rb"\0{0,3}".join(map(_written, value))
    return re.compile(written, re.IGNORECASE)


def _written(character: str) -> bytes:
    """Return a pattern for the ways in which a character may be encoded."""
    number = ord(character)
    code = rb"0{0,8}%d" % number
    hexadecimal = rb"%x" % number
    name = codepoint2name.get(number, "apos" if character == "'" else "")
    ways = [
        # XML and HTML, and once more escaped.
        rb"&(?:amp;){0,3}#(?:%s|x0{0,8}%s);?" % (code, hexadecimal),
        *([rb"&(?:amp;){0,3}%s;" % name.encode()] if name else []),
        # URLs, and quoted-printable.
        b"".join(rb"[%%=](?:25){0,3}%02x" % byte for byte in character.encode()),
        *([rb"\+"] if character == " " else []),
        # JSON and programming languages.
        rb"\\{1,4}(?:u00%02x|u\{0{0,8}%s\}|x%02x|0?%03o|%s)"
        % (number, hexadecimal, number, number, re.escape(character.encode())),
        # The plain character comes last, since the others may begin with it.
        re.escape(character.encode()),
    ]
    return b"(?:%s)" % b"|".join(ways)
