"""What `skycore segments` does: count the segments of a text, and show what forces UCS-2."""

from __future__ import annotations

from typing import Final

from ...protocol.segments import Segments, describe, segments
from ..ui.output import emit, printable, say
from ..ui.tables import console, show_table

_SHOWN: Final = 8  # positions of one character, which may stand a hundred times


def show_segments(text: str, *, as_json: bool) -> None:
    """Print how many segments a text takes, and which characters force UCS-2."""
    cost = segments(text)
    if as_json:
        _emit(cost)
    else:
        _print(cost)


def _emit(cost: Segments) -> None:
    forced = [
        {
            "position": one.position,
            "character": one.character,
            "name": describe(one.character),
        }
        for one in cost.forced_ucs2
    ]
    emit(
        {
            "segments": cost.count,
            "encoding": cost.encoding,
            "units": cost.units,
            "characters_left": cost.characters_left,
            "forced_ucs2": forced,
        }
    )


def _print(cost: Segments) -> None:
    lines = {
        "segments": cost.count,
        "encoding": cost.encoding,
        "characters left": cost.characters_left,
    }
    for name, value in lines.items():
        say(f"{name:<17}{value}")
    positions: dict[str, list[int]] = {}
    for one in cost.forced_ucs2:
        positions.setdefault(one.character, []).append(one.position)
    if positions:
        say("\nNot in GSM 03.38, so that all of it is sent in UCS-2:\n")
        rows = [(printable(c), describe(c), _some(places)) for c, places in positions.items()]
        show_table(console(), ("character", "name", "position"), rows)


def _some(positions: list[int]) -> str:
    shown = ", ".join(map(str, positions[:_SHOWN]))
    more = len(positions) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
