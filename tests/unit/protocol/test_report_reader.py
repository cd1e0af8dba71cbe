"""Sending reports: every form to the same messages, and none complete that is not all of one."""

from __future__ import annotations

import codecs
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycore_async import ReportedMessage, ReportError, ReportSection
from skycore_async.ledger.texts import digest_of
from skycore_async.protocol.report_reader import MAX_TAG, ReportReader
from skycore_async.protocol.report_tags import moment
from skycore_async.simulator.report_file import ReportForm, write_report

NOON = datetime(2012, 4, 30, 12, 30, 12, 327558, tzinfo=UTC)
JERRY = ReportedMessage(
    history_id="236990",
    to="15551234888",
    from_="60856",
    text="Hello Jerry",
    carrier="AT&T",
    section=ReportSection.SENDING_LIST,
    acknowledged_at=NOON,
    delivered_at=NOON + timedelta(seconds=2),
)


def read(report: bytes, *, at_a_time: int = 2**30) -> tuple[list[ReportedMessage], ReportReader]:
    """Read a report in pieces of so many bytes."""
    reader = ReportReader(at_a_time=at_a_time)
    messages: list[ReportedMessage] = []
    for at in range(0, len(report), at_a_time):
        messages += reader.feed(report[at : at + at_a_time])
    return messages + reader.finish(), reader


def listed(*messages: str) -> bytes:
    """Write a report with these in its sending list."""
    return f"<RESPONSE><SENDING_LIST>{''.join(messages)}</SENDING_LIST></RESPONSE>".encode()


# The documented examples, and what may come in their place, all of the same message.
TEXT = '<TEXT id="236990" to="15551234888" from="60856" carrier="AT&T" text="Hello Jerry"'
ACK, DLR = '<ACK gw="10" net="0" time="{}"', '<DLR gw="20" net="0" time="{}"'
ACK_2014 = ACK.format("2012-04-30T12:30:12.327558Z")
DLR_2014 = DLR.format("2012-04-30T12:30:14.327558Z")
ACK_2013 = ACK.format("2012-04-30 08:30:12.327558-04")
DLR_2013 = DLR.format("2012-04-30 08:30:14.327558-04")
SAME = {
    "well-formed": f"{TEXT.replace('&', '&amp;')}>{ACK_2014}/>{DLR_2014}/></TEXT>",
    "events with ends": f"{TEXT}>{ACK_2014}></ACK>{DLR_2014}></DLR></TEXT>",
    "events never closed": f"{TEXT}>\n{ACK_2014}>\n{DLR_2014}>\n</TEXT>",
    "of 2013": f"{TEXT}>{ACK_2013}>{DLR_2013}></TEXT>",
    "dots between": f"....{TEXT}>....{ACK_2014}>\n....\n{DLR_2014}></TEXT>....",
    "closed before its events": f"{TEXT} />{ACK_2014}>{DLR_2014}></TEXT>",
    "never closed": f"{TEXT}>{ACK_2014}>{DLR_2014}>",
    "events in another order": f"{TEXT}>{DLR_2014}/>{ACK_2014}/></TEXT>",
    "events again": f"{TEXT}>{ACK_2014}>{DLR_2014}>{DLR_2014.replace('12:30', '13:30')}></TEXT>",
    "an event without a time": f"{TEXT}><DLR/>{ACK_2014}>{DLR_2014}><ACK time=''></TEXT>",
    "attributes in another order": (
        '<TEXT text="Hello Jerry" carrier="AT&amp;T" from="60856" to="15551234888" id="236990">'
        f"{ACK_2014}/>{DLR_2014}/></TEXT>"
    ),
    "body": f"{TEXT.replace('text=', 'body=')}>{ACK_2014}/>{DLR_2014}/></TEXT>",
    "lines within a tag": (
        f"{TEXT.replace(' ', chr(10))}\n>{ACK_2014}\n/>{DLR_2014}/>\n</TEXT\n>"
    ).replace("Hello\n", "Hello\r\n"),
    "apostrophes": f"{TEXT}>{ACK_2014}>{DLR_2014}></TEXT>".replace('"', "'"),
    "capitals": f"{TEXT}>{ACK_2014}>{DLR_2014}></TEXT>".replace("id=", "ID=").replace(
        "TEXT ", "Text "
    ),
    "references": f"{TEXT}>{ACK_2014}/>{DLR_2014}/></TEXT>".replace(
        "Hello Jerry", "&#72;ell&#x6F;&#32;Jerry"
    ),
    "more that is documented": (
        f'<!-- a comment --><?an instruction?><CONTENT id="1" subject="an MMS"/>{TEXT} new="1">'
        f'{ACK_2014}/>{DLR_2014}/></TEXT><CONTENT to="1"><TEXT id="2" to="3" text="not ours"/>'
        "<CONTENT><IMG></CONTENT> any text <CONTENT/></CONTENT>"
    ),
}


@pytest.mark.parametrize("at_a_time", [1, 2**30], ids=["by bytes", "at once"])
@pytest.mark.parametrize("written", SAME.values(), ids=SAME)
def test_a_message_is_the_same_in_every_form(written: str, at_a_time: int) -> None:
    """Well-formed, or broken as in the provider's examples: one message, of a complete report."""
    messages, reader = read(listed(written), at_a_time=at_a_time)
    assert (messages, reader.problem, reader.is_complete) == ([JERRY], None, True)


INHERITING = {
    ReportSection.BATCHES: (
        '<BATCHES><BATCH from="60856" body="Hello Jerry" campaignid="77676"'
        ' scheduled_date="2012-04-30 08:30:00 @server localtime"{}>'
        '<TEXT id="236990" to="15551234888" carrier="AT&T">{}</TEXT></BATCH></BATCHES>'
    ),
    ReportSection.AUTORESPONDERS: (
        '<AUTORESPONDERS><AUTORESPONDER from="60856" body="Hello Jerry"{}>'
        '<TEXT id="236990" to="15551234888" carrier="AT&T">{}</TEXT></AUTORESPONDER>'
        "</AUTORESPONDERS>"
    ),
    ReportSection.SUBSCRIPTIONS: (
        '<SUBSCRIPTIONS><SUB to="15551234888" carrier="AT&T" from="60856"{}>'
        '<TEXT id="236990" text="Hello Jerry">{}</TEXT></SUB></SUBSCRIPTIONS>'
    ),
}


@pytest.mark.parametrize("closed", ["", " /"], ids=["well-formed", "closed before its messages"])
@pytest.mark.parametrize("section", INHERITING)
def test_a_message_inherits_from_its_group(section: ReportSection, closed: str) -> None:
    """A message inherits values of its own group, and of no other."""
    group = INHERITING[section].format(closed, f"{ACK_2014}/>{DLR_2014}/>")
    bare = '<SENDING_LIST><TEXT id="1" to="2" text="3"/></SENDING_LIST>'
    messages, reader = read(f"<RESPONSE>{group}{bare}</RESPONSE>".encode())
    assert messages == [
        attrs.evolve(JERRY, section=section),
        ReportedMessage(history_id="1", to="2", text="3", section=ReportSection.SENDING_LIST),
    ]
    assert reader.is_complete


def test_inherited_values_end_with_their_section() -> None:
    """Inherited values end with the section, even if the group is never closed."""
    group = '<BATCHES><BATCH from="60856" carrier="AT&T"></BATCHES>'
    bare = '<SENDING_LIST><TEXT id="1" to="2" text="3"/></SENDING_LIST>'
    ((message,), _) = read(f"<RESPONSE>{group}{bare}</RESPONSE>".encode())
    assert (message.from_, message.carrier) == (None, None)


@pytest.mark.parametrize("at_a_time", [1, 2**30], ids=["by bytes", "at once"])
def test_undecodable_bytes_are_replaced(at_a_time: int) -> None:
    """Undecodable bytes are replaced, wherever the report is cut into pieces."""
    rows = b'<TEXT id="1" to="2" text="caf\xe9!"/>' + '<TEXT id="2" to="2" text="é"/>'.encode()
    messages, _ = read(listed("|").replace(b"|", rows), at_a_time=at_a_time)
    assert [message.text for message in messages] == ["caf\ufffd!", "é"]


def test_own_values_come_before_inherited_ones() -> None:
    """A message's own values come before inherited ones."""
    own = '<TEXT id="1" to="2" from="7" text="own"/><TEXT id="2" to="2" body="own"/>'
    group = f'<BATCHES><BATCH from="60856" body="all"/>{own}</BATCH><BATCH/></BATCHES>'
    messages, _ = read(f"<RESPONSE>{group}</RESPONSE>".encode())
    assert [(each.from_, each.text) for each in messages] == [("7", "own"), ("60856", "own")]


# Texts of a well-formed attribute, or one that was not escaped, and what they are read to.
VALUES = {
    "say &quot;hi&quot; &lt;3 &apos;&gt;&amp;amp;": 'say "hi" <3 \'>&amp;',
    "Msg&Data rates & more": "Msg&Data rates & more",
    "AT&T; &copy; &#xD800; &#0; &#99999999;": "AT&T; &copy; &#xD800; &#0; &#99999999;",
    "a\r\nb\nc\td": "a b c d",
    "a&#10;b&#x1F600;": "a\nb\U0001f600",
    'say "hi" now': 'say "hi" now',
    '"hi"': '"hi"',
    "1 < 2 > 0, <b>": "1 < 2 > 0, <b>",
    "it's": "it's",
    " spaces  ": " spaces  ",
    "....": "....",
}


@pytest.mark.parametrize(("written", "text"), VALUES.items(), ids=VALUES.values())
def test_the_text_of_a_value(written: str, text: str) -> None:
    """Escaped text is unescaped as in XML; text that is not escaped stays as it is."""
    messages, reader = read(listed(f'<TEXT id="1" to="2" text="{written}"></TEXT>'))
    assert [message.text for message in messages] == [text]
    assert reader.is_complete


@pytest.mark.parametrize(
    "sent",
    ["Tom & Jerry", "Tom &amp; Jerry", "&amp;amp;", "&lt;b&gt; &#38;#38;", "1\n2\t\r\n 3", "&"],
)
@pytest.mark.parametrize("is_escaped", [True, False])
def test_a_text_has_the_same_digest_in_any_report(sent: str, is_escaped: bool) -> None:
    """A text has the same digest whether or not the report escapes it."""
    written = sent.replace("&", "&amp;").replace("<", "&lt;") if is_escaped else sent
    ((message,), _) = read(listed(f'<TEXT id="1" to="2" text="{written}"></TEXT>'))
    assert digest_of(message.text) == digest_of(sent)


# What is not all of a report, with the messages that are read all the same.
WHOLE = f"{TEXT}>{ACK_2014}/>{DLR_2014}/></TEXT>"
NOT_COMPLETE = {
    "breaks off behind a message": (listed(WHOLE)[:-26], 1),
    "breaks off within a message": (listed(WHOLE)[:-40], 0),
    "breaks off before the end of a message": (listed(WHOLE)[:-28], 0),
    "breaks off within the last tag": (listed(WHOLE)[:-1], 1),
    "breaks off within a tag": (listed(WHOLE)[:60], 0),
    "breaks off in an MMS": (listed(WHOLE, "<CONTENT>")[:-5], 1),
    "a section without an end": (f"<RESPONSE><SENDING_LIST>{WHOLE}</RESPONSE>".encode(), 1),
    "a section in another": (f"<RESPONSE><BATCHES>{listed(WHOLE).decode()[10:]}".encode(), 1),
    "an MMS without an end": (listed(WHOLE, "<CONTENT>", WHOLE), 1),
    "text between": (listed(WHOLE, "E510"), 1),
    "a quote that ends its tag too early": (
        listed(WHOLE, '<TEXT id="1" to="2" text="the 5"> kind" from="3"></TEXT>'),
        1,
    ),
    "an attribute twice": (listed(WHOLE, '<TEXT id="1" to="2" text="a" to="3"></TEXT>'), 1),
    "an attribute of an event twice": (listed(f"{TEXT}><ACK gw='1' gw='2'>{WHOLE}"), 1),
    "a message without a number": (listed(WHOLE, '<TEXT id="1" text="a"></TEXT>'), 1),
    "a message without an id": (listed(WHOLE, '<TEXT to="1" text="a"/>'), 1),
    "a message without a text": (listed(WHOLE, '<TEXT id="1" to="1"/>'), 1),
    "a message outside of the sections": (f"<RESPONSE>{WHOLE}</RESPONSE>".encode(), 0),
    "an event outside of a message": (listed(WHOLE, "<ACK/>"), 1),
    "a group outside of its section": (listed(WHOLE, "<BATCH/>"), 1),
    "an element of another format": (listed(WHOLE, "<REPORT/>"), 1),
    "another root in it": (listed(WHOLE, "<RESPONSE>"), 1),
    "an answer of the API's": (b"<RESPONSE><STATUS>Success</STATUS></RESPONSE>", 0),
    "a comment behind the end that breaks off": (listed(WHOLE) + b"<!-- and", 1),
    "text behind the end": (listed(WHOLE) + b"and more", 1),
    "another one behind the end": (listed(WHOLE) + listed(WHOLE), 1),
    "a lone <": (listed(WHOLE, "< >"), 1),
    "bytes that are no UTF-8": (listed(WHOLE, '<TEXT id="1" to="2" text="')[:-28] + b"\xe9'/>", 1),
    "a character that breaks off": (listed(WHOLE)[:-26] + "é".encode()[:1], 1),
}


@pytest.mark.parametrize("at_a_time", [1, 2**30], ids=["by bytes", "at once"])
@pytest.mark.parametrize(("report", "count"), NOT_COMPLETE.values(), ids=NOT_COMPLETE)
def test_a_damaged_report_is_not_complete(report: bytes, count: int, at_a_time: int) -> None:
    """A damaged report gives its rows and is not complete."""
    messages, reader = read(report, at_a_time=at_a_time)
    assert [message.history_id for message in messages][:count] == ["236990"] * count
    assert all(message.history_id == "236990" for message in messages)
    assert not reader.is_complete
    assert reader.problem


def test_an_answer_that_was_saved_as_a_report_is_called_one() -> None:
    """Who downloaded an error in place of a report reads what it is."""
    _, reader = read(
        b"<RESPONSE><STATUS>Failure</STATUS><ERRORCODE>E510</ERRORCODE></RESPONSE>", at_a_time=1
    )
    assert reader.problem == "it is an answer of the API in place of a report, as for an error"


NO_REPORT = {
    "nothing": b"",
    "white space": b" \n",
    "an HTML page": b"<!DOCTYPE html><html><body>Log in</body></html>",
    "an HTML page without a DOCTYPE": b"<!-- x --><html><body>Log in</body></html>",
    "text": b"No data for this period",
    "JSON": b'{"error": "expired"}',
    "another root": b"<POSTBACK></POSTBACK>",
    "an end alone": b"</RESPONSE>",
    "a DOCTYPE": b'<!DOCTYPE a [<!ENTITY b "c">]>' + listed(WHOLE),
    "a DOCTYPE within": listed(WHOLE, "<!DOCTYPE a>"),
    "a CDATA section": listed("<![CDATA[ ]]>"),
    "an encoding that is none": b'<?xml version="1.0" encoding="rot13"?>' + listed(WHOLE),
    "an encoding that there is not": b'<?xml version="1.0" encoding="iso-8859-12"?>' + listed(),
    "an encoding that it does not have": b'<?xml version="1.0" encoding="utf-16"?>' + listed(),
    "a tag without an end": listed('<TEXT id="' + "1" * MAX_TAG),
    "a comment without an end": listed("<!-- " + "1" * MAX_TAG),
    "compressed twice": b"\x1f\x8b\x08" + bytes(100),
}


@pytest.mark.parametrize("at_a_time", [1, 2**30], ids=["by bytes", "at once"])
@pytest.mark.parametrize("report", NO_REPORT.values(), ids=NO_REPORT)
def test_input_that_is_no_report_is_refused(report: bytes, at_a_time: int) -> None:
    """Input that is no report is a ReportError that quotes nothing of the input."""
    with pytest.raises(ReportError, match=r"^the report "):
        read(report, at_a_time=at_a_time if len(report) < MAX_TAG else MAX_TAG // 4)


@pytest.mark.parametrize(
    "empty", ["<RESPONSE/>", "<RESPONSE></RESPONSE>", "<RESPONSE>\n<SENDING_LIST/></RESPONSE>\n"]
)
def test_a_report_may_be_empty(empty: str) -> None:
    """Any section may be missing or empty; a complete report of nothing is one."""
    messages, reader = read(empty.encode())
    assert (messages, reader.is_complete) == ([], True)


ENCODINGS = {
    "UTF-8": listed(WHOLE),
    "UTF-8, declared": b'<?xml version="1.0" encoding="UTF-8"?>\n' + listed(WHOLE),
    "UTF-8, with a mark": codecs.BOM_UTF8 + listed(WHOLE),
    "Latin-1": b"<?xml version='1.0' encoding='ISO-8859-1' ?>" + listed(WHOLE),
    "Windows-1252": b'\n<?xml version="1.0" encoding="windows-1252"?>' + listed(WHOLE),
    "UTF-16": '<?xml version="1.0" encoding="utf-16"?>'.encode("utf-16") + listed(WHOLE),
    "UTF-16, the other way": codecs.BOM_UTF16_BE + listed(WHOLE),
}


@pytest.mark.parametrize(("name", "report"), ENCODINGS.items(), ids=ENCODINGS)
@pytest.mark.parametrize("at_a_time", [1, 7, 2**30])
def test_a_report_is_decoded_as_declared(name: str, report: bytes, at_a_time: int) -> None:
    """A report is decoded as declared, wherever it is cut into pieces."""
    text = "Ça coûte 3 €"
    encoding = {"Latin-1": "latin-1", "Windows-1252": "cp1252"}.get(name, "utf-8")
    if encoding == "latin-1":
        text = text.replace("€", "£")
    body = listed(WHOLE).decode().replace("Hello Jerry", text)
    head = report[: len(report) - len(listed(WHOLE))]
    if "16" in name:
        encoding = "utf-16-be" if "way" in name else "utf-16-le"
    messages, reader = read(head + body.encode(encoding), at_a_time=at_a_time)
    assert [message.text for message in messages] == [text]
    assert reader.is_complete


TIMES = {
    "2012-04-30T08:30:12.327558Z": datetime(2012, 4, 30, 8, 30, 12, 327558, tzinfo=UTC),
    "2012-04-30 08:30:12.327558-04": datetime(2012, 4, 30, 12, 30, 12, 327558, tzinfo=UTC),
    "2012-04-30 08:30:12.3275-04": datetime(2012, 4, 30, 12, 30, 12, 327500, tzinfo=UTC),
    "2012-04-30T08:30:12.32755Z": datetime(2012, 4, 30, 8, 30, 12, 327550, tzinfo=UTC),
    " 2012-04-30 08:30:12+05:30 ": datetime(2012, 4, 30, 3, 0, 12, tzinfo=UTC),
    "2012-04-30T08:30:12.327558": None,  # of which zone?
    "0001-01-01T00:00:00+04": None,
    "yesterday": None,
    "": None,
    None: None,
}


@pytest.mark.parametrize(("written", "time"), TIMES.items())
def test_times_are_in_utc(written: str | None, time: datetime | None) -> None:
    """Times of both editions are read as UTC; one without offset is None."""
    assert moment(written) == time
    assert time is None or moment(written).tzinfo is UTC  # type: ignore[union-attr]


def test_of_several_errors_the_earliest_counts() -> None:
    """Of several errors of a message the earliest counts."""
    later, first = (
        f'<ERROR info="{why}" time="2012-04-30T1{hour}:00:00Z">'
        for why, hour in (("b", 5), ("a", 4))
    )
    ((message,), _) = read(listed(f"{TEXT}>{later}{first}</TEXT>"))
    assert (message.info, message.failed_at) == ("a", datetime(2012, 4, 30, 14, tzinfo=UTC))


# Any messages at all, in any form.

texts = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("&;#<>\"'\n\t =/."),
    min_size=1,
    max_size=40,
)
words = st.from_regex(r"[A-Za-z][A-Za-z& ]{0,10}[a-z]", fullmatch=True)
moments = st.none() | st.datetimes(
    datetime(2011, 1, 1),
    datetime(2030, 1, 1),
    timezones=st.just(UTC),
)
reported = st.builds(
    ReportedMessage,
    history_id=st.integers(1, 10**9).map(str),
    to=st.from_regex(r"[0-9]{5,15}", fullmatch=True),
    from_=st.none() | st.just("60856"),
    text=texts.filter(str.strip),
    carrier=st.none() | words,
    section=st.sampled_from(ReportSection),
    acknowledged_at=moments,
    delivered_at=moments,
    failed_at=moments,
    info=st.just("delivery failure"),
).map(lambda message: attrs.evolve(message, info=message.info if message.failed_at else None))
forms = st.builds(
    ReportForm,
    well_formed=st.booleans(),
    edition=st.sampled_from((2013, 2014)),
    text_attribute=st.sampled_from(("text", "body")),
    names_sender=st.booleans(),
    with_mms=st.booleans(),
)


def as_reported(message: ReportedMessage, form: ReportForm) -> ReportedMessage:
    """Return what can be read of a message in a form."""
    sender = message.from_
    if message.section is ReportSection.SENDING_LIST and not form.names_sender:
        sender = None
    text = message.text.replace("\n", " ").replace("\t", " ")
    return attrs.evolve(message, text=text, from_=sender)


@pytest.mark.slow
@given(messages=st.lists(reported, max_size=5), form=forms, at_a_time=st.integers(1, 200))
def test_a_report_of_any_form_is_read_as_written(
    messages: list[ReportedMessage], form: ReportForm, at_a_time: int
) -> None:
    """A report written in any form and cut anywhere is read as written."""
    if not form.well_formed:
        # Where `&` is not escaped nobody can tell an entity from a text that looks like one.
        messages = [attrs.evolve(each, text=each.text.replace(";", ",")) for each in messages]
    report = b"".join(write_report(messages, form))
    found, reader = read(report, at_a_time=at_a_time)
    of_the_sections = sorted(messages, key=lambda each: [*ReportSection].index(each.section))
    assert found == [as_reported(message, form) for message in of_the_sections]
    assert reader.is_complete


@pytest.mark.slow
@given(messages=st.lists(reported, min_size=1, max_size=3), form=forms, data=st.data())
def test_a_report_that_breaks_off_anywhere_is_not_complete(
    messages: list[ReportedMessage], form: ReportForm, data: st.DataObject
) -> None:
    """A report that breaks off is not complete, and its rows are as written."""
    report = b"".join(write_report(messages, form)).rstrip()
    cut = report[: data.draw(st.integers(0, len(report) - 1))]
    try:
        found, reader = read(cut)
    except ReportError:
        return
    assert not reader.is_complete
    assert all(each in [as_reported(message, form) for message in messages] for each in found)


pieces = st.sampled_from(
    [
        *("<RESPONSE>", "</RESPONSE>", "<SENDING_LIST>", "</SENDING_LIST>", "<TEXT ", "</TEXT>"),
        *(
            'id="1"',
            ' to="2"',
            " text='",
            'body="',
            '"',
            "'",
            ">",
            "/>",
            " ",
            "<ACK>",
            "<CONTENT>",
        ),
        *("</CONTENT", "<BATCHES>", "<BATCH", "<!--", "-->", "<?", "?>", "<!", "&#", "=", "...."),
    ]
)


@pytest.mark.slow
@given(st.binary() | st.lists(pieces, max_size=60).map(lambda found: "".join(found).encode()))
def test_any_bytes_are_read_or_refused(report: bytes) -> None:
    """Nothing else is ever raised, and cut in pieces they are read to the same."""
    outcomes: list[object] = []
    for at_a_time in (1, 2**30):
        try:
            found, reader = read(report, at_a_time=at_a_time)
            outcomes.append((found, reader.problem))
        except ReportError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    "hostile",
    ['"' * 60_000, '" ' * 30_000, '" a' * 20_000, '" a= ' * 12_000, "> " * 30_000, "<" * 60_000],
    ids=lambda text: text[:6],
)
def test_no_tag_takes_long(hostile: str) -> None:
    """A hostile tag is read in time that grows with its length only."""
    begun = time.process_time()
    with suppress(ReportError):
        read(listed(f'<TEXT id="1" text="{hostile}'))
    assert time.process_time() - begun < 1
