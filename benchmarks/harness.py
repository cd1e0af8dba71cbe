"""How benchmarks measure: both sides in one run, by turns, and the ratio of their medians.

Machines drift and are shared.  Two sides that are measured by turns drift together,
and a median of several rounds ignores a single slow one.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Final

import attrs

ROUNDS: Final = 11


@attrs.frozen(kw_only=True)
class Figure:
    """One line of the table: a ratio, or a figure by itself, and its bound."""

    measured: str
    ours: str
    against: str
    ratio: str
    bound: str
    holds: bool


def medians(
    ours: Callable[[], float], theirs: Callable[[], float], *, rounds: int = ROUNDS
) -> tuple[float, float]:
    """Measure both sides by turns, after a round to warm up, and return their medians."""
    _warm_up = ours(), theirs()
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


def at_most(
    bound: float, measured: str, *, ours: float, theirs: float, unit: str, against: str
) -> Figure:
    """Make the figure of something that may cost `bound` times as much as its peer."""
    sides = f"{ours:,.1f} {unit}", f"{against}: {theirs:,.1f} {unit}"
    ratio = ours / theirs
    return _compared(measured, sides, ratio, f"at most {bound:g}", holds=ratio <= bound)


def at_least(
    bound: float, measured: str, *, ours: float, theirs: float, unit: str, against: str
) -> Figure:
    """Make the figure of something that must do `bound` times as much as its peer."""
    sides = f"{ours:,.0f} {unit}", f"{against}: {theirs:,.0f} {unit}"
    ratio = ours / theirs
    return _compared(measured, sides, ratio, f"at least {bound:g}", holds=ratio >= bound)


def _compared(
    measured: str, sides: tuple[str, str], ratio: float, bound: str, *, holds: bool
) -> Figure:
    ours, against = sides
    return Figure(
        measured=measured,
        ours=ours,
        against=against,
        ratio=f"{ratio:.2f}",
        bound=bound,
        holds=holds,
    )


def at_most_absolute(bound: float, measured: str, value: float, unit: str) -> Figure:
    """Make the figure of something that may cost so much by itself."""
    return Figure(
        measured=measured,
        ours=f"{value:,.1f} {unit}",
        against="",
        ratio="",
        bound=f"at most {bound:g} {unit}",
        holds=value <= bound,
    )


def at_least_absolute(bound: float, measured: str, value: float, unit: str) -> Figure:
    """Make the figure of something that must do so much by itself."""
    return Figure(
        measured=measured,
        ours=f"{value:,.0f} {unit}",
        against="",
        ratio="",
        bound=f"at least {bound:,.10g} {unit}",
        holds=value >= bound,
    )


def without_peer(measured: str, peer: str) -> Figure:
    """Make the line of what was to be compared with a peer that is not there."""
    return Figure(measured=measured, ours="", against=peer, ratio="", bound="", holds=True)


def machine(*packages: str) -> str:
    """Describe what the figures were measured on."""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {versions};"
        f" {os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    )


def table(figures: Iterable[Figure]) -> str:
    """Write figures as a Markdown table."""
    rows = [("measured", "ours", "against", "ratio", "bound", "")]
    rows += [
        (f.measured, f.ours, f.against, f.ratio, f.bound, "" if f.holds else "MISSED")
        for f in figures
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def peak() -> int:
    """Return the most bytes that were resident in this process so far."""
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    import resource  # noqa: PLC0415 - not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
