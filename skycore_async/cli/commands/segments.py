"""`skycore segments`: how many segments a text takes, and which characters force UCS-2."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from ..ui.output import Exit, console, emit, fail, json_option

if TYPE_CHECKING:
    from ...protocol.segments import Segments

_SHOWN: Final = 8  # positions of one character, which may stand a hundred times


@click.command()
@click.argument("text", required=False)
@json_option
def segments(text: str | None, *, as_json: bool) -> None:
    """Show how many segments a text takes, and why.

    Each segment is sent and billed as one SMS.  A text is sent in GSM 03.38
    (160 characters, or 153 in each of several segments) unless one character is
    not in that alphabet: then all of it is sent in UCS-2 (70, or 67).  Those
    characters are listed, with their positions, counted from 0.

    TEXT `-`, or none, reads standard input, without the line break at its end.

    \b
    Examples:
      skycore segments "Ça coûte combien ?"
      skycore segments < message.txt

    Exit codes: 0 done, 2 wrong usage.
    """  # noqa: D301 - \b is click's mark for lines that it does not wrap
    if text is None and sys.stdin.isatty():
        raise click.UsageError("Give a TEXT, or pipe one in.")
    cost = _cost(text_of("-" if text is None else text))
    if as_json:
        emit(cost)
    else:
        _show(cost)


def text_of(argument: str) -> str:
    """Return the text that an argument stands for: itself, or standard input for `-`."""
    if argument != "-":
        return argument
    given = sys.stdin.buffer.read()
    try:
        text = given.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fail(f"standard input is no UTF-8: {error.reason} at byte {error.start}", Exit.USAGE)
    return text.removesuffix("\n").removesuffix("\r")


def _cost(text: str) -> dict[str, Any]:
    from ...protocol.segments import describe
    from ...protocol.segments import segments as cut

    cost: Segments = cut(text)
    return {
        "segments": cost.count,
        "encoding": cost.encoding,
        "units": cost.units,
        "characters_left": cost.characters_left,
        "forced_ucs2": [
            {
                "position": forced.position,
                "character": forced.character,
                "name": describe(forced.character),
            }
            for forced in cost.forced_ucs2
        ],
    }


def _show(cost: dict[str, Any]) -> None:
    from ..ui.tables import printable, show_table

    lines = {
        "segments": cost["segments"],
        "encoding": cost["encoding"],
        "characters left": cost["characters_left"],
    }
    for name, value in lines.items():
        click.echo(f"{name:<17}{value}")
    positions: dict[tuple[str, str], list[int]] = {}
    for forced in cost["forced_ucs2"]:
        positions.setdefault((forced["character"], forced["name"]), []).append(forced["position"])
    if positions:
        click.echo("\nNot in GSM 03.38, so that all of it is sent in UCS-2:\n")
        rows = [(printable(c), name, _some(places)) for (c, name), places in positions.items()]
        show_table(console(), ("character", "name", "position"), rows)


def _some(positions: list[int]) -> str:
    shown = ", ".join(map(str, positions[:_SHOWN]))
    more = len(positions) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
