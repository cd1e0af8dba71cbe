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
def test_signs_that_can_be_no_markup_are_text(written: str, meant: str) -> None:
    """An unescaped `&` or `<` is read as text, and a STOP beside it takes effect."""
    assert said(bundle(written, STOP)) == [meant, STOP]
    assert said(flat(written).encode()) == [meant]


def test_a_well_formed_postback_is_not_repaired() -> None:
    """A text that is escaped twice is unescaped once."""
    assert said(bundle("&amp;amp; &lt;3 <![CDATA[& <3]]>")) == ["&amp; <3 & <3"]


def test_a_byte_of_no_encoding_is_one_of_latin_1() -> None:
    """A byte that is no UTF-8 is read as Latin-1, unless an encoding is declared."""
    body = bundle("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "NAME", STOP).encode()
    assert said(body.replace(b"NAME", b"\xe9t\xe9")) == ["café", "été", STOP]
    declared = b'<?xml version="1.0" encoding="iso-8859-7"?>' + bundle("NAME &").encode()
    assert said(declared.replace(b"NAME", b"\xe9")) == ["\N{GREEK SMALL LETTER IOTA} &"]


@pytest.mark.parametrize("encoding", ["punycode", "utf-16", "iso-8859-19"])
def test_an_impossible_declared_encoding_is_ignored(encoding: str) -> None:
    """A declared encoding that the document cannot have is ignored."""
    body = f'<?xml version="1.0" encoding="{encoding}" ?? ?>{bundle("a & b", STOP)}'
    assert said(body.encode()) == ["a & b", STOP]


def test_text_with_half_a_character_is_read() -> None:
    """A text with a lone surrogate is read."""
    assert said(bundle("\ud83d", STOP)) == ["\ufffd", STOP]


DAMAGED = {
    "a tag that is none": "see <b> for bold",
    "an end too many": "see </b>",
    "an end too few": "</TEXT><TEXT>a",
    "deeper than may be": "<i>" * 20 + "</i>" * 20,
}


@pytest.mark.parametrize("written", DAMAGED.values(), ids=DAMAGED)
def test_an_unreadable_part_harms_no_other(written: str) -> None:
    """An unreadable part is kept as it came, with the reason; all others are read."""
    broken = bundle("first", written + "</TEXT>", STOP)
    first, why, last = said(broken)
    assert (first, last) == ("first", STOP)
    assert why.startswith(("not well-formed XML: ", "nested deeper"))
    assert kept(broken) == [item(written + "</TEXT>", 1)]


def test_content_between_notifications_is_kept() -> None:
    """Unexpected content before, between or after notifications is kept as a part."""
    first, last = item("first", 0), item(STOP, 1)
    document = f"<POSTBACK a='1'>b & <c>{first} <d> {last}\n<!-- x --></POSTBACK> e"
    body = f"<?xml version='1.0'?>\n{document}"
    assert [each for each in said(body) if "well" not in each] == ["first", STOP]
    assert kept(body) == ["<POSTBACK a='1'>b & <c>", " <d> ", "\n<!-- x --></POSTBACK> e"]
    body = f"<POSTBACK><![CDATA[a]]>{first}<i></POSTBACK>"
    assert kept(body) == ["<POSTBACK><![CDATA[a]]>", "<i></POSTBACK>"]


def test_a_notification_begins_in_no_comment_and_in_no_cdata() -> None:
    """A tag in a comment or a CDATA section begins no notification."""
    forged = item(STOP, 7)
    assert said(bundle(f"<![CDATA[{forged}]]>", "<i>")) == [forged, *said(bundle("<i>"))]
    assert said(bundle(f"<!-- {forged} -->a", "<i>"))[0] == "a"
    unended = f"<![CDATA[{forged}"
    assert said(bundle("first", unended, STOP)) == ["first", CUT_OFF]


def test_several_documents_are_read_as_several() -> None:
    """Several flat documents in one body are several notifications."""
    declaration = "<?xml version='1.0'?>"
    assert said(f"{declaration}{flat('first')}\n{declaration}{flat(STOP)}") == ["first", STOP]
    assert said(item("first") + item(STOP, 1)) == ["first", STOP]


@pytest.mark.parametrize("at", range(1, 155, 7))
def test_a_cut_off_postback_is_read_as_far_as_it_goes(at: int) -> None:
    """Whole notifications are read, and the last part says that it is cut off."""
    first, *others = parse_postback(bundle("first", STOP)[:-at])
    assert text_of(first) == "first"
    *_, last = others
    assert isinstance(last, UnknownNotification)
    assert last.is_cut_off
    assert [each.text for each in others if isinstance(each, InboundSMS)] == [STOP] * (at < 12)


def test_an_unreadable_flat_postback_is_one_part() -> None:
    """A flat postback that is cut off or unreadable is one part."""
    assert said(flat("STOP")[:-20]) == [CUT_OFF]
    assert kept(flat("STOP")[:-20]) == [flat("STOP")[:-20]]
    assert kept(flat("a <b> c")) == [flat("a <b> c")]


def test_a_body_of_too_many_parts_is_kept_as_one() -> None:
    """A body of over 1024 parts is kept as one, so that parsing stays cheap."""
    body = bundle(*["<i>"] * 1025)
    assert kept(body) == [body]
    assert len(kept(bundle(*["<i>"] * 1023))) == 1023


def test_an_unreadable_part_is_parsed_again_from_its_raw() -> None:
    """An unreadable part is made again from its `raw`, which no document can imitate."""
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
    """An XML declaration without an end is skipped, and the rest is read."""
    assert said(declaration + bundle("yes", STOP)) == ["yes", STOP]
    assert said(declaration + flat("me & you")) == ["me & you"]
    assert said(declaration + bundle("yes", "<b>", STOP))[::2] == ["yes", STOP]
