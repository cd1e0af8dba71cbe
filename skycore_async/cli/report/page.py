"""A report's figures as one page that needs nothing else to be shown."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from string import Template
from typing import Final

from ...codes import Scope
from ...ledger.model import MessageState
from ...version import __version__
from .charts import (
    Bar,
    ChartKind,
    Column,
    bars,
    columns,
    counted,
    duration,
    moment,
    share,
    strip,
    words,
)
from .counters import MOST
from .data import Figures

_S: Final = MessageState
DELIVERED: Final = ChartKind("Delivered", "delivered")
ON_THE_WAY: Final = ChartKind("On the way", "on-the-way")
FAILED: Final = ChartKind("Failed", "failed")
REFUSED: Final = ChartKind("Refused", "refused")
IN_DOUBT: Final = ChartKind("In doubt", "in-doubt")
NOT_SENT: Final = ChartKind("Not sent", "not-sent")

# In the order in which they are shown, with what each of them means.
KINDS: Final[dict[ChartKind, tuple[tuple[MessageState, ...], str]]] = {
    DELIVERED: ((_S.DELIVERED,), "a receipt says so"),
    ON_THE_WAY: ((_S.SENDING, _S.ACCEPTED, _S.SENT), "no final receipt yet"),
    FAILED: ((_S.FAILED,), "a receipt says so"),
    REFUSED: ((_S.REJECTED,), "by Skycore, not billed"),
    IN_DOUBT: ((_S.IN_DOUBT,), "may have been sent"),
    NOT_SENT: ((_S.NOT_SENT,), "safe to send again"),
}

_SCOPES: Final = {
    Scope.ACCOUNT: "for the whole account",
    Scope.CAMPAIGN: "for the campaign",
    Scope.SENDER: "for the sender",
    Scope.THROTTLE: "for the pace",
}


def page(figures: Figures) -> str:
    """Write the page."""
    template = (
        resources.files("skycore_async.cli.report").joinpath("report.html").read_text("utf-8")
    )
    return Template(template).substitute(
        title=words(f"Report on {figures.ledger}"),
        period=_period(figures),
        sections="\n".join(section(figures) for section in _SECTIONS),
        made=moment(figures.made),
        version=words(__version__),
    )


def _period(figures: Figures) -> str:
    if figures.first is None or figures.last is None:
        return "No message yet."
    first, last = moment(figures.first), moment(figures.last)
    when = first if first == last else f"{first} to {last}"
    return f"{_messages(figures.messages)}, begun {when} UTC"


def _messages(number: int) -> str:
    return f"{counted(number)} message{'' if number == 1 else 's'}"


def _section(heading: str, *parts: str) -> str:
    return f"<section>\n<h2>{heading}</h2>\n" + "\n".join(parts) + "\n</section>"


def _by_kind(states: dict[MessageState, int]) -> dict[ChartKind, int]:
    return {kind: sum(states.get(one, 0) for one in of) for kind, (of, _meaning) in KINDS.items()}


def _totals(figures: Figures) -> str:
    kinds = _by_kind(figures.states)
    tiles = "".join(
        f'<div class="{kind.css}"><dt>{kind.name}</dt><dd>{counted(number)}'
        f"<small>{words(share(number, figures.messages))}, {KINDS[kind][1]}</small></dd></div>"
        for kind, number in kinds.items()
    )
    said = ", ".join(f"{counted(number)} {kind.name.lower()}" for kind, number in kinds.items())
    whole = strip(kinds, figures.messages or 1, title=f"Of all messages: {said}")
    return _section("What became of the messages", f'<dl class="tiles">{tiles}</dl>', whole)


def _over_time(figures: Figures) -> str:
    if not figures.over_time:
        return _section("Deliveries over time", "<p>No message yet.</p>")
    said = (
        f"{len(figures.over_time)} columns of {duration(figures.step)} each: messages by when they"
        " were begun, and what became of them."
    )
    drawn = [Column(start=slot.start, parts=_by_kind(slot.states)) for slot in figures.over_time]
    chart = columns(drawn, list(KINDS), step=figures.step, title="Deliveries over time", said=said)
    return _section(
        "Deliveries over time",
        f'<p class="soft">Messages by when they were begun, every {duration(figures.step)},'
        " and what became of them.</p>",
        chart,
    )


def _delivery_time(figures: Figures) -> str:
    times = figures.delivery_time
    untold = (
        f'<p class="soft">Of {_messages(times.untold)} the receipt does not tell the time, or not'
        " its zone.</p>"
        if times.untold
        else ""
    )
    if times.median is None or times.p90 is None or times.p99 is None:
        return _section("Time to delivery", "<p>No receipt tells yet.</p>", untold)
    longest = times.distribution[-1]
    rows = [
        Bar(
            name=f"up to {duration(took.up_to)}" if took.up_to else "longer",
            parts={DELIVERED: took.messages},
            said=counted(took.messages),
            share=share(took.messages, times.told),
        )
        for took in times.distribution
    ]
    end = f"all within {duration(longest.up_to)}" if longest.up_to else "some took over a day"
    return _section(
        "Time to delivery",
        f"<p>Half were delivered within about {duration(times.median)}, 90 % within"
        f" {duration(times.p90)}, 99 % within {duration(times.p99)}, {end}.</p>",
        bars(
            "From when a message was begun to the time in its receipt",
            ("Took", "", "Messages"),
            rows,
        ),
        untold,
    )


def _failures(figures: Figures) -> str:
    failed = figures.states[_S.FAILED]
    if not failed:
        return _section("Failures", "<p>No message failed.</p>")
    reasons = bars(
        "By reason",
        ("Reason", "", "Failed"),
        (
            Bar(
                name=reason,
                parts={FAILED: number},
                said=counted(number),
                share=share(number, failed),
            )
            for reason, number in figures.failures_by_reason.items()
        ),
    )
    details = bars(
        "By reason, carrier and the carrier's status",
        ("What", "", "Failed"),
        (
            Bar(
                name=each.meaning or each.reason,
                note=_joined(
                    each.reason if each.meaning else None,
                    _named("carrier", each.spid),
                    _named("protocol", each.protocol),
                    _named("status", each.status),
                ),
                parts={FAILED: each.messages},
                said=counted(each.messages),
            )
            for each in figures.failures
        ),
    )
    return _section("Failures", reasons, f"<h3>In detail</h3>{details}")


def _carriers(figures: Figures) -> str:
    rows = [
        Bar(
            name=_named("carrier", each.spid) or _named("protocol", each.protocol) or "not told",
            note=f"{counted(each.failed)} of {counted(each.delivered + each.failed)} failed",
            parts={DELIVERED: each.delivered, FAILED: each.failed},
            said=share(each.failed, each.delivered + each.failed),
        )
        for each in figures.carriers
    ]
    if not rows:
        return _section("Carriers", "<p>No final receipt yet.</p>")
    about = bars(
        "Messages that came to an end, by their carrier (SPID), or else the receipt's protocol",
        ("Carrier", "", "Failed"),
        rows,
    )
    return _section("Carriers", about)


def _refusals(figures: Figures) -> str:
    if not figures.refusals:
        return _section("Refusals", "<p>No message was refused.</p>")
    about = bars(
        "Messages that the API refused, by its error code",
        ("Code", "", "Refused"),
        (
            Bar(
                name=each.code,
                note=_joined(each.meaning or "not documented", _SCOPES.get(each.scope)),
                parts={REFUSED: each.messages},
                said=counted(each.messages),
            )
            for each in figures.refusals
        ),
    )
    return _section("Refusals", about)


def _in_doubt(figures: Figures) -> str:
    number = _by_kind(figures.states)[IN_DOUBT]
    settled = (
        f'<p class="soft">{_messages(figures.settled_by_postback)} once in doubt turned out to be'
        " sent, by a postback.</p>"
        if figures.settled_by_postback
        else ""
    )
    if not number:
        return _section("In doubt", "<p>No message is in doubt.</p>", settled)
    rows = "".join(
        f'<tr><th scope="row" class="whole">{words(each.to)}</th><td>{words(each.key)}</td>'
        f'<td class="number moment">{moment(each.since)}</td></tr>'
        for each in figures.in_doubt
    )
    more = f"<p>And {counted(number - MOST)} more.</p>" if number > MOST else ""
    return _section(
        "In doubt",
        "<p>The answer was lost: each of these may have been sent and billed. A postback can still"
        " settle it; none is sent again but on your word.</p>",
        settled,
        '<table><thead><tr><th scope="col">To</th><th scope="col">Key</th>'
        f'<th scope="col" class="number">Since</th></tr></thead><tbody>{rows}</tbody></table>',
        more,
    )


def _rest(figures: Figures) -> str:
    tiles = (
        ("Unplaced postbacks", figures.unplaced, "about messages that this ledger does not know"),
        ("Opted out", figures.opted_out, "numbers that may not be sent to"),
    )
    shown = "".join(
        f"<div><dt>{name}</dt><dd>{counted(number)}<small>{meaning}</small></dd></div>"
        for name, number, meaning in tiles
    )
    return _section("Besides", f'<dl class="tiles few">{shown}</dl>')


_SECTIONS: Final[tuple[Callable[[Figures], str], ...]] = (
    _totals,
    _over_time,
    _delivery_time,
    _failures,
    _carriers,
    _refusals,
    _in_doubt,
    _rest,
)


def _named(name: str, value: str | None) -> str | None:
    return f"{name} {value}" if value else None


def _joined(*parts: str | None) -> str:
    return ", ".join(filter(None, parts))
