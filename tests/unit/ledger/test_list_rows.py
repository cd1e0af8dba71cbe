"""Lists and counts of many messages, without reading each with its notifications."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycore_async import DeliveryReceipt, FailureReason, parse_postback
from skycore_async.ledger import list_commands, list_statements
from skycore_async.ledger.list_commands import CountMessages, ListLines
from skycore_async.ledger.list_rows import CountedPage, EndedKind, MessageLine
from skycore_async.ledger.list_rows import NamedCarrier as Carrier
from skycore_async.ledger.model import Delivery, MessageState
from skycore_async.ledger.reader import LedgerReader
from skycore_async.ledger.sqlite import reader
from skycore_async.notifications import Notification
from tests.support.ledger_cases import NOON, TO
from tests.support.ledger_rows import store_of

S = MessageState


def delivery(state: str, *events: Notification, key: str = "k", **about: Any) -> Delivery:
    values: dict[str, Any] = dict.fromkeys(("tracking_id", "settled_by", "code", "info"))
    values["reason"] = FailureReason.EXPIRED if state == "failed" else None
    began = datetime.fromtimestamp(NOON, UTC)
    values |= {"key": key, "to": TO, "from_": "60856", "began": began, **about}
    return Delivery(state=S(state), events=events, **values)


def flat(after: float = 5, more: str = "", *, code: str = "N202") -> Notification:
    """Make a receipt in the flat form: delivered, or failed by its code."""
    at = (datetime.fromtimestamp(NOON, UTC) + timedelta(seconds=after)).isoformat()
    status = "" if "tatus" in more else "<STATUS>Message Sent/Delivered</STATUS>"
    status = status if code == "N202" else "<STATUS>Message Sent/Expired</STATUS>"
    (made,) = parse_postback(
        f"<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>{code}</CODE>{status}{more}"
        f"<TIMESTAMP>{at}</TIMESTAMP></POSTBACK>"
    )
    return made


def nested(more: str = "", status: str = '<STATUS PROTOCOL="4" STATUS="0"/>') -> Notification:
    """Make a receipt in the form of notifications."""
    (made,) = parse_postback(
        "<NOTIFICATION><ORIGIN>SMS_MT</ORIGIN><CODE>N201</CODE>"
        f"<BODY>{status}{more}</BODY></NOTIFICATION>"
    )
    return made


def handed_over(spid: str) -> Notification:
    (made,) = parse_postback(
        f"<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N201</CODE><SPID>{spid}</SPID></POSTBACK>"
    )
    return made


def counted(*deliveries: Delivery, step: int = 1) -> CountedPage:
    with store_of(deliveries) as store:
        return CountMessages(step=step, after=0).answer(store)


@pytest.mark.parametrize(
    ("events", "carrier"),
    [
        pytest.param([flat(more="<SPID>383</SPID>")], Carrier("383"), id="flat"),
        pytest.param([flat(more="<SPID> 383 </SPID>")], Carrier("383"), id="with blanks"),
        pytest.param([flat(more='<SPID x="1">383</SPID>')], Carrier("383"), id="an attribute"),
        pytest.param([flat(more="<spid>383</spid>")], Carrier("383"), id="other letters"),
        pytest.param([flat(more="<SPID></SPID>")], Carrier(), id="empty"),
        pytest.param([flat()], Carrier(), id="none"),
        pytest.param([flat(more="<NOTE>SPID</NOTE>")], Carrier(), id="as a text"),
        pytest.param([nested()], Carrier(None, "4", "0"), id="a pair"),
        pytest.param([nested("<SPID>7</SPID>")], Carrier("7", "4", "0"), id="a pair and a name"),
        pytest.param(
            [nested(status='<Status protocole="4" status="0"/>')],
            Carrier(None, "4", "0"),
            id="a pair in other letters",
        ),
        pytest.param([handed_over("9"), flat()], Carrier("9"), id="the sent notification"),
        pytest.param([handed_over("9"), nested()], Carrier("9", "4", "0"), id="and a pair"),
        pytest.param(
            [handed_over("9"), flat(more="<SPID>383</SPID>")], Carrier("383"), id="the receipt's"
        ),
        pytest.param(
            [flat(9, "<SPID>late</SPID>"), flat(5, "<SPID>first</SPID>")],
            Carrier("first"),
            id="the first in time",
        ),
        pytest.param(
            [flat(5), flat(9, "<SPID>late</SPID>")], Carrier("late"), id="a later one names it"
        ),
        pytest.param([], Carrier(), id="no notification"),
        pytest.param([handed_over("9")], Carrier("9"), id="nothing that decides"),
    ],
)
def test_the_carrier_is_who_decided_names(
    events: Sequence[Notification], carrier: Carrier
) -> None:
    """The carrier is that of the deciding notification, or else of another one."""
    found = counted(delivery("delivered", *events))
    assert found.ended == {EndedKind("delivered", None, carrier): 1}


TIMES = st.sampled_from((1.0, 5.0, 5.0, 30.0))
EVENTS = st.one_of(
    st.builds(flat, TIMES, st.sampled_from(("", "<SPID>1</SPID>")), code=st.just("N202")),
    st.builds(flat, TIMES, st.just("<SPID>2</SPID>"), code=st.just("E202")),
    st.builds(handed_over, st.just("3")),
)


@pytest.mark.slow
@given(st.lists(st.lists(EVENTS, max_size=4), max_size=5))
def test_what_decided_is_what_decides_in_a_delivery(histories: list[list[Notification]]) -> None:
    """The deciding notification is the first final one in a delivery's order."""
    with store_of([delivery("delivered", *events) for events in histories]) as store:
        found = CountMessages(step=1, after=0).answer(store)
        finals = [
            next(
                (e for e in each.events if getattr(e, "state", None) in {"delivered", "failed"}),
                None,
            )
            for each in store.deliveries(None, 0).rows
        ]
    decided = [each for each in finals if isinstance(each, DeliveryReceipt)]
    took = [each.timestamp.timestamp() - NOON for each in decided if each.timestamp]
    assert sorted(found.times) == sorted(took)
    named = Counter(each.spid for each in decided if each.spid)
    by_name: Counter[str | None] = Counter()
    for kind, messages in found.ended.items():
        by_name[kind.carrier.spid] += messages
    assert all(by_name[spid] >= count for spid, count in named.items())
    assert by_name.total() == len(histories)


def pages(store: LedgerReader, state: MessageState) -> Iterator[Sequence[MessageLine]]:
    after: int | None = 0
    while after is not None:
        page = ListLines(state=state, after=after).answer(store)
        yield page.rows
        after = page.last


@pytest.mark.parametrize("span", [1, 3, 100])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_a_list_has_every_message_of_a_state_once(
    span: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list by state has every message of that state once, whatever the page size."""
    for module in (list_commands, reader):
        monkeypatch.setattr(module, "SPAN", span)
    monkeypatch.setattr(list_statements, "LONG_PAGE", size)
    monkeypatch.setattr(reader.SQLiteReader, "_page", size)
    states = [*islice(product(("delivered", "in_doubt", "delivered", "not_sent")), 4)] * 3
    given = [delivery(state, key=f"k{n}") for n, (state,) in enumerate(states)]
    given += [delivery("rejected", key="x")] * 8
    with store_of(given) as store:
        for state in S:
            keys = [each.key for each in given if each.state is state and each.key != "x"]
            lines = [row.key for rows in pages(store, state) for row in rows]
            assert [key for key in lines if key[0] == "k"] == keys
            after: int | None = 0
            read: list[str] = []
            while after is not None:
                page = store.deliveries(state, after)
                read += [each.key for each in page.rows]
                after = page.last
            assert read == lines


def test_a_line_counts_its_notifications() -> None:
    """A line counts the notifications of its own message."""
    with store_of(
        [delivery("delivered", handed_over("1"), flat()), delivery("delivered")]
    ) as store:
        (rows,) = pages(store, S.DELIVERED)
        assert [row.events for row in rows] == [2, 0]
        assert rows[0] == ("k", "T1", TO, "60856", "delivered", None, None, NOON, *[None] * 3, 2)


def test_messages_are_counted_by_slots_of_time() -> None:
    """Messages of one time slot and kind are counted together, with first and last time."""
    began = datetime.fromtimestamp(NOON, UTC)
    labelled: dict[str, Any] = {"campaign_ref": "77", "segments": 2, "tags": ("a",)}
    page = counted(
        *(
            delivery("accepted", key=str(n), began=began + timedelta(seconds=n), **labelled)
            for n in range(10)
        ),
        delivery("rejected", key="r", code="E110"),
        delivery("in_doubt", key="d", code="E503"),
        step=10,
    )
    assert sorted(page.begun) == [
        (NOON // 10, "accepted", None, None, 10, NOON, NOON + 9, "77", '["a"]', 20, 0),
        (NOON // 10, "in_doubt", None, None, 1, NOON, NOON, None, None, 0, 1),
        (NOON // 10, "rejected", None, "E110", 1, NOON, NOON, None, None, 0, 1),
    ]
    assert page.last is None
