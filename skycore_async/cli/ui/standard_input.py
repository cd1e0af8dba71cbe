"""Arguments that may stand for standard input."""

from __future__ import annotations

import sys

from .output import fail


def text_of(argument: str) -> str:
    """Return the text that an argument stands for: itself, or standard input for `-`."""
    if argument != "-":
        return argument
    given = sys.stdin.buffer.read()
    try:
        text = given.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fail(f"standard input is no UTF-8: {error.reason} at byte {error.start}")
    return text.removesuffix("\n").removesuffix("\r")
