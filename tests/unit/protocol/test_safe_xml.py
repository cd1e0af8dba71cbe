"""Safe XML: what is read as what, and every limit on both of its sides."""

from __future__ import annotations

import encodings
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skycore_async.protocol import safe_xml
from skycore_async.protocol.safe_xml import XMLRefused, escape, parse

XML_TEXT = st.text(
    st.characters(min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n\r&<>]")
)


def nested(levels: int, padding: int = 0) -> str:
    """Write a document of so many levels, padded so that its shape is looked at."""
    return "<A>" * levels + " " * padding + "</A>" * levels


def with_attributes(count: int) -> str:
    """Write an element with so many attributes."""
    return "<A " + " ".join(f"a{number}=''" for number in range(count)) + "/>"


def with_elements(count: int) -> str:
    """Write an element that holds so many others, each of its own name."""
    return "<A>" + "".join(f"<B{number}/>" for number in range(count)) + "</A>"


def filled(document: str, *, to: int) -> str:
    """Lengthen a document to `to` bytes with white space that means nothing."""
    return document + " " * (to - len(document.encode()))


@given(XML_TEXT)
@example("<a href='?b&amp;c'>\r\n]]></a>")
def test_what_is_escaped_reads_back_as_it_was(text: str) -> None:
    """Any text that XML can carry survives `escape` and `parse`, CR and `]]>` too."""
    assert parse(f"<A>{escape(text)}</A>") == ("A", text or None)


@pytest.mark.parametrize(
    ("document", "value"),
    [
        ("<A/>", None),
        ("<A> x </A>", " x "),
        ('<A b="1"/>', {"@b": "1"}),
        ('<A b="1">x</A>', {"@b": "1", "#text": "x"}),
        ("<A><B>1</B><B/></A>", {"B": ["1", None]}),
        ("<A><![CDATA[<!DOCTYPE & ]]></A>", "<!DOCTYPE & "),
        ("<A><!-- a note --><?a note?>x</A>", "x"),
        ("<x:A xmlns:x='u'/>", {"@xmlns:x": "u"}),
    ],
    ids=["empty", "text", "attribute", "both", "repeated", "cdata", "notes", "namespace"],
)
def test_a_document_becomes_a_plain_value(document: str, value: Any) -> None:
    """Elements become dicts, texts, lists or None, with white space kept."""
    assert parse(document)[1] == value
    assert parse(document.encode())[1] == value


DECLARED = '<?xml version="1.0" encoding="{}"?>\n<A>é</A>'


@pytest.mark.parametrize(
    "document",
    [
        pytest.param("<A>é</A>".encode(), id="UTF-8 undeclared"),
        pytest.param(DECLARED.format("utf-8").encode(), id="UTF-8 declared"),
        pytest.param(b'<?xml version="1.0"?>' + "<A>é</A>".encode(), id="version declared alone"),
        pytest.param("<A>é</A>".encode("utf-8-sig"), id="UTF-8 with a mark"),
        pytest.param(DECLARED.format("UTF-8").encode("utf-8-sig"), id="UTF-8 mark, declared"),
        pytest.param(b"\xef\xbb\xbf\r\n" + "<A>é</A>".encode(), id="white space after the mark"),
        pytest.param(b"\r\n\xef\xbb\xbf" + "<A>é</A>".encode(), id="white space before it"),
        pytest.param(b" \t\r\n" + DECLARED.format("utf-8").encode(), id="white space, declared"),
        pytest.param(b"\xff\xfe" + "<A>é</A>".encode("utf-16-le"), id="UTF-16 little endian"),
        pytest.param(b"\xfe\xff" + "<A>é</A>".encode("utf-16-be"), id="UTF-16 big endian"),
        pytest.param(DECLARED.format("utf-16").encode("utf-16"), id="UTF-16 declared"),
        pytest.param(DECLARED.format("ISO-8859-1").encode("latin-1"), id="ISO-8859-1"),
        pytest.param(DECLARED.format("latin1").encode("latin-1"), id="latin1"),
        pytest.param(DECLARED.format("Latin-1").encode("latin-1"), id="Latin-1"),
        pytest.param(b'<?xml version="1.0" encoding="ASCII"?><A>&#233;</A>', id="ASCII"),
        pytest.param(DECLARED.format("iso-8859-15").encode("iso-8859-15"), id="ISO-8859-15"),
        pytest.param(DECLARED.format("windows-1252").encode("cp1252"), id="windows-1252"),
        pytest.param("\ufeff <A>é</A>", id="text with a mark"),
        pytest.param(DECLARED.format("utf-16"), id="text that declares UTF-16"),
        pytest.param(DECLARED.format("ISO-8859-1"), id="text that declares ISO-8859-1"),
        pytest.param(DECLARED.format("no-such-thing"), id="text that declares nonsense"),
    ],
)
def test_bytes_are_decoded_as_declared_and_text_is_text(document: bytes | str) -> None:
    """Marks, declarations and leading white space are understood; a text's declaration is not."""
    assert parse(document) == ("A", "é")


@pytest.mark.parametrize(
    "encoding",
    ["utf-7", "punycode", "idna", "hex", "rot13", "unicode_escape", "cp037", "utf-8-sig", "nope"],
)
def test_a_declared_encoding_that_is_no_plain_one_is_refused(encoding: str) -> None:
    """Only encodings that postbacks may come in are looked up; codecs that do more are not."""
    with pytest.raises(XMLRefused, match="encoding that it declares is not accepted"):
        parse(f'<?xml version="1.0" encoding="{encoding}"?><A/>'.encode())


def test_a_part_of_iso_8859_that_there_is_not_is_refused() -> None:
    """A name of the accepted pattern that no codec answers to is refused as unreadable."""
    with pytest.raises(XMLRefused, match="not readable XML: LookupError"):
        parse(b'<?xml version="1.0" encoding="iso-8859-12"?><A/>')


def test_made_up_encodings_leave_nothing_behind() -> None:
    """Python keeps every encoding name that it did not find; none gets that far."""
    remembered = vars(encodings)["_cache"]
    before = len(remembered)
    for number in range(10):
        with pytest.raises(XMLRefused):
            parse(f'<?xml version="1.0" encoding="made-up-{number}"?><A/>'.encode())
    assert len(remembered) == before


@pytest.mark.parametrize(
    "prolog",
    [
        "<!DOCTYPE A>",
        '<!DOCTYPE A SYSTEM "http://127.0.0.1:9/a.dtd">',
        '<!DOCTYPE A [<!ENTITY a "x"><!ENTITY b "&a;&a;">]>',
        '<!DOCTYPE A [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE A [<!ENTITY % a "x"> %a;]>',
        '<!DOCTYPE A [<!ATTLIST A a CDATA "x">]>',
        "<!DOCTYPE A [<!ELEMENT A ANY>]>",
    ],
    ids=["plain", "external", "laughs", "file", "parameter", "attlist", "element"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_doctype_is_refused(prolog: str, encoding: str) -> None:
    """No DOCTYPE gets through in any encoding, whatever stands in it."""
    with pytest.raises(XMLRefused, match="a DOCTYPE is not accepted"):
        parse(f"{prolog}<A/>".encode(encoding))


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<A>", id="unclosed"),
        pytest.param(b"<A/><B/>", id="two roots"),
        pytest.param(b"<A>&b;</A>", id="unknown entity"),
        pytest.param(b"<A>\0</A>", id="null byte"),
        pytest.param(b"<A>\xff</A>", id="undecodable"),
        pytest.param(b"<A>\x0b</A>", id="forbidden character"),
        pytest.param(b"<A>&#0;</A>", id="forbidden reference"),
        pytest.param(b'<A b="" b=""/>', id="attribute twice"),
        pytest.param("\x0c<A/>", id="what is white space in Python alone"),
        pytest.param("<A>\ud800</A>", id="lone surrogate"),
        pytest.param(b'<?xml version="1.0" encoding="utf-16"?><A/>', id="a false claim"),
    ],
)
def test_what_is_not_well_formed_is_refused(document: bytes | str) -> None:
    """Nothing is repaired or guessed, and every refusal is an XMLRefused."""
    with pytest.raises(XMLRefused, match="XML"):
        parse(document)


@pytest.mark.parametrize(
    ("at_the_limit", "beyond", "reason"),
    [
        pytest.param(
            filled("<A/>", to=safe_xml.MAX_BYTES),
            filled("<A/>", to=safe_xml.MAX_BYTES + 1),
            "larger than 1,048,576 bytes",
            id="bytes",
        ),
        pytest.param(
            f"<A>{'<B/>' * (safe_xml.MAX_TAGS - 2)}</A>",
            f"<A>{'<B/>' * (safe_xml.MAX_TAGS - 1)}</A>",
            "more than 50,000 tags",
            id="tags",
        ),
        pytest.param(nested(16), nested(17), "nested deeper than 16 levels", id="levels"),
        pytest.param(
            nested(16, padding=5000),
            nested(17, padding=5000),
            "nested deeper than 16 levels",
            id="levels of a long document",
        ),
        pytest.param(
            f"<A>{nested(15) * 2}</A>",
            f"<A>{nested(16) * 2}</A>",
            "nested deeper than 16 levels",
            id="levels of a repeated element",
        ),
        pytest.param(
            with_attributes(1024),
            with_attributes(1025),
            "more than 1,024 fields",
            id="attributes",
        ),
        pytest.param(
            with_elements(1024),
            with_elements(1025),
            "more than 1,024 fields",
            id="elements of different names",
        ),
        pytest.param(
            f'<A b="{"x" * 4096}"/>',
            f'<A b="{"x" * 4097}"/>',
            "an attribute is longer than 4,096",
            id="attribute",
        ),
    ],
)
def test_a_limit_holds_exactly(at_the_limit: str, beyond: str, reason: str) -> None:
    """What is at a limit is read, what is one beyond it is refused, as bytes and as text."""
    parse(at_the_limit)
    parse(at_the_limit.encode())
    for document in (beyond, beyond.encode()):
        with pytest.raises(XMLRefused, match=reason):
            parse(document)


def test_a_long_text_is_no_long_attribute() -> None:
    """Only attributes are held to their limit; a text may fill the document."""
    text = "x" * (safe_xml.MAX_BYTES - 7)
    assert parse(f"<A>{text}</A>") == ("A", text)
