"""Segmentation against independent oracles, and what XML 1.0 can carry.

The character tables are checked against the codec of `gsm0338`, the cuts
against a greedy count character by character, and the XML rule against expat.
"""

from __future__ import annotations

import sys
from xml.parsers import expat

import attrs
import gsm0338  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycore_async.protocol.segments import (
    Encoding,
    NonGSMCharacter,
    Segments,
    describe,
    first_forbidden,
    segment_count,
    segments,
)

BMP = "".join(map(chr, range(0x10000)))
ASTRAL = "".join(map(chr, range(0x10000, sys.maxunicode + 1)))
EXTENSION = "\f^{}\\[~]|€"
EMOJI = "\N{GRINNING FACE}"
LIMITS = {Encoding.GSM_7: (160, 153), Encoding.UCS_2: (70, 67)}

CODEC = gsm0338.Codec()


def septets(character: str) -> bytes | None:
    """Encode by the oracle.  It also encodes ESC, which is no character."""
    try:
        return None if character == "\x1b" else CODEC.encode(character)[0]
    except UnicodeEncodeError:
        return None


# The last of them is the euro sign; one test tries what comes after it, which takes long.
BEYOND = ord("€") + 1
SEPTETS = {each: code for each in BMP[:BEYOND] if (code := septets(each)) is not None}


def widths(text: str, encoding: Encoding) -> list[int]:
    """Tell the units of each character, given the encoding of the whole text."""
    if encoding is Encoding.GSM_7:
        return [len(SEPTETS[character]) for character in text]
    return [2 if ord(character) > 0xFFFF else 1 for character in text]


def oracle(text: str) -> tuple[Encoding, list[int]]:
    """Count greedily, one character at a time: the units of each segment."""
    encoding = Encoding.GSM_7 if all(each in SEPTETS for each in text) else Encoding.UCS_2
    single, concatenated = LIMITS[encoding]
    total = sum(widths(text, encoding))
    if total <= single:
        return encoding, [total] if text else []
    segment_units = [0]
    for width in widths(text, encoding):
        if segment_units[-1] + width > concatenated:
            segment_units.append(0)
        segment_units[-1] += width
    return encoding, segment_units


def texts(alphabet: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts around the limits: runs, because random characters seldom get that long."""
    runs = st.tuples(alphabet, st.integers(min_value=1, max_value=170)).map(
        lambda run: run[0] * run[1]
    )
    return st.lists(st.one_of(alphabet, runs), max_size=12).map("".join)


gsm_characters = st.sampled_from(sorted(SEPTETS)) | st.sampled_from(EXTENSION)
unicode_characters = gsm_characters | st.characters(exclude_categories=["Cs"]) | st.just(EMOJI)
any_texts = st.one_of(
    texts(gsm_characters),
    texts(unicode_characters),
    texts(unicode_characters | st.characters(categories=["Cs"])),
)


@pytest.mark.slow
def test_alphabet_is_that_of_the_codec() -> None:
    """Exactly the characters of TS 23.038 are GSM, with their width, and none beyond the BMP."""
    asked = BMP + ASTRAL[::97]
    refused = {each.character for each in segments(asked).forced_ucs2}
    found = {each: segments(each).units for each in asked if each not in refused}
    assert found == {character: len(code) for character, code in SEPTETS.items()}
    assert len(found) == 127 + 10
    assert not any(map(septets, BMP[BEYOND:]))


@pytest.mark.parametrize(
    ("character", "encoding", "units"),
    [
        pytest.param("Ç", Encoding.GSM_7, 1, id="capital-c-cedilla"),
        pytest.param("ç", Encoding.UCS_2, 1, id="small-c-cedilla"),
        pytest.param("\f", Encoding.GSM_7, 2, id="form-feed"),
        pytest.param("€", Encoding.GSM_7, 2, id="euro"),
        pytest.param("\x1b", Encoding.UCS_2, 1, id="escape"),
        pytest.param("`", Encoding.UCS_2, 1, id="grave-accent"),
        pytest.param("\xa0", Encoding.UCS_2, 1, id="no-break-space"),
        pytest.param(EMOJI, Encoding.UCS_2, 2, id="emoji"),
        pytest.param("\ud83d", Encoding.UCS_2, 1, id="lone-high-surrogate"),
        pytest.param("\ude00", Encoding.UCS_2, 1, id="lone-low-surrogate"),
    ],
)
def test_encoding_and_units_of_one_character(
    character: str, encoding: Encoding, units: int
) -> None:
    """The characters that implementations get wrong have their encoding and width."""
    result = segments(character)
    assert (result.encoding, result.units, result.count) == (encoding, units, 1)


@pytest.mark.parametrize(
    ("text", "lengths", "units", "left"),
    [
        pytest.param("", [], 0, 160, id="empty"),
        pytest.param("a", [1], 1, 159, id="gsm-1"),
        pytest.param("a" * 153, [153], 153, 7, id="gsm-153"),
        pytest.param("a" * 160, [160], 160, 0, id="gsm-160"),
        pytest.param("a" * 161, [153, 8], 161, 145, id="gsm-161"),
        pytest.param("a" * 306, [153, 153], 306, 0, id="gsm-306"),
        pytest.param("a" * 307, [153, 153, 1], 307, 152, id="gsm-307"),
        pytest.param("€" * 80, [80], 160, 0, id="extension-fills-one"),
        pytest.param("€" * 80 + "a", [76, 5], 161, 144, id="extension-one-over"),
        pytest.param("a" * 152 + "€" + "a" * 6, [159], 160, 0, id="extension-at-153-of-one"),
        pytest.param("a" * 152 + "€" + "a" * 7, [152, 8], 161, 144, id="extension-at-153"),
        pytest.param("a" * 151 + "€" + "a" * 8, [152, 8], 161, 145, id="extension-ends-at-153"),
        pytest.param("a" * 151 + "€€" + "a" * 6, [152, 7], 161, 145, id="two-extensions-at-153"),
        pytest.param("a" * 153 + "€" + "a" * 6, [153, 7], 161, 145, id="extension-at-154"),
        pytest.param("€" * 153, [76, 76, 1], 306, 151, id="extension-leaves-one-free"),
        pytest.param("я" * 70, [70], 70, 0, id="ucs2-70"),
        pytest.param("я" * 71, [67, 4], 71, 63, id="ucs2-71"),
        pytest.param("я" * 134, [67, 67], 134, 0, id="ucs2-134"),
        pytest.param("я" * 135, [67, 67, 1], 135, 66, id="ucs2-135"),
        pytest.param("я" * 66 + EMOJI + "я" * 2, [69], 70, 0, id="emoji-at-67-of-one"),
        pytest.param("я" * 66 + EMOJI + "я" * 3, [66, 4], 71, 62, id="emoji-at-67"),
        pytest.param("я" * 65 + EMOJI + "я" * 4, [66, 4], 71, 63, id="emoji-ends-at-67"),
        pytest.param(EMOJI * 35, [35], 70, 0, id="emoji-fills-one"),
        pytest.param(EMOJI * 36, [33, 3], 72, 61, id="emoji-leaves-one-free"),
        pytest.param("€" * 70 + "я", [67, 4], 71, 63, id="extension-is-one-code-unit"),
        pytest.param("\ud83d" * 71, [67, 4], 71, 63, id="lone-surrogates"),
    ],
)
def test_texts_at_the_boundaries_of_segments(
    text: str, lengths: list[int], units: int, left: int
) -> None:
    """At each limit the text is cut where it must be, and nowhere else."""
    result = segments(text)
    assert [len(part) for part in result.parts] == lengths
    assert (result.units, result.characters_left) == (units, left)
    assert "".join(result.parts) == text


@pytest.mark.parametrize("length", [0, 1, 35, 36, 70, 71, 153, 160, 161, 306, 307])
@pytest.mark.parametrize("character", ["a", "€", "ą", "\U0001f600", "a€", "aą"])
def test_the_quick_count_is_the_count(character: str, length: int) -> None:
    """Of every alphabet, on both sides of each bound."""
    assert segment_count(character * length) == segments(character * length).count


def test_empty_text_is_no_segment() -> None:
    """An empty text costs nothing, and leaves a whole GSM segment free."""
    assert segments("") == Segments(
        encoding=Encoding.GSM_7, parts=(), units=0, characters_left=160, forced_ucs2=()
    )


def test_forced_ucs2_names_every_character_by_code_point() -> None:
    """Each character outside GSM is told, repeated or not, at its index in the str."""
    text = f"a{EMOJI}ç€ç\ud83d"
    assert segments(text).forced_ucs2 == (
        NonGSMCharacter(position=1, character=EMOJI),
        NonGSMCharacter(position=2, character="ç"),
        NonGSMCharacter(position=4, character="ç"),
        NonGSMCharacter(position=5, character="\ud83d"),
    )


def test_values_are_frozen() -> None:
    """A result cannot be changed by one who holds it."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        segments("a").units = 2  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow
@given(any_texts)
def test_cut_is_that_of_the_greedy_oracle(text: str) -> None:
    """The encoding, the units of every part, and so the least count, are the oracle's."""
    encoding, segment_units = oracle(text)
    result = segments(text)
    assert result.encoding is encoding
    assert [sum(widths(part, encoding)) for part in result.parts] == segment_units
    assert result.count == len(segment_units)
    assert result.units == sum(segment_units)


@pytest.mark.slow
@given(any_texts)
def test_parts_join_to_the_text(text: str) -> None:
    """Nothing is lost, added or changed by the cut, and no part is empty."""
    result = segments(text)
    assert "".join(result.parts) == text
    assert all(result.parts)


@pytest.mark.slow
@given(any_texts)
def test_forced_ucs2_is_what_the_codec_refuses(text: str) -> None:
    """The characters told are those that the codec refuses; a GSM text has none."""
    result = segments(text)
    refused = [(at, character) for at, character in enumerate(text) if character not in SEPTETS]
    assert [(each.position, each.character) for each in result.forced_ucs2] == refused
    assert (result.encoding is Encoding.GSM_7) == (not refused)


@pytest.mark.slow
@given(any_texts)
def test_characters_left_is_exact(text: str) -> None:
    """As many more units fit without another segment, and one more does not."""
    result = segments(text)
    full = segments(text + "a" * result.characters_left)
    assert full.count == max(result.count, 1)
    assert full.characters_left == 0
    assert segments(text + "a" * (result.characters_left + 1)).count > full.count


@pytest.mark.slow
@given(texts(gsm_characters))
def test_gsm_parts_fit_and_never_split_an_extension_character(text: str) -> None:
    """Each part encodes by itself within its limit, and the octets join to the whole."""
    result = segments(text)
    encoded = [CODEC.encode(part)[0] for part in result.parts]
    assert b"".join(encoded) == CODEC.encode(text)[0]
    assert all(len(octets) <= LIMITS[Encoding.GSM_7][result.count > 1] for octets in encoded)
    assert not any(octets.endswith(b"\x1b") for octets in encoded)


@pytest.mark.slow
@given(texts(unicode_characters).map(lambda text: text + "я"))
def test_ucs2_parts_fit_and_never_split_a_surrogate_pair(text: str) -> None:
    """Each part is whole UTF-16 within its limit: none begins with a low surrogate."""
    result = segments(text)
    encoded = [part.encode("utf-16-be") for part in result.parts]
    assert b"".join(encoded) == text.encode("utf-16-be")
    assert all(len(octets) <= 2 * LIMITS[Encoding.UCS_2][result.count > 1] for octets in encoded)
    assert not any(0xDC <= octets[0] <= 0xDF for octets in encoded)


def carried(text: str) -> bool:
    """Ask expat, by numeric references: XML that is not well-formed is refused."""
    references = "".join(f"&#{ord(character)};" for character in text)
    try:
        expat.ParserCreate().Parse(f"<a>{references}</a>", True)
    except expat.ExpatError:
        return False
    return True


@pytest.mark.slow
def test_forbidden_is_what_expat_refuses() -> None:
    """Of all Unicode exactly the characters that an XML parser refuses are forbidden."""
    forbidden = {each for each in BMP if first_forbidden(each) is not None}
    assert forbidden == {each for each in BMP if not carried(each)}
    assert carried(ASTRAL)
    assert first_forbidden(ASTRAL) is None
    assert len(forbidden) == 29 + 2048 + 2


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("", None, id="empty"),
        pytest.param("tab\tline\nreturn\r\x7f\x85", None, id="allowed-controls"),
        pytest.param(f"<&> é {EMOJI} \ufffd", None, id="needs-escaping-only"),
        pytest.param("a\fb\x07", (1, "\f"), id="first-of-two"),
        pytest.param(f"{EMOJI}\ud83d", (1, "\ud83d"), id="position-in-code-points"),
        pytest.param("ab\uffff", (2, "\uffff"), id="last-character"),
    ],
)
def test_the_first_character_that_xml_forbids_is_found(
    text: str, found: tuple[int, str] | None
) -> None:
    """The first forbidden character is told with its index in the str."""
    assert first_forbidden(text) == found


@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("\x00", "U+0000 (NUL control character)"),
        ("\x07", "U+0007 (BEL control character)"),
        ("\f", "U+000C (FF control character)"),
        ("\x1b", "U+001B (ESC control character)"),
        ("\x1f", "U+001F (US control character)"),
        ("\x85", "U+0085 (control character)"),
        ("\ud83d", "U+D83D (lone surrogate)"),
        ("\ufffe", "U+FFFE (noncharacter)"),
        ("\uffff", "U+FFFF (noncharacter)"),
        ("\ue000", "U+E000 (unnamed character)"),
        ("ç", "U+00E7 (LATIN SMALL LETTER C WITH CEDILLA)"),
        (EMOJI, "U+1F600 (GRINNING FACE)"),
    ],
)
def test_a_character_is_described_in_ascii(character: str, name: str) -> None:
    """A character is named by its code point and what is known of it."""
    assert describe(character) == name


@given(st.characters())
def test_describe_is_printable_for_every_character(character: str) -> None:
    """No character can break the error message or the log line that names it."""
    described = describe(character)
    assert described.isascii()
    assert described.isprintable()


@pytest.mark.parametrize("character", ["", "ab"])
def test_describe_takes_one_character(character: str) -> None:
    """A str of another length is a mistake of the caller."""
    with pytest.raises(TypeError):
        describe(character)
