"""An estimate in lines for people, as they are printed before anything is sent.

Rules:

* Every example has its line number.
* "to send" counts what goes out now; the lines under it count the other rows by what became of
  them.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Final

from ..ui.outcome_kinds import OutcomeKind
from ..ui.output import number_of
from .estimate import Estimate, Share, duration

_COUNTRIES: Final = 8
_SHOWN: Final = 500  # characters of a text: a screen has to hold the rest of the estimate, too
_WIDTH: Final = 13  # of the name that a line begins with
# The words for rows with a recorded outcome; those with `NOT_SENT` are to be sent.
_KNOWN: Final = MappingProxyType(
    {
        OutcomeKind.ACCEPTED: ("done before", ""),
        OutcomeKind.ALREADY_SENT: ("sent before", " with another text, number or sender"),
        OutcomeKind.IN_DOUBT: ("in doubt", " by the ledger: not sent again"),
        OutcomeKind.REFUSED: ("refused", " before: not sent again"),
        OutcomeKind.OPTED_OUT: ("opted out", ": not sent to"),
    }
)


def preview(estimate: Estimate) -> Iterator[str]:
    """Say an estimate in lines, as they are printed before anything is sent."""
    yield _line("rows", f"{estimate.rows:,}")
    yield from _to_send(estimate)
    for known, count in estimate.known.items():
        name, detail = _KNOWN[known]
        yield _line(f"  {name}", f"{count:,}{detail}")
    for kind, refused in estimate.refused.items():
        yield _line(f"  {kind}", f"{refused.count:,}")
        for one in refused.first:
            yield f"    line {one.line}: {one.reason}"
        if refused.count > len(refused.first):
            yield f"    and {refused.count - len(refused.first):,} more"
    yield from _numbers(estimate)
    if estimate.sample is not None:
        # As a Python literal: the text may contain what a terminal takes for commands.
        text = estimate.sample.reason
        cut = f"{text[:_SHOWN]!r} and {len(text) - _SHOWN:,} characters more"
        shown = repr(text) if len(text) <= _SHOWN else cut
        yield _line("first text", f"{shown} (line {estimate.sample.line})")
    yield from _cut(estimate)
    if estimate.cost is not None:
        yield _line("estimate", f"{estimate.cost:,.2f} at {estimate.price} a segment")
    if estimate.seconds is not None:
        yield _line("time", f"{duration(estimate.seconds)} at {estimate.rate:g} a second")


def _to_send(estimate: Estimate) -> Iterator[str]:
    yield _line("  to send", f"{estimate.to_send:,}")
    if estimate.resent:
        yield _line(
            "  in doubt",
            f"{estimate.resent:,} of these: who has one already gets it twice, and you pay twice",
        )
    if estimate.held_back:
        yield _line(
            "  later", f"{estimate.held_back:,} more than --limit: the next runs send them"
        )
    if (seen := estimate.hours) is not None:
        yield _line("  not yet", f"{seen.outside:,} of these: hours are {seen.hours}")


def _cut(estimate: Estimate) -> Iterator[str]:
    yield _line("segments", f"{estimate.segments:,}")
    for encoding, share in estimate.encodings.items():
        yield _line(f"  {encoding}", _share(share))
    if estimate.forcing:
        yield "UCS-2 takes more segments, and is needed for"
    for character in estimate.forcing:
        often = number_of(character.messages, "message")
        yield f"    {character.name}: {often}, first on line {character.first_line}"


def _numbers(estimate: Estimate) -> Iterator[str]:
    if estimate.countries:
        yield _line("countries", _codes(estimate.countries, counted=True))
    if (ten := estimate.ten_digits) is not None:
        have = "number has" if ten.count == 1 else "numbers have"
        yield (
            f"{ten.count:,} {have} ten digits and no + (first on line {ten.first_line}): with"
            f" --country US they are American; without it they go to {_codes(ten.countries)}"
        )


def _codes(countries: dict[str, int], *, counted: bool = False) -> str:
    shown = [f"+{code} ({n:,})" if counted else f"+{code}" for code, n in countries.items()]
    more = len(shown) - _COUNTRIES
    return ", ".join(shown[:_COUNTRIES]) + (f" and {more:,} more" if more > 0 else "")


def _line(name: str, value: str) -> str:
    return f"{name:<{_WIDTH}} {value}"


def _share(share: Share) -> str:
    said = f"{share.segments:,} in {number_of(share.messages, 'message')}"
    if share.longest > 1:
        said += f", at most {share.longest} for one (line {share.longest_line})"
    return said
