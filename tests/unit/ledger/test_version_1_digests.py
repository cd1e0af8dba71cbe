"""Content digests of version 1, whichever Python made them."""

from __future__ import annotations

import time
from hashlib import blake2b

import pytest

from skycore_async.ledger.version_1_digests import is_digest_of

PINK = "\U0001fa77"  # of Unicode 15, which Python 3.11 escapes and 3.12 shows
STOP = "\U0001f6d1"  # of Unicode 9
VAI = "\ua500"  # of Unicode 5.1


def digest(shown: str) -> bytes:
    return blake2b(shown.encode(), digest_size=16).digest()


def fields(text: str) -> tuple[str | None, ...]:
    return ("15551234888", text, "60856", None, None, None, None)


TEXTS: dict[str, tuple[str, str]] = {
    "a new character, shown": (f"I {PINK} you", f"'I {PINK} you'"),
    "a new character, escaped": (f"I {PINK} you", "'I \\U0001fa77 you'"),
    "an older one, escaped": (f"{STOP}{STOP}", "'\\U0001f6d1\\U0001f6d1'"),
    "one of each": (f"{STOP} {PINK}", f"'{STOP} \\U0001fa77'"),
    "one of the first plane": (VAI, "'\\ua500'"),
    "between quotes": (f"it's {PINK}", f'"it\'s {PINK}"'),
    "between both quotes": (f'it\'s "{PINK}"', f"'it\\'s \"{PINK}\"'"),
    "quotes apart": (f'it\'s{PINK}"a"', f"'it\\'s{PINK}\"a\"'"),
    "a backslash and a line": (f"\\U0001fa77{PINK}\n", f"'\\\\U0001fa77{PINK}\\n'"),
    "no new one": ("caf\u00e9", "'caf\u00e9'"),
}


@pytest.mark.parametrize(("text", "shown"), TEXTS.values(), ids=TEXTS)
def test_a_digest_is_known_again_whichever_python_took_it(text: str, shown: str) -> None:
    """A digest with new characters shown or escaped is known; another text is not."""
    taken = digest(f"('15551234888', {shown}, '60856', None, None, None, None)")
    assert is_digest_of(taken, fields(text))
    assert not is_digest_of(taken, fields(f"{text}!"))
    assert not is_digest_of(taken, fields(f"{text}{STOP}"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello",
        "it's",
        'say "hi"',
        'it\'s "both"',
        "\\ \n \t \x00 \x7f \u00a0 \u200b",
        "\u4f60\u597d",
    ],
)
def test_a_digest_made_by_this_python_is_known(text: str) -> None:
    """A digest made by this Python is known, also with escaped characters."""
    assert is_digest_of(digest(repr(fields(text))), fields(text))
    assert is_digest_of(digest(repr(fields(text + STOP))), fields(text + STOP))


def test_many_new_characters_take_little_time() -> None:
    """A text with too many new characters to try is soon called another one."""
    text = "".join(chr(0x1F900 + n) for n in range(100))
    began = time.perf_counter()
    assert not is_digest_of(b"\0" * 16, fields(text))
    assert time.perf_counter() - began < 2
