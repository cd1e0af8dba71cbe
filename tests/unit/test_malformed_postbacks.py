"""Postbacks that are not well-formed: what is read of them, and what is kept as it came."""

from __future__ import annotations

import json

import pytest

from skycore_async.notifications import CUT_OFF, InboundSMS, Notification, UnknownNotification
from skycore_async.postbacks import notification, parse_postback

STOP = "STOP"


def item(text: str, n: int = 0) -> str:
    """Write a text from a handset, as who escapes nothing writes it."""
    return (
        f'<NOTIFICATION ID="{n}"><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE><BODY>'
        f"<FROM>1555123488{n}</FROM><TO>60856</TO><TEXT>{text}</TEXT></BODY></NOTIFICATION>"
    )


def bundle(*texts: str) -> str:
    return f"<POSTBACK>{''.join(item(text, n) for n, text in enumerate(texts))}</POSTBACK>"


def flat(text: str) -> str:
    return (
        "<POSTBACK><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE>"
        f"<FROM>15551234888</FROM><TO>60856</TO><TEXT>{text}</TEXT></POSTBACK>"
    )


def said(body: bytes | str) -> list[str]:
    """Return what texts of a body say, and why the rest cannot be read."""
    return [text_of(each) for each in parse_postback(body)]


def text_of(one: Notification) -> str:
    if isinstance(one, InboundSMS):
        return one.text
    assert isinstance(one, UnknownNotification)
    assert one.unreadable is not None
    return one.unreadable


def kept(body: bytes | str) -> list[str]:
    """Return the text of what cannot be read, as it came."""
    return [each.raw.get("#text", "") for each in parse_postback(body) if not is_text(each)]


def is_text(one: Notification) -> bool:
    return isinstance(one, InboundSMS)


UNESCAPED = {
    "an ampersand": ("me & you", "me & you"),
    "an ampersand at the end": ("me &", "me &"),
    "no reference": ("&me; & &you", "&me; & &you"),
    "a reference beside it": ("A&B &amp; C &#38; D", "A&B & C & D"),
    "an address": ("https://a.example/?b=c&copy=d", "https://a.example/?b=c&copy=d"),
    "a heart": ("I <3 you", "I <3 you"),
    "an arrow": ("here <- there", "here <- there"),
    "a tag without an end": ("a <b", "a <b"),
    "two of it": ("1 < 2 <= 3", "1 < 2 <= 3"),
    "no instruction": ("what<?", "what<?"),
    "a control character": ("ring\x07", "ring\ufffd"),
    "a null byte": ("\0", "\ufffd"),
    "a reference to one": ("ring&#7; &#x0; &#1114112;", "ring&#7; &#x0; &#1114112;"),
    "half a character": ("&#55357; &#xD83D;", "&#55357; &#xD83D;"),
    "beside CDATA": ("<![CDATA[a & <b>]]> & c", "a & <b> & c"),
    "beside a comment": ("<!-- a & <b> -->& c", "& c"),
}


@pytest.mark.parametrize(("written", "meant"), UNESCAPED.values(), ids=UNESCAPED)
def test_what_can_be_no_markup_is_text(written: str, meant: str) -> None:
    """Whoever escapes nothing is understood, and a STOP beside it is heard, in either form."""
    assert said(bundle(written, STOP)) == [meant, STOP]
    assert said(flat(written).encode()) == [meant]


def test_what_is_well_formed_is_read_as_ever() -> None:
    """A text that is escaped twice is none that was not escaped."""
    assert said(bundle("&amp;amp; &lt;3 <![CDATA[& <3]]>")) == ["&amp; <3 & <3"]


def test_a_byte_of_no_encoding_is_one_of_latin_1() -> None:
    """And costs those nothing that are in UTF-8; an encoding that is declared counts."""
    body = bundle("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "NAME", STOP).encode()
    assert said(body.replace(b"NAME", b"\xe9t\xe9")) == ["café", "été", STOP]
    declared = b'<?xml version="1.0" encoding="iso-8859-7"?>' + bundle("NAME &").encode()
    assert said(declared.replace(b"NAME", b"\xe9")) == ["\N{GREEK SMALL LETTER IOTA} &"]


@pytest.mark.parametrize("encoding", ["punycode", "utf-16", "iso-8859-19"])
def test_an_encoding_that_is_none_of_the_document_s_is_not_asked_for(encoding: str) -> None:
    """One that it cannot be in, or that no document may declare, is as good as none."""
    body = f'<?xml version="1.0" encoding="{encoding}" ?? ?>{bundle("a & b", STOP)}'
    assert said(body.encode()) == ["a & b", STOP]


def test_text_with_half_a_character_is_read() -> None:
    """As it is in what was decoded by somebody who took a character apart."""
    assert said(bundle("\ud83d", STOP)) == ["\ufffd", STOP]


DAMAGED = {
    "a tag that is none": "see <b> for bold",
    "an end too many": "see </b>",
    "an end too few": "</TEXT><TEXT>a",
    "deeper than may be": "<i>" * 20 + "</i>" * 20,
}


@pytest.mark.parametrize("written", DAMAGED.values(), ids=DAMAGED)
def test_what_cannot_be_read_costs_its_neighbours_nothing(written: str) -> None:
    """It is kept as it came, with the reason; all before and after it are read."""
    broken = bundle("first", written + "</TEXT>", STOP)
    first, why, last = said(broken)
    assert (first, last) == ("first", STOP)
    assert why.startswith(("not well-formed XML: ", "nested deeper"))
    assert kept(broken) == [item(written + "</TEXT>", 1)]


def test_what_stands_between_notifications_is_kept() -> None:
    """Before them, between them and behind them; what belongs there is no notification."""
    first, last = item("first", 0), item(STOP, 1)
    document = f"<POSTBACK a='1'>b & <c>{first} <d> {last}\n<!-- x --></POSTBACK> e"
    body = f"<?xml version='1.0'?>\n{document}"
    assert [each for each in said(body) if "well" not in each] == ["first", STOP]
    assert kept(body) == ["<POSTBACK a='1'>b & <c>", " <d> ", "\n<!-- x --></POSTBACK> e"]
    body = f"<POSTBACK><![CDATA[a]]>{first}<i></POSTBACK>"
    assert kept(body) == ["<POSTBACK><![CDATA[a]]>", "<i></POSTBACK>"]


def test_a_notification_begins_in_no_comment_and_in_no_cdata() -> None:
    """What a handset wrote is no notification, whatever is wrong beside it."""
    forged = item(STOP, 7)
    assert said(bundle(f"<![CDATA[{forged}]]>", "<i>")) == [forged, *said(bundle("<i>"))]
    assert said(bundle(f"<!-- {forged} -->a", "<i>"))[0] == "a"
    unended = f"<![CDATA[{forged}"
    assert said(bundle("first", unended, STOP)) == ["first", CUT_OFF]


def test_several_documents_are_read_as_several() -> None:
    """As where somebody puts flat ones behind one another."""
    declaration = "<?xml version='1.0'?>"
    assert said(f"{declaration}{flat('first')}\n{declaration}{flat(STOP)}") == ["first", STOP]
    assert said(item("first") + item(STOP, 1)) == ["first", STOP]


@pytest.mark.parametrize("at", range(1, 155, 7))
def test_what_is_cut_off_is_read_up_to_there(at: int) -> None:
    """What is whole is read, and the last part says that it ends in the middle."""
    first, *others = parse_postback(bundle("first", STOP)[:-at])
    assert text_of(first) == "first"
    *_, last = others
    assert isinstance(last, UnknownNotification)
    assert last.is_cut_off
    assert [each.text for each in others if isinstance(each, InboundSMS)] == [STOP] * (at < 12)


def test_nothing_but_its_beginning_is_kept() -> None:
    """A flat one that is cut off, or cannot be read, is one part."""
    assert said(flat("STOP")[:-20]) == [CUT_OFF]
    assert kept(flat("STOP")[:-20]) == [flat("STOP")[:-20]]
    assert kept(flat("a <b> c")) == [flat("a <b> c")]


def test_more_parts_than_skycore_bundles_are_kept_as_one() -> None:
    """A part costs a parser of its own, and whoever posts chooses how many there are."""
    body = bundle(*["<i>"] * 1025)
    assert kept(body) == [body]
    assert len(kept(bundle(*["<i>"] * 1023))) == 1023


def test_what_cannot_be_read_is_kept_as_any_notification() -> None:
    """By its `raw` it is the same again, as a ledger keeps it; and no document can look so."""
    *_, part = parse_postback(bundle("<i>"))
    assert notification(json.loads(json.dumps(part.raw))) == part
    assert not UnknownNotification(raw={}).is_cut_off
    (known,) = parse_postback("<POSTBACK><UNREADABLE>a</UNREADABLE></POSTBACK>")
    assert isinstance(known, UnknownNotification)
    assert known.unreadable is None


@pytest.mark.parametrize(
    "declaration", ['<?xml version="1.0">', '<?xml version="1.0" ?">', "<?xml>"]
)
def test_a_declaration_without_an_end_costs_nothing(declaration: str) -> None:
    """It says nothing that is needed, and all behind it would be a part of it."""
    assert said(declaration + bundle("yes", STOP)) == ["yes", STOP]
    assert said(declaration + flat("me & you")) == ["me & you"]
    assert said(declaration + bundle("yes", "<b>", STOP))[::2] == ["yes", STOP]
