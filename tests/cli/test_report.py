"""`skycore report`: the data of a ledger, the page, and the command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import anyio
import anyio.to_thread
import psycopg
import pytest
from click.testing import CliRunner, Result
from jinja2 import UndefinedError
from psycopg.conninfo import make_conninfo

from benchmarks.postgres import Server
from skycore_async import FailureReason, SQLiteLedger, Summary, parse_postback
from skycore_async.cli import report as report_files
from skycore_async.cli.commands.report import report
from skycore_async.cli.report.counters import (
    MAX_ROWS,
    MAX_SLOTS,
    OTHERS,
    DurationCounter,
    TimelineCounter,
)
from skycore_async.cli.report.data import ReportCounters, ReportData
from skycore_async.cli.report.formats import duration, span
from skycore_async.cli.report.page import _environment, page
from skycore_async.ledger.list_commands import CountMessages, ListLines
from skycore_async.ledger.model import Delivery, MessageState, SendIntent, Submission
from skycore_async.ledger.postgres.ledger import PostgresLedger
from skycore_async.notifications import Notification
from skycore_async.postgres.schema import migrate
from skycore_async.runtime import private_files
from tests.support.ledger_rows import store_of

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
NUMBER = "15551234888"
EVIL = "<script>alert('1')</script>&\x07\u202e\ud800"


def delivery(state: str, **about: Any) -> Delivery:
    """Make a message in some state, begun at noon."""
    values: dict[str, Any] = {
        "key": "order-17",
        "tracking_id": None,
        "to": NUMBER,
        "from_": "60856",
        "state": MessageState(state),
        "reason": None,
        "events": (),
        "settled_by": None,
        "began": NOON,
        "code": None,
        "info": None,
    }
    return Delivery(**values | about)


def sent(spid: str) -> Notification:
    """Make the notification that a message was handed to a carrier."""
    (found,) = parse_postback(
        f"<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N201</CODE><SPID>{spid}</SPID></POSTBACK>"
    )
    return found


def receipt(
    at: datetime | str | None, *, protocol: str = "4", status: str = "0", spid: str = ""
) -> Notification:
    """Make a receipt with an aggregator's pair: delivered, unless given otherwise."""
    time = at.isoformat() if isinstance(at, datetime) else at
    (found,) = parse_postback(
        "<NOTIFICATION><ORIGIN>SMS_MT</ORIGIN><CODE>N201</CODE><BODY>"
        f'<SPID>{spid}</SPID><STATUS PROTOCOL="{protocol}" STATUS="{status}"/>'
        f"<TIMESTAMP>{time or ''}</TIMESTAMP></BODY></NOTIFICATION>"
    )
    return found


def delivered(seconds: float, **about: Any) -> Delivery:
    """Make a message whose receipt came so many seconds after its begin."""
    at = NOON + timedelta(seconds=seconds)
    return delivery("delivered", events=(receipt(at, spid="383"),), **about)


def failed(*events: Notification, reason: str = "recipient") -> Delivery:
    """Make a message that failed."""
    return delivery("failed", reason=FailureReason(reason), events=events)


def report_data(
    *deliveries: Delivery,
    ledger: str = "promo.db",
    price: Decimal | None = None,
    **counts: int,
) -> ReportData:
    """Return the report data of these messages."""
    counters = ReportCounters(price)
    with store_of(deliveries) as store:
        after: int | None = 0
        while after is not None:
            counted = CountMessages(step=counters.step, after=after).answer(store)
            counters.add(counted)
            after = counted.last
        counters.list_doubts(ListLines(state=MessageState.IN_DOUBT, after=0).answer(store).rows)
    besides: Any = {"unplaced": 0, "opted_out": 0} | counts
    summary = Summary(states={}, codes={}, reasons={}, **besides)
    return counters.report_data(summary, ledger=ledger, made=NOON + timedelta(hours=1))


# The report data.


def test_every_message_is_counted_in_its_state() -> None:
    """The counts by state add up to all messages."""
    found = report_data(*map(delivery, ["accepted", "sent", "in_doubt", "sending", "not_sent"]))
    assert found.messages == 5
    assert found.states[MessageState.IN_DOUBT] == 1
    assert found.states[MessageState.SENDING] == 1
    assert found.states[MessageState.DELIVERED] == 0
    assert sum(found.states.values()) == 5


def test_other_counts_of_the_ledger_are_passed_on() -> None:
    """Unplaced notifications and opt-outs come from the summary."""
    found = report_data(unplaced=3, opted_out=7)
    assert (found.unplaced, found.opted_out) == (3, 7)


def test_time_to_delivery_is_from_the_intent_to_the_receipt() -> None:
    """Delivery times are classed, and their quantiles are off by 5 % at most."""
    found = report_data(*(delivered(second) for second in range(1, 101))).delivery_time
    assert (found.known, found.unknown) == (100, 0)
    assert {took.up_to: took.messages for took in found.distribution} == {
        1: 1,
        2: 1,
        5: 3,
        10: 5,
        30: 20,
        60: 30,
        120: 40,
    }
    assert found.median == pytest.approx(50, rel=0.05)
    assert found.p90 == pytest.approx(90, rel=0.05)
    assert found.p99 == pytest.approx(99, rel=0.05)


def test_a_receipt_that_tells_no_time_zone_tells_no_duration() -> None:
    """A receipt without time or time zone counts as of unknown duration."""
    times = ["2026-11-20T12:00:05", None]
    found = report_data(*(delivery("delivered", events=(receipt(at),)) for at in times))
    assert (found.delivery_time.known, found.delivery_time.unknown) == (0, 2)
    assert found.delivery_time.median is None


def test_a_delivery_without_a_receipt_tells_no_duration() -> None:
    """A delivered message without a receipt counts as of unknown duration."""
    assert report_data(delivery("delivered")).delivery_time.unknown == 1


def test_a_clock_that_is_behind_makes_no_negative_duration() -> None:
    """A receipt older than its message counts as no time."""
    found = report_data(delivered(-30)).delivery_time
    assert [(took.up_to, took.messages) for took in found.distribution] == [(1, 1)]


def test_the_first_final_receipt_decides() -> None:
    """The first final receipt gives the delivery time."""
    late = tuple(receipt(NOON + timedelta(seconds=after)) for after in (2, 5000))
    assert report_data(delivery("delivered", events=late)).delivery_time.median == pytest.approx(
        2, rel=0.05
    )


def test_failures_are_counted_by_reason_and_carrier() -> None:
    """Failures are counted by reason, carrier and status pair."""
    gone = receipt(NOON, protocol="2", status="514", spid="383")
    odd = receipt(NOON, protocol="2", status="99999")
    found = report_data(failed(gone), failed(gone), failed(odd, reason="unknown"), failed())
    assert found.failures_by_reason == {"recipient": 3, "unknown": 1}
    first = found.failures[0]
    assert (first.reason, first.spid, first.protocol, first.status, first.messages) == (
        "recipient",
        "383",
        "2",
        "514",
        2,
    )
    assert "not a subscriber" in str(first.meaning)
    assert [each.meaning for each in found.failures[1:]] == [None, None]


def test_the_carrier_may_come_from_the_sent_notification() -> None:
    """A receipt without carrier counts for that of the sent notification."""
    gone = receipt(NOON, protocol="2", status="514")
    found = report_data(failed(sent("77"), gone), delivered(1), delivered(2))
    assert found.failures[0].spid == "77"
    assert [(each.spid, each.delivered, each.failed) for each in found.carriers] == [
        ("383", 2, 0),
        ("77", 0, 1),
    ]


def test_a_carrier_without_a_name_is_shown_by_protocol() -> None:
    """Without a SPID the receipt's protocol stands for the carrier."""
    found = report_data(failed(receipt(NOON, protocol="2", status="514")))
    assert [(each.spid, each.protocol) for each in found.carriers] == [(None, "2")]


def test_refusals_have_the_meaning_of_their_code() -> None:
    """Refusals are counted by code with its meaning."""
    found = report_data(
        delivery("rejected", code="E110"),
        delivery("rejected", code="E110"),
        delivery("rejected", code="E999"),
        delivery("rejected"),
        delivery("not_sent", code="E713"),
        delivery("not_sent"),
    )
    told = {each.code: (each.messages, each.scope, each.meaning) for each in found.refusals}
    assert told == {
        "E110": (2, "message", "recipient number not valid"),
        "E999": (1, "unknown", None),
        "none": (1, "unknown", None),
        "E713": (1, "account", "billing problem on the account"),
    }


def test_accepted_messages_are_priced_by_segment() -> None:
    """Accepted segments are counted and priced, in all and by label."""
    tagged: dict[str, Any] = {"campaign_ref": "77", "segments": 2, "tags": ("vip",)}
    found = report_data(
        delivered(1, **tagged),
        delivery("failed", segments=1100),
        delivery("rejected", code="E110", **tagged),
        delivery("in_doubt", **tagged),
        delivery("sent"),
        price=Decimal("0.0075"),
    )
    bill = found.bill
    assert (bill.segments, bill.unmeasured, bill.cost) == (1102, 1, Decimal("8.2650"))
    assert [each.cost for each in found.labels] == [Decimal("0.0150")] * 2
    words = Page(page(found)).text
    assert "Segments 1,102 of the messages that Skycore took, whatever came of them;" in words
    assert "of 1 message of an earlier version they are not known" in words
    assert (
        "Cost 8.26 at 0.0075 a segment, besides those that are not known; what is in doubt may be"
        " billed, too"
    ) in words
    assert "vip 3 1 2 0.02 1 0 1" in words
    without = report_data(delivered(1, **tagged))
    assert (without.bill.cost, without.labels[0].cost) == (None, None)
    assert "Cost" not in Page(page(without)).text
    of_before = Page(page(report_data(delivery("sent"), price=Decimal("0.0075")))).text
    assert "Segments not known of the messages" in of_before  # and not none, for nothing
    assert "Cost not known at 0.0075 a segment" in of_before


def test_messages_are_filtered_by_campaign_and_tag() -> None:
    """Messages are counted by campaign reference and by each of their tags."""
    spring: dict[str, Any] = {"campaign_ref": "77", "segments": 2, "tags": ("spring", "vip")}
    found = report_data(
        delivered(1, **spring),
        delivery("accepted", **spring),
        delivery("rejected", code="E110", **spring),
        delivery("in_doubt", tags=("vip",), segments=1),
        delivery("failed", tags=("<b>late</b>", "<b>late</b>")),
        delivery("sent"),
    )
    told = [(str(each.kind), each.name, each.messages) for each in found.labels]
    assert told == [
        ("campaign", "77", 3),
        ("tag", "vip", 4),
        ("tag", "spring", 3),
        ("tag", "<b>late</b>", 1),
    ]
    vip = found.labels[1]
    assert (vip.accepted, vip.delivered, vip.failed, vip.in_doubt) == (2, 1, 0, 1)
    assert vip.segments == 4
    words = Page(page(found)).text
    assert "vip 4 2 4 1 0 1" in words
    assert "<b>late</b> 1 1 0 0 1 0" in words
    assert "By campaign and tag" not in Page(page(report_data(delivery("sent")))).text


def test_messages_in_doubt_are_listed_and_masked() -> None:
    """Doubts are listed with key and time, and numbers are masked."""
    found = report_data(delivery("in_doubt"), delivery("in_doubt", key=f"to-{NUMBER}"))
    assert [(each.to, each.key, each.since) for each in found.in_doubt] == [
        ("*******4888", "order-17", NOON),
        ("*******4888", "to-*******4888", NOON),
    ]


def test_ends_of_doubts_are_counted() -> None:
    """Settled doubts are counted by postback and by report."""
    found = report_data(
        *[delivery("sent", settled_by="postback")] * 2,
        *[delivery("accepted", settled_by="report")] * 3,
        *[delivery("not_sent", settled_by="report")] * 4,
        delivery("rejected", settled_by="report"),
        delivery("in_doubt", settled_by="resend"),
        delivery("sent"),
        proven_not_sent=5,
    )
    assert (found.settled_by_postback, found.found_sent, found.found_not_sent) == (2, 3, 5)
    shown = page(found)
    assert "3 messages once in doubt turned out to be sent, by Skycore" in shown
    assert "5 messages once in doubt turned out not to be sent" in shown


@pytest.mark.parametrize("apart", [0.01, 1, 7, 3600, 100_000, 10_000_000])
def test_time_is_cut_into_as_many_columns_as_fit(apart: float) -> None:
    """The timeline has a limited number of columns without gaps, for any span."""
    timeline = TimelineCounter()
    for index in range(300):
        at = NOON.timestamp() + apart * index
        timeline.add(MessageState.SENT, 1, first=at, last=at)
    slots = list(timeline.slots())
    assert len(slots) <= MAX_SLOTS
    assert apart < 7 or len(slots) > MAX_SLOTS / 8
    assert sum(sum(slot.states.values()) for slot in slots) == 300
    starts = [slot.start for slot in slots]
    assert {later - sooner for sooner, later in pairwise(starts)} <= {
        timedelta(seconds=timeline.step)
    }
    assert starts[0] <= NOON < starts[0] + timedelta(seconds=timeline.step)


def test_columns_do_not_depend_on_the_order_of_messages() -> None:
    """The timeline is the same for any order of messages."""
    forth, back = TimelineCounter(), TimelineCounter()
    times = range(0, 100_000, 97)
    for sooner, later in zip(times, reversed(times), strict=True):
        forth.add(MessageState.SENT, 1, first=sooner, last=sooner)
        back.add(MessageState.SENT, 1, first=later, last=later)
    assert list(forth.slots()) == list(back.slots())
    assert (forth.first, forth.last) == (back.first, back.last)


def test_a_quantile_of_nothing_is_none() -> None:
    """Without deliveries there is no quantile."""
    assert DurationCounter().delivery_time(0).p99 is None


@pytest.mark.slow
def test_no_table_grows_with_the_ledger() -> None:
    """Tables have a limited number of rows, and count the rest together."""
    found = report_data(
        *(failed(receipt(NOON, protocol="2", status=str(n), spid=str(n))) for n in range(1000)),
        *(delivery("rejected", code=f"X{n}") for n in range(1000)),
        *(delivery("in_doubt", key=str(n)) for n in range(1000)),
    )
    tables: list[list[Any]] = [found.failures, found.carriers, found.refusals]
    assert [len(table) for table in tables] == [MAX_ROWS + 1] * 3
    assert sum(each.messages for each in found.failures) == 1000
    assert (found.refusals[-1].code, found.refusals[-1].messages) == (OTHERS, 1000 - MAX_ROWS)
    assert (found.failures[-1].reason, found.carriers[-1].spid) == (OTHERS, OTHERS)
    assert len(found.in_doubt) == MAX_ROWS
    assert found.states[MessageState.IN_DOUBT] == 1000


@pytest.mark.slow
def test_a_carrier_keeps_its_failures_where_carriers_are_many() -> None:
    """A carrier with its own row has both its deliveries and failures there."""
    names = [str(n) for n in range(2 * MAX_ROWS)]
    found = report_data(
        *(delivery("delivered", events=(receipt(NOON, spid=spid),)) for spid in names),
        *(failed(receipt(NOON, status="514", spid=spid)) for spid in reversed(names)),
    )
    told = {each.spid: (each.delivered, each.failed) for each in found.carriers}
    assert told.pop(OTHERS) == (MAX_ROWS, MAX_ROWS)
    assert told == dict.fromkeys(names[:MAX_ROWS], (1, 1))


# The page.

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """A parsed page, which must be well formed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


FULL = report_data(
    *(delivered(second) for second in range(40)),
    failed(receipt(NOON, protocol="2", status="514", spid="383")),
    delivery("rejected", code="E110"),
    delivery("rejected", code="E999"),
    delivery("not_sent", code="E713"),
    delivery("accepted", settled_by="postback"),
    delivery("in_doubt", began=NOON + timedelta(minutes=90)),
    delivery("delivered"),
    unplaced=1234,
    opted_out=5,
)
PAGES = {
    "full": FULL,
    "empty": report_data(),
    "one": report_data(delivered(3)),
    "evil": report_data(
        delivery("in_doubt", key=EVIL),
        delivery("rejected", code=EVIL),
        failed(receipt(NOON, protocol="2", status="514", spid="&lt;script&gt;&amp;")),
        ledger=EVIL,
    ),
    "many": report_data(*(delivery("in_doubt", key=str(n)) for n in range(1200))),
    "days": report_data(*(delivered(n, began=NOON + timedelta(days=n)) for n in range(90))),
}
TEMPLATES = sorted(Path(report_files.__path__[0]).glob("templates/*"))
each_page = pytest.mark.parametrize("name", PAGES)


@each_page
def test_the_page_is_well_formed(name: str) -> None:
    """A page closes every element, and has no id twice."""
    parsed = Page(page(PAGES[name]))
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [len(parsed.all(tag)) for tag in ("html", "main", "h1")] == [1, 1, 1]


@each_page
def test_the_page_needs_nothing_from_outside(name: str) -> None:
    """A page has no scripts or external resources, and a policy against them."""
    text = page(PAGES[name])
    parsed = Page(text)
    assert not {"script", "img", "iframe", "object", "a"} & {tag for tag, _ in parsed.tags}
    assert [link["href"] for link in parsed.all("link")] == ["data:,"]
    assert not re.search(r"https?:|//|url\(|@import|\bsrc=|\bon\w+=", text)
    (policy,) = (each["content"] for each in parsed.all("meta") if "http-equiv" in each)
    assert str(policy).startswith("default-src 'none'")


@each_page
def test_every_drawing_can_be_read_aloud(name: str) -> None:
    """Each SVG has a title or is hidden from screen readers."""
    text = page(PAGES[name])
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert 'aria-hidden="true"' in drawing or re.match(
            r'<svg[^>]* role="img"[^>]*><title[^>]*>[^<]+</title>', drawing
        )
    parsed = Page(text)
    assert all(header.get("scope") in {"row", "col"} for header in parsed.all("th"))
    assert parsed.all("html")[0]["lang"] == "en"


def test_values_of_a_ledger_are_escaped() -> None:
    """Keys, codes and names of a ledger are escaped in the page."""
    text = page(PAGES["evil"])
    assert "<script" not in text
    parsed = Page(text)
    assert parsed.text.count("<script>alert('1')</script>&\ufffd\ufffd\ufffd") >= 3
    assert "carrier <script>&" in parsed.text
    text.encode()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_leaves_anything_unescaped(template: Path) -> None:
    """No template switches escaping off."""
    text = template.read_text("utf-8")
    assert not re.search(r"\bsafe\b|autoescape|Markup|xmlattr", text)


def test_a_name_that_is_none_is_an_error() -> None:
    """An unknown name in a template is an error."""
    with pytest.raises(UndefinedError, match="has no attribute 'delivry_time'"):
        _environment().from_string("{{ data.delivry_time }}").render(data=FULL)


def test_the_page_has_the_report_data() -> None:
    """The page shows all report data."""
    told = Page(page(FULL)).text
    for words in (
        "Report on promo.db",
        "47 messages, begun 20 Nov 2026 12:00 to 13:30 UTC",
        "Delivered 41 87.2 %, a receipt says so",
        "On the way 1 2.1 %",
        "Half were delivered within about 19 s, 90 % within",
        "up to 1 min",
        "Of 1 message the receipt does not tell",
        "number is not a subscriber recipient, carrier 383, protocol 2, status 514",
        "carrier 383 40 of 41",
        "E110 recipient number not valid",
        "E713 billing problem on the account, for the whole account",
        "E999 not documented",
        "*******4888 order-17 20 Nov 2026 13:30",
        "1 message once in doubt turned out to be sent",
        "Unplaced postbacks 1,234",
        "Opted out 5",
        "Made 20 Nov 2026 13:00",
    ):
        assert words in told
    assert NUMBER not in page(FULL)


def test_a_delivery_that_took_days_is_shown() -> None:
    """A delivery of over a day has a row of its own."""
    told = Page(page(report_data(delivered(1), delivered(100_000)))).text
    assert "some took over a day." in told
    assert "longer: 1" in told


def test_an_empty_ledger_makes_a_page_that_says_so() -> None:
    """An empty ledger makes a page that says so.

    A section may end on a printed page after any last element.
    """
    empty = page(PAGES["empty"])
    assert "section > :last-child { break-after: auto; }" in empty
    told = Page(empty).text
    for words in (
        "No message yet.",
        "No receipt tells yet.",
        "No message failed.",
        "No final receipt yet.",
        "No message was refused.",
        "No message is in doubt.",
    ):
        assert words in told


def test_a_long_list_of_doubts_says_how_many_are_left_out() -> None:
    """A long list of doubts shows ten, folds others, and counts the rest."""
    parsed = Page(page(PAGES["many"]))
    assert "The first 10 of 1,200" in parsed.text
    shown, folded = parsed.text.split("The other 1,190")
    assert shown.count("*******4888") == 10
    assert "1,000 more are not listed here" in folded
    assert parsed.text.count("*******4888") == MAX_ROWS


def test_the_bar_of_a_carrier_says_what_its_figure_says() -> None:
    """A carrier's bar shows the same share as its number."""
    found = report_data(*(delivered(n) for n in range(3)), failed(receipt(NOON, spid="383")))
    (row,) = re.findall(r"<tr><th scope=\"row\">carrier 383.*?</tr>", page(found), re.DOTALL)
    assert re.findall(r'class="(\w+)" x="[\d.]+%" y="0" width="([\d.]+)%"', row) == [
        ("delivered", "75.00"),
        ("failed", "25.00"),
    ]
    assert "75.0\xa0%" in row


def test_the_chart_has_a_table_of_the_same() -> None:
    """The chart has a table with the same numbers."""
    text = page(FULL)
    (table,) = re.findall(r"<details>.*?</details>", text, re.DOTALL)
    parsed = Page(table)
    rows = [row.split() for row in re.split(r"20 Nov", parsed.text)[1:]]
    assert rows[0] == ["12:00", "41", "1", "1", "2", "0", "1"]
    assert sum(int(number) for row in rows for number in row[1:]) == 47


def test_a_page_is_read_on_a_narrow_screen() -> None:
    """The page is readable on a narrow screen.

    Cells have names there, since rows stand below one another without headings.
    """
    text = page(report_data(delivery("in_doubt", campaign_ref="spring", segments=1)))
    assert "<small>may have been sent</small>" not in text
    assert "<small>100.0\xa0%, may have been sent</small>" in text
    assert "<small>safe to send again</small>" in text
    (table,) = re.findall('<table class="labels stacked">.*?</table>', text, re.DOTALL)
    named = re.findall('data-name="(.*?)"', table)
    assert named == re.findall('<th scope="col" class="number">(.*?)</th>', table)
    assert duration(90).isascii() is duration(90).isprintable() is False
    assert span(NOON, NOON + timedelta(hours=3)) == f"{NOON:%d %b %Y} 12:00 to 15:00"
    assert span(NOON, NOON + timedelta(hours=30)).count("Nov 2026") == 2
    assert span(NOON, NOON) == f"{NOON:%d %b %Y} 12:00"


@pytest.mark.slow
def test_a_small_share_is_still_visible() -> None:
    """A very small share is neither shown as none nor rounded away."""
    many = [delivered(1)] * 20_000
    text = page(report_data(*many, failed()))
    assert "&lt;\xa00.1\xa0%, a receipt says so" in text
    assert "&gt;\xa099.9\xa0%, a receipt says so" in text
    heights = re.findall(
        r'<rect class="failed" x="\d+" y="[\d.]+" width="8" height="([\d.]+)"', text
    )
    assert [float(height) > 0.9 for height in heights] == [True]


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("one", ["12:00:00", "12:00:05", "12:00:11"]),
        ("days", ["19 Nov 2026", "31 Dec 2026", "11 Feb 2027"]),
    ],
)
def test_the_axis_names_its_times(name: str, axis: list[str]) -> None:
    """The axis shows times as finely as its columns."""
    (labels,) = re.findall(r'<div class="x" aria-hidden="true">(.*?)</div>', page(PAGES[name]))
    assert re.findall("<span>(.*?)</span>", labels) == axis


# The command.


def run(*arguments: object) -> Result:
    """Run `skycore report` with arguments."""
    return CliRunner().invoke(report, list(map(str, arguments)))


async def fill(ledger: SQLiteLedger | PostgresLedger) -> None:
    """Record a message delivered, one refused and one in doubt."""
    async with ledger:
        for key in ("a", "b", "c"):
            await ledger.begin(
                SendIntent(
                    key=key, content=b"", to=NUMBER, from_="60856", started_at=NOON.timestamp()
                )
            )
        await ledger.finish(
            "a", Submission(state=MessageState.ACCEPTED, tracking_id="SMS_1", raw={})
        )
        await ledger.finish("b", Submission(state=MessageState.REJECTED, code="E110"))
        await ledger.finish("c", Submission(state=MessageState.IN_DOUBT))
        await ledger.record(
            *parse_postback(
                "<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N202</CODE>"
                f"<TO>{NUMBER}</TO><TRACKINGID>SMS_1</TRACKINGID></POSTBACK>"
            )
        )


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Make a ledger of one message delivered, one refused and one in doubt."""
    path = tmp_path / "promo.db"
    anyio.run(fill, SQLiteLedger(path, clock=NOON.timestamp))
    return path


def test_the_page_is_written(ledger: Path, tmp_path: Path) -> None:
    """--html writes a page, and names it."""
    (tmp_path / "report.html.part").write_text("mine")
    done = run(ledger, "--html", tmp_path / "report.html")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "The report is in" in done.stderr
    parsed = Page((tmp_path / "report.html").read_text("utf-8"))
    assert "3 messages, begun 20 Nov 2026 12:00 UTC" in parsed.text
    assert sorted(path.name for path in tmp_path.glob("*report*")) == [
        "report.html",
        "report.html.part",
    ]
    assert (tmp_path / "report.html.part").read_text() == "mine"


def test_a_page_is_written_over_an_older_one(ledger: Path, tmp_path: Path) -> None:
    """A page replaces an older one."""
    for _ in range(2):
        assert run(ledger, "--html", tmp_path / "report.html").exit_code == 0


def test_the_page_can_go_to_standard_output(ledger: Path) -> None:
    """`--html -` writes the page to standard output."""
    done = run(ledger, "--html", "-")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("<!doctype html>")


def test_the_report_data_are_one_object(ledger: Path, tmp_path: Path) -> None:
    """--json gives one object on one line, also beside a page."""
    done = run(ledger, "--json", "--html", tmp_path / "report.html")
    assert done.stdout.count("\n") == 1
    told = json.loads(done.stdout)
    assert told["states"]["delivered"] == 1
    assert told["refusals"] == [
        {
            "code": "E110",
            "meaning": "recipient number not valid",
            "scope": "message",
            "messages": 1,
        }
    ]
    assert told["in_doubt"] == [
        {"key": "c", "to": "*******4888", "since": "2026-11-20T12:00:00.000000+00:00"}
    ]
    assert (tmp_path / "report.html").exists()
    assert told["bill"] == {"segments": 0, "unmeasured": 1, "price": None, "cost": None}


def test_a_price_has_what_was_sent_priced(ledger: Path) -> None:
    """--price gives the exact cost, and a bad price is refused."""
    told = json.loads(run(ledger, "--json", "--price", "0.0075").stdout)
    assert told["bill"] == {"segments": 0, "unmeasured": 1, "price": 0.0075, "cost": 0.0}
    done = run(ledger, "--json", "--price", "cheap")
    assert (done.exit_code, "'cheap' is no amount, as 0.0075 is one." in done.stderr) == (2, True)


def wrong(done: Result) -> str:
    """Return the one-line error, and check the exit code for wrong usage."""
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("skycore: ")
    return line


def test_a_ledger_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A missing ledger is an error, and no file is made."""
    line = wrong(run(tmp_path / "prom.db", "--html", tmp_path / "report.html"))
    assert "there is no such file" in line
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_in_use_is_reported_on(ledger: Path, tmp_path: Path) -> None:
    """A ledger in use is reported on, with messages as sending."""

    async def meanwhile() -> Result:
        async with SQLiteLedger(ledger) as owner:
            await owner.begin(
                SendIntent(
                    key="now", content=b"", to=NUMBER, from_="60856", started_at=NOON.timestamp()
                )
            )
            args = (ledger, "--html", tmp_path / "report.html", "--json")
            return await anyio.to_thread.run_sync(lambda: run(*args))

    done = anyio.run(meanwhile)
    assert (done.exit_code, json.loads(done.stdout)["states"]["sending"]) == (0, 1)
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("content", ["", "name;number\n"])
def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path, content: str) -> None:
    """A file that is no ledger is refused and unchanged."""
    path = tmp_path / "promo.db"
    path.write_text(content)
    assert "no ledger" in wrong(run(path, "--json"))
    assert path.read_text() == content


def test_a_directory_is_no_ledger(tmp_path: Path) -> None:
    """A directory is refused."""
    assert "no ledger" in wrong(run(tmp_path, "--json"))


def test_without_a_destination_it_says_what_to_give(ledger: Path) -> None:
    """Without a destination the error names --html with an example."""
    assert "--html promo.html" in wrong(run(ledger))


def test_two_answers_do_not_go_to_one_place(ledger: Path) -> None:
    """--json with `--html -` is refused."""
    assert "only one" in wrong(run(ledger, "--json", "--html", "-"))


@pytest.mark.parametrize("ending", ["", "-lock", "-wal"])
def test_the_ledger_is_not_written_over(ledger: Path, ending: str) -> None:
    """--html with a file of the ledger is refused."""
    assert "belongs to the ledger" in wrong(run(ledger, "--html", f"{ledger}{ending}"))
    assert run(ledger, "--json").exit_code == 0


def test_nothing_but_a_report_is_written_over(ledger: Path, tmp_path: Path) -> None:
    """--html with a file that is no report is refused."""
    other = tmp_path / "recipients.csv"
    other.write_text("number\n")
    assert "something other than a report" in wrong(run(ledger, "--html", other))
    assert other.read_text() == "number\n"


def test_a_directory_that_is_not_there_is_named(ledger: Path, tmp_path: Path) -> None:
    """A missing directory for the page is an error before the ledger is read."""
    assert "no directory" in wrong(run(ledger, "--html", tmp_path / "away" / "report.html"))


def test_an_unwritable_page_is_reported(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is a one-line error, and no partial page is left."""

    def full(*how: Any, **further: Any) -> Any:
        file = NamedTemporaryFile(*how, **further)  # noqa: SIM115
        write = file.write

        def half(text: str) -> int:
            write(text[: len(text) // 2])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(file, "write", half)
        return file

    monkeypatch.setattr(private_files, "NamedTemporaryFile", full)
    before = sorted(tmp_path.iterdir())
    assert "No space left" in wrong(run(ledger, "--html", tmp_path / "report.html"))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="rights are of another kind there")
def test_a_page_is_its_owners_alone(ledger: Path, tmp_path: Path) -> None:
    """A page is private from the start."""
    before = os.umask(0)
    try:
        assert run(ledger, "--html", tmp_path / "report.html").exit_code == 0
    finally:
        os.umask(before)
    assert (tmp_path / "report.html").stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_looked_into_is_not_written_over(
    ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreadable file is not overwritten."""
    other = tmp_path / "report.html"
    other.write_text("<!doctype html>")

    def closed(path: Path, *how: Any, **further: Any) -> Any:
        if path == other:
            raise PermissionError(13, "Permission denied")
        return opened(path, *how, **further)

    opened = Path.open
    monkeypatch.setattr(Path, "open", closed)
    assert "something other" in wrong(run(ledger, "--html", other))


def test_a_long_ledger_is_read_in_parts(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger read in parts gives the same data."""
    at_once = json.loads(run(ledger, "--json").stdout)
    for module in ("list_commands", "sqlite.reader"):
        monkeypatch.setattr(f"skycore_async.ledger.{module}.SPAN", 1)
    in_parts = json.loads(run(ledger, "--json").stdout)
    assert in_parts["messages"] == 3
    assert {**in_parts, "made": 0} == {**at_once, "made": 0}


@pytest.mark.slow
def test_help_loads_neither_ledger_nor_tables() -> None:
    """The command's module loads no heavy library."""
    loaded = (
        "import sys; before = set(sys.modules); import skycore_async.cli.commands.report;"
        "print({'anyio', 'jinja2', 'rich', 'sqlite3', 'skycore_async.cli.report.page'}"
        " & (set(sys.modules) - before))"
    )
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_help_has_an_example_and_the_exit_codes() -> None:
    """The help has examples and exit codes."""
    told = run("--help").output
    assert "\n    skycore report promo.db --html report.html\n" in told
    assert "\n    skycore report postgresql://me@db/sms --html report.html\n" in told
    assert "Exit codes" in told


# Of a database.


def test_a_database_is_reported_on_as_a_file_is(
    ledger: Path, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database with the same messages gives the same data as a file."""
    for name in ("shared_reader.PAGE", "shared_reader.SharedReader._page", "postgres.reader.PAGE"):
        monkeypatch.setattr(f"skycore_async.ledger.{name}", 2)
    anyio.run(fill, PostgresLedger(dsn, clock=NOON.timestamp))
    of_file = json.loads(run(ledger, "--json").stdout)
    done = run(dsn, "--json", "--html", tmp_path / "report.html")
    of_database = json.loads(done.stdout)
    assert of_database.pop("ledger").startswith("PostgreSQL database postgres at ")
    assert of_file.pop("ledger") == "promo.db"
    assert of_database.pop("made") > of_file.pop("made")
    assert of_database == of_file
    text = Page((tmp_path / "report.html").read_text("utf-8")).text
    assert "Report on PostgreSQL database postgres at" in text
    assert dsn not in text + done.output


def test_a_database_that_workers_send_from_is_reported_on(dsn: str) -> None:
    """A message that a live session sends is no doubt in the report."""

    async def meanwhile() -> Result:
        async with PostgresLedger(dsn) as owner:
            await owner.begin(
                SendIntent(
                    key="now", content=b"", to=NUMBER, from_="60856", started_at=NOON.timestamp()
                )
            )
            done = await anyio.to_thread.run_sync(lambda: run(dsn, "--json"))
            await owner.finish("now", Submission(state=MessageState.REJECTED, code="E110"))
        return done

    assert json.loads(anyio.run(meanwhile).stdout)["states"]["sending"] == 1
    assert json.loads(run(dsn, "--json").stdout)["states"]["rejected"] == 1


def test_the_database_may_come_from_the_environment(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SKYCORE_DSN replaces the argument."""
    monkeypatch.setenv("SKYCORE_DSN", dsn)
    assert json.loads(run("--json").stdout)["messages"] == 0
    assert "--html report.html" in wrong(run())


def test_the_name_of_a_database_is_only_words(postgres_server: Server) -> None:
    """A database's name is printed without markup."""
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        connection.execute('CREATE DATABASE "[/x]"')
        try:
            dsn = make_conninfo(postgres_server.dsn(), dbname="[/x]")
            with psycopg.connect(dsn, autocommit=True) as made:
                migrate(made)
            assert " [/x] " in json.loads(run(dsn, "--json").stdout)["ledger"]
        finally:
            connection.execute('DROP DATABASE "[/x]" WITH (FORCE)')


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("postgresql://me:s3cret@/orders?host=NOWHERE", "database orders at"),
        ("postgress://me:s3cret@db/orders", "not a PostgreSQL connection string"),
    ],
)
def test_an_unreadable_database_is_reported(dsn: str, said: str, tmp_path: Path) -> None:
    """A database that cannot be read is a one-line error without password."""
    args = (dsn.replace("NOWHERE", str(tmp_path)), "--html", tmp_path / "report.html")
    line = wrong(run(*args))
    assert said in line
    assert "s3cret" not in line
    assert list(tmp_path.iterdir()) == []
