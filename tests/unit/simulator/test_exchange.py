"""What the pretend Skycore decides, with bytes and a clock alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest

from skycore_async.codes import API_ERRORS
from skycore_async.protocol import safe_xml
from skycore_async.simulator.account import Account
from skycore_async.simulator.answers import Ending, failure
from skycore_async.simulator.behaviours import (
    BY_LAST_DIGITS,
    DELIVERED,
    SENT,
    Answer,
    Behaviour,
    refusal,
)
from skycore_async.simulator.exchange import Decision, ReceivedMessage, Skycore

NOW = 1.8e9


def ask(skycore: Skycore, to: str = "15551234888", now: float = NOW, **fields: str) -> Decision:
    values = {
        "ACTION": "sendSMS",
        "API_KEY": "simulator-key",
        "TO": to,
        "FROM": "60856",
        "TEXT": "Hello",
        **fields,
    }
    elements = "".join(
        f"<{name}>{safe_xml.escape(value)}</{name}>" for name, value in values.items()
    )
    body = urlencode({"xml": f"<REQUEST>{elements}</REQUEST>"}).encode()
    return skycore.decide("POST", query=b"", body=body, now=now)


def answered(decision: Decision) -> dict[str, Any]:
    root, fields = safe_xml.parse(decision.reply.body)
    assert root == "RESPONSE"
    return {name: value.strip() for name, value in fields.items() if name != "#text"}


def test_a_message_is_taken_logged_and_billed() -> None:
    """A valid request gives Success with a tracking id, and the log has all of it."""
    skycore = Skycore(Account())
    decision = ask(
        skycore, CAMPAIGNREF="77676", SPID="0001470", OPERATORID="2", FROM_MASK="Jerry's"
    )
    (message,) = skycore.messages
    assert message == ReceivedMessage(
        to="15551234888",
        text="Hello",
        from_="60856",
        campaign_ref="77676",
        spid="0001470",
        operator_id="2",
        from_mask="Jerry's",
        tracking_id=message.tracking_id,
        taken=True,
        code=None,
        method="POST",
        time=datetime.fromtimestamp(NOW, UTC),
    )
    assert answered(decision) == {
        "STATUS": "Success",
        "TRACKINGID": message.tracking_id,
        "TO": "15551234888",
    }
    assert (skycore.requests, skycore.billed) == (1, 1)


def test_a_get_is_answered() -> None:
    """A GET with the same fields makes the same message."""
    skycore = Skycore(Account())
    query = b"action=sendsms&api_key=simulator-key&to=15551234888&from=60856&text=Hello+Jerry"
    decision = skycore.decide("GET", query=query, body=b"", now=NOW)
    assert answered(decision)["STATUS"] == "Success"
    assert (skycore.messages[0].text, skycore.messages[0].method) == ("Hello Jerry", "GET")


def test_other_methods_are_not_allowed() -> None:
    """HEAD and other methods send nothing."""
    skycore = Skycore(Account())
    query = b"action=sendsms&api_key=simulator-key&to=15551234888&from=60856&text=Hello"
    assert skycore.decide("HEAD", query=query, body=b"", now=NOW).reply.status == 405
    assert (skycore.requests, skycore.billed, skycore.messages) == (1, 0, [])


def test_an_unreadable_request_is_counted_and_not_logged() -> None:
    """An unreadable request is answered with its code, counted, and not in the log."""
    skycore = Skycore(Account())
    decision = skycore.decide("POST", query=b"", body=b"", now=NOW)
    assert answered(decision)["ERRORCODE"] == "E100"
    assert (skycore.requests, skycore.billed, skycore.messages) == (1, 0, [])


def test_a_refused_message_is_logged_and_not_billed() -> None:
    """A refused message is in the log with its code, and no postback follows."""
    skycore = Skycore(Account(billing_hold=True))
    decision = ask(skycore)
    assert answered(decision) == {
        "STATUS": "Failure",
        "ERRORCODE": "E713",
        "ERRORINFO": API_ERRORS["E713"].meaning,
        "TO": "15551234888",
    }
    (message,) = skycore.messages
    assert (message.taken, message.code, message.tracking_id) == (False, "E713", None)
    assert decision.postbacks == ()
    assert skycore.billed == 0


def test_a_failure_without_recipient_has_no_to() -> None:
    """An empty field is left out of the answer, and an unknown code has some text."""
    assert b"<TO>" not in failure("E201").body
    assert b"<ERRORINFO> no description</ERRORINFO>" in failure("E999", to="1").body


@pytest.mark.parametrize("digits", BY_LAST_DIGITS)
def test_every_number_is_billed_as_the_table_says(digits: str) -> None:
    """The last digits choose the behaviour: the bill, the code and the postbacks follow it."""
    skycore, row = Skycore(Account()), BY_LAST_DIGITS[digits]
    decision = ask(skycore, to=f"1555123{digits}")
    assert skycore.billed == row.taken
    assert skycore.messages[0].code == row.code
    assert (skycore.messages[0].tracking_id is not None) is row.taken
    expected = row.postbacks if row.taken else ()
    assert tuple(postback.event for postback in decision.postbacks) == expected
    assert decision.delay == row.delay
    assert decision.postbacks_first is row.postbacks_first


@pytest.mark.parametrize(
    ("answer", "status", "ending", "part"),
    [
        (Answer.SUCCESS, 200, Ending.WHOLE, b"<TRACKINGID>U01T"),
        (Answer.WITHOUT_TRACKING_ID, 200, Ending.WHOLE, b"<STATUS>Success</STATUS>\n\t<TO>"),
        (Answer.TRUNCATED, 200, Ending.WHOLE, b"<TRACKINGID>U01T"),
        (Answer.EMPTY, 200, Ending.WHOLE, b""),
        (Answer.HTML_200, 200, Ending.WHOLE, b"<html>"),
        (Answer.THROTTLED_429, 429, Ending.WHOLE, b"<html>"),
        (Answer.BAD_GATEWAY, 502, Ending.WHOLE, b"<html>"),
        (Answer.UNAVAILABLE, 503, Ending.WHOLE, b"<html>"),
        (Answer.CUT_SHORT, 200, Ending.CUT_SHORT, b"</RESPONSE>"),
        (Answer.CLOSE, 200, Ending.CLOSE, b""),
        (Answer.DROP, 200, Ending.DROP, b""),
        (Answer.HANG, 200, Ending.HANG, b""),
    ],
)
def test_every_answer_looks_as_documented(
    answer: Answer, status: int, ending: Ending, part: bytes
) -> None:
    """Status, ending and body of each answer are what its description says."""
    skycore = Skycore(Account())
    skycore.script(Behaviour(answer=answer))
    reply = ask(skycore).reply
    assert (reply.status, reply.ending) == (status, ending)
    assert part in reply.body
    assert bool(reply.body) is bool(part)


def test_a_truncated_answer_is_no_xml() -> None:
    """A truncated answer ends inside the tracking id."""
    skycore = Skycore(Account())
    reply = ask(skycore, to="15551232009").reply
    with pytest.raises(safe_xml.XMLRefused):
        safe_xml.parse(reply.body)


def test_http_429_says_when_to_come_back() -> None:
    """Retry-After is the behaviour's, in whole seconds."""
    skycore = Skycore(Account())
    skycore.script(Behaviour(answer=Answer.THROTTLED_429, taken=False, retry_after=7))
    assert ask(skycore).reply.headers["retry-after"] == "7"


def test_tracking_ids_are_unique() -> None:
    """No two messages share a tracking id, and no two runs that start apart do."""
    one, other = Skycore(Account()), Skycore(Account(), first_id=10**6)
    for skycore in (one, other):
        for _ in range(100):
            ask(skycore)
    ids = [message.tracking_id for message in one.messages + other.messages]
    assert len(set(ids)) == 200


def test_postbacks_carry_what_the_message_had() -> None:
    """A postback has the message's fields, the sender mask cut at 11 characters."""
    skycore = Skycore(Account())
    decision = ask(skycore, OPERATORID="0001470", FROM_MASK="Twelve chars")
    sent, receipt = decision.postbacks
    assert sent.tracking_id == receipt.tracking_id == skycore.messages[0].tracking_id
    assert (sent.to, sent.from_, sent.from_mask, sent.spid) == (
        *("15551234888", "60856", "Twelve char", "0001470"),
    )
    assert sent.id != receipt.id
    assert sent.history_id == receipt.history_id


@pytest.mark.parametrize("to", ["15551234888", "15551231001", "15551231007"])
def test_a_receipt_is_of_a_pause_later_than_the_sending(to: str) -> None:
    """A receipt tells the time to delivery, which is scaled, also where it comes first."""
    postbacks = ask(Skycore(Account(), time_scale=0.5), to=to).postbacks
    after = {post.event is SENT: post.timestamp.timestamp() - NOW for post in postbacks}
    assert after == {True: 0.0, False: 0.5}
    assert all(post.created == post.timestamp for post in postbacks)


def test_a_repeated_receipt_is_the_same_postback() -> None:
    """A receipt that comes twice has the same id and creation time both times."""
    _, first, second = ask(Skycore(Account()), to="15551231006").postbacks
    assert first == second


def test_a_script_goes_before_the_table_and_in_order() -> None:
    """Scripted behaviours are used once each, in order, and then the table again."""
    skycore = Skycore(Account())
    skycore.script(refusal("E120"), Behaviour())
    skycore.script(refusal("E114"))
    codes = [answered(ask(skycore, to="15551230713")).get("ERRORCODE") for _ in range(4)]
    assert codes == ["E120", None, "E114", "E713"]


def test_a_refused_request_leaves_the_script_alone() -> None:
    """A refused request uses up no scripted behaviour."""
    skycore = Skycore(Account())
    skycore.script(refusal("E120"))
    assert answered(ask(skycore, to="1"))["ERRORCODE"] == "E110"
    skycore.decide("POST", query=b"", body=b"", now=NOW)
    assert answered(ask(skycore))["ERRORCODE"] == "E120"


def test_pace_goes_before_the_script_and_after_the_checks() -> None:
    """An invalid request does not count for the pace, and a throttled one uses no script."""
    skycore = Skycore(Account(rate=1))
    assert answered(ask(skycore, TEXT=""))["ERRORCODE"] == "E712"
    assert answered(ask(skycore))["STATUS"] == "Success"
    skycore.script(Behaviour())
    assert answered(ask(skycore))["ERRORCODE"] == "E113"
    assert answered(ask(skycore, now=NOW + 1))["STATUS"] == "Success"
    assert skycore.billed == 2


def test_without_a_table_every_number_is_delivered() -> None:
    """Without the table of magic numbers every message is delivered."""
    skycore = Skycore(Account(), behaviours={})
    decision = ask(skycore, to="15551230713")
    assert [postback.event for postback in decision.postbacks] == [SENT, DELIVERED]
