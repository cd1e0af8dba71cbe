"""The request, held to the provider's own page and to round trips.

What is written is read back by expat and by `urllib`, which know nothing of this package.
"""

from __future__ import annotations

import enum
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlsplit

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skycore_async import SMS, InvalidMessage
from skycore_async.ledger.content import content_of
from skycore_async.ledger.pruning import pruned_name
from skycore_async.protocol import requests, safe_xml
from tests.support.sending_cases import HELLO, KEY, PAGE_GET, PAGE_REQUEST, elements


def posted(message: SMS, api_key: str = KEY) -> dict[str, str]:
    """Write a message as a POST, and read the form and the document in it."""
    ((name, (document,)),) = parse_qs(
        requests.post_body(message, api_key=api_key).decode("ascii"), strict_parsing=True
    ).items()
    assert name == "xml"
    return elements(document)


def queried(message: SMS) -> dict[str, str]:
    """Write a message as a GET, and read the query."""
    query = requests.query_string(message, api_key=KEY)
    assert query.isascii()
    fields = parse_qs(query, strict_parsing=True)
    return {name: value for name, (value,) in fields.items()}


def test_our_request_has_the_fields_of_the_page() -> None:
    """The POST for the page's example parses to the very fields of its REQUEST."""
    assert posted(requests.resolve(HELLO)) == elements(PAGE_REQUEST)


def test_a_get_is_that_of_the_page_word_for_word() -> None:
    """The URL of a GET equals that of the API's page, character for character."""
    message = requests.resolve(attrs.evolve(HELLO, campaign_ref=None))
    assert f"{requests.ENDPOINT}?{requests.query_string(message, api_key=KEY)}" == PAGE_GET
    assert urlsplit(PAGE_GET)._replace(query="").geturl() == requests.ENDPOINT


EVERY_FIELD = SMS(
    to="15551234888",
    text="Hello",
    from_="60856",
    campaign_ref="77676",
    spid="0001470",
    operator_id="31",
    from_mask="Jerry's Bar",
    key="order-17",
)


def test_every_field_has_its_element() -> None:
    """Each field of an SMS is sent under the API's name; the caller's own key stays here."""
    assert posted(requests.resolve(EVERY_FIELD)) == {
        "ACTION": "sendSMS",
        "API_KEY": KEY,
        "SPID": "0001470",
        "OPERATORID": "31",
        "TO": "15551234888",
        "FROM": "60856",
        "FROM_MASK": "Jerry's Bar",
        "CAMPAIGNREF": "77676",
        "TEXT": "Hello",
    }


def test_every_field_has_its_parameter() -> None:
    """A GET has the same fields, in lower case."""
    fields = {name.lower(): value for name, value in posted(requests.resolve(EVERY_FIELD)).items()}
    assert queried(requests.resolve(EVERY_FIELD)) == fields | {"action": "sendsms"}


def test_a_field_without_a_value_is_not_sent() -> None:
    """A field without a value has no element."""
    message = requests.resolve(SMS(to="15551234888", text="Hello", from_="60856", spid=""))
    assert posted(message).keys() == {"ACTION", "API_KEY", "TO", "FROM", "TEXT"}


# All that XML 1.0 can carry.  Whether that is what expat thinks is tested with
# `first_forbidden`; here it is what must survive.
carried = st.text(
    st.characters(
        exclude_categories=["Cs", "Cc"],
        exclude_characters="\ufffe\uffff",
        include_characters="\t\n\r\x7f\x85",
    ),
    min_size=1,
)


@pytest.mark.slow
@given(text=carried, sender=carried, mask=carried.map(lambda text: text[:11]))
@example(text="<TEXT>&amp;]]>\"'</TEXT>", sender="<!--", mask="%26+&=")
@example(text="line\nline\r\nline\rline\tend", sender="\t", mask="\r")
@example(text=" leading and trailing ", sender=" ", mask=" ")
@example(text="\N{GRINNING FACE}\N{ZERO WIDTH JOINER}\U0010fffd", sender="\ue000", mask="\x7f")
@example(
    text="\u202e\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627\u202c",
    sender="é",
    mask="e\u0301",
)
def test_a_text_survives_being_written_and_read(text: str, sender: str, mask: str) -> None:
    """Whatever XML can carry comes back unchanged, over POST and over GET."""
    message = requests.resolve(
        SMS(to="15551234888", text=text, from_=sender, from_mask=mask, campaign_ref=text)
    )
    for fields in (posted(message), {k.upper(): v for k, v in queried(message).items()}):
        assert fields["TEXT"] == fields["CAMPAIGNREF"] == text
        assert fields["FROM"] == sender
        assert fields["FROM_MASK"] == mask


def test_every_character_of_ascii_is_written_as_by_the_libraries() -> None:
    """Escaping for XML and quoting for a form in one step gives what two steps give."""
    ascii_ = "".join(map(chr, range(128)))
    for text in (*ascii_, ascii_, ascii_ + "é"):
        assert requests._form_text(text) == quote_plus(safe_xml.escape(text))


def test_what_is_beyond_ascii_is_written_as_by_the_libraries() -> None:
    """A character is written as at its first time at each, and where no more of them are kept."""
    texts = ["Привет, <Иван> & 你好\u2028", "\x80\x9f\ufffd\U0001f600\U0010ffff", "é" * 3]
    for text in texts * 2:
        assert requests._form_text(text) == quote_plus(safe_xml.escape(text))
    full = requests._FormOfAny(dict.fromkeys(range(requests._KEPT), "-"))
    assert "A\U0001f600".translate(full) == f"-{quote_plus(chr(0x1F600))}"
    assert len(full) == requests._KEPT


def test_a_key_with_special_characters_survives() -> None:
    """Nothing is assumed of the API key but that it is text."""
    assert posted(requests.resolve(HELLO), api_key="a&b<c>+%d")["API_KEY"] == "a&b<c>+%d"


@pytest.mark.parametrize(
    "field", ["text", "from_", "campaign_ref", "spid", "operator_id", "from_mask"]
)
@pytest.mark.parametrize(
    ("character", "named"),
    [
        pytest.param("\x07", "U+0007 (BEL control character)", id="BEL"),
        pytest.param("\x00", "U+0000 (NUL control character)", id="NUL"),
        pytest.param("\ud83d", "U+D83D (lone surrogate)", id="surrogate"),
        pytest.param("\uffff", "U+FFFF (noncharacter)", id="noncharacter"),
    ],
)
def test_a_character_that_xml_cannot_carry_is_refused(
    field: str, character: str, named: str
) -> None:
    """A character that XML cannot carry is refused with its name and position."""
    message = attrs.evolve(HELLO, **{field: f"ab{character}c"})
    with pytest.raises(InvalidMessage) as caught:
        requests.resolve(message)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: {named} at position 2 cannot be sent")


@pytest.mark.parametrize(
    "field", ["to", "text", "from_", "campaign_ref", "spid", "operator_id", "from_mask"]
)
@pytest.mark.parametrize("value", [60856, 1.5, b"60856", ["60856"], object], ids=repr)
def test_what_is_not_a_str_is_refused(field: str, value: Any) -> None:
    """A value of another type is an InvalidMessage that names the type, not a crash."""
    message = attrs.evolve(HELLO, **{field: value})
    with pytest.raises(
        InvalidMessage, match=f"a str is needed, not {type(value).__name__}"
    ) as caught:
        requests.resolve(message)
    assert caught.value.field == field


class Named(str, enum.Enum):  # noqa: UP042 - whose members are formatted by their names
    """Texts that Python formats by their names, as members of an enumeration are."""

    NUMBER = "15551234888"
    SHORT_CODE = "60856"
    WORD = "Hello"
    WORDS = "Hello & welcome"


@pytest.mark.parametrize("text", [Named.WORD, Named.WORDS])
def test_a_member_of_an_enumeration_is_sent_as_its_value(text: Named) -> None:
    """A member of a str enumeration is sent as its value, not as its name."""
    given = SMS(to=Named.NUMBER, text=text, from_=Named.SHORT_CODE, key=Named.WORD)
    resolved = requests.resolve(given, campaign_ref=Named.WORD)
    sent = SMS(to="15551234888", text=text.value, from_="60856", campaign_ref="Hello", key="Hello")
    values = [value for value in attrs.astuple(resolved) if value]
    assert resolved == sent
    assert {type(value) for value in values} == {str}
    assert posted(resolved) == posted(sent)
    assert queried(resolved) == queried(sent)
    assert content_of(resolved) == content_of(sent)


# What else is refused, and defaults.


def test_a_mask_that_the_api_would_cut_is_refused() -> None:
    """FROM_MASK has at most 11 characters."""
    assert requests.resolve(attrs.evolve(HELLO, from_mask="x" * 11)).from_mask == "x" * 11
    with pytest.raises(InvalidMessage, match="longer than 11 characters") as caught:
        requests.resolve(attrs.evolve(HELLO, from_mask="x" * 12))
    assert caught.value.field == "from_mask"


@pytest.mark.parametrize("text", ["", None])
def test_a_message_without_text_is_refused(text: Any) -> None:
    """The API wants a TEXT (E712), so an empty one stays here."""
    with pytest.raises(InvalidMessage, match="text: empty") as caught:
        requests.resolve(attrs.evolve(HELLO, text=text))
    assert caught.value.field == "text"


@pytest.mark.parametrize(
    ("text", "count", "encoding"),
    [("x" * 161, 2, "GSM 03.38"), ("\N{GRINNING FACE}" * 36, 2, "UCS-2")],
    ids=["GSM", "UCS-2"],
)
def test_a_text_of_too_many_segments_is_refused(text: str, count: int, encoding: str) -> None:
    """With `max_segments` a longer text is refused, with what it takes and why; never cut."""
    message = attrs.evolve(HELLO, text=text)
    assert requests.resolve(message).text == text
    assert requests.resolve(message, max_segments=count).text == text
    with pytest.raises(InvalidMessage) as caught:
        requests.resolve(message, max_segments=1)
    assert caught.value.field == "text"
    assert (
        str(caught.value) == f"text: takes {count} segments in {encoding}, and max_segments is 1"
    )


def test_enforce_campaign_check_wants_a_campaign() -> None:
    """With the account's Enforce Campaign Check, CAMPAIGNREF is not left to the API."""
    without = attrs.evolve(HELLO, campaign_ref=None)
    with pytest.raises(InvalidMessage, match="Enforce Campaign Check") as caught:
        requests.resolve(without, enforce_campaign_check=True)
    assert caught.value.field == "campaign_ref"
    assert requests.resolve(HELLO, enforce_campaign_check=True) == HELLO
    resolved = requests.resolve(without, campaign_ref="1", enforce_campaign_check=True)
    assert resolved.campaign_ref == "1"


def test_defaults_are_for_messages_that_name_none() -> None:
    """The message's own sender and campaign win over the client's."""
    bare = SMS(to="15551234888", text="Hello")
    resolved = requests.resolve(bare, from_="1", campaign_ref="2")
    assert (resolved.from_, resolved.campaign_ref) == ("1", "2")
    resolved = requests.resolve(HELLO, from_="1", campaign_ref="2")
    assert (resolved.from_, resolved.campaign_ref) == ("60856", "77676")


def test_a_complete_message_is_sent_as_it_is() -> None:
    """Where nothing is to be filled in, what is sent is the value that the caller gave."""
    complete = SMS(to="15551234888", text="Hello", from_="60856", campaign_ref="a")
    assert requests.resolve(complete, from_="99999", campaign_ref="b") is complete
    assert requests.resolve(attrs.evolve(complete, to="+1 555 123 4888")) == complete


def test_a_message_without_a_sender_is_refused() -> None:
    """FROM is mandatory."""
    with pytest.raises(InvalidMessage, match="no short code") as caught:
        requests.resolve(SMS(to="15551234888", text="Hello"))
    assert caught.value.field == "from_"


@pytest.mark.parametrize("tags", [[""], ["a\nb"], ["a" * 101], ["ok", 7]])
def test_what_is_no_tag_is_refused(tags: list[Any]) -> None:
    """A tag is a word that can be seen and kept; one text alone is one tag."""
    with pytest.raises(InvalidMessage) as caught:
        requests.resolve(SMS(to="15551234888", text="Hello", from_="60856", tags=tags))
    assert caught.value.field == "tags"
    one = SMS(to="15551234888", text="Hello", from_="60856", tags="spring")
    assert requests.resolve(one).tags == ("spring",)


def test_a_key_like_the_name_of_a_pruned_one_is_refused() -> None:
    """A key that looks like a pruned key's name is refused."""
    name = pruned_name("order-17")
    said = f"key: '{name}' stands for a key that a ledger has forgotten"
    with pytest.raises(InvalidMessage, match=said) as caught:
        requests.resolve(attrs.evolve(HELLO, key=name))
    assert caught.value.field == "key"
    for key in ("pruned:order-17", f"{name}0", f"my {name}"):
        assert requests.resolve(attrs.evolve(HELLO, key=key)).key == key
