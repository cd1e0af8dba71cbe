"""A CSV of recipients: read as Excel writes it, and rejects written to be corrected."""

from __future__ import annotations

import codecs
import io
import os
import sys
import tracemalloc
from pathlib import Path

import pytest

from skycore_async.cli.bulk.recipients import (
    NUMBER_COLUMNS,
    Header,
    Row,
    Sheet,
    SheetError,
)
from skycore_async.cli.bulk.rejects import Rejects

PEOPLE = "Name;Phone\r\nÄnne;15551234888\r\nBo;15551234889\r\n"
ROWS = [["Änne", "15551234888"], ["Bo", "15551234889"]]


def sheet(content: bytes) -> Sheet:
    return Sheet(io.BytesIO(content), "people.csv")


def lines(content: str) -> list[tuple[int, list[str]]]:
    return [(row.line, list(row.values)) for row in sheet(content.encode()).rows()]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (PEOPLE.encode(), "UTF-8, semicolons"),
        (codecs.BOM_UTF8 + PEOPLE.encode(), "UTF-8 with a byte order mark, semicolons"),
        (codecs.BOM_UTF16_LE + PEOPLE.encode("utf-16-le"), "UTF-16, semicolons"),
        (codecs.BOM_UTF16_BE + PEOPLE.encode("utf-16-be"), "UTF-16, semicolons"),
        (PEOPLE.encode("cp1252"), "Windows-1252, as line 2 is not UTF-8, semicolons"),
        (PEOPLE.replace(";", ",").encode(), "UTF-8, commas"),
        (
            codecs.BOM_UTF16_LE + PEOPLE.replace(";", "\t").encode("utf-16-le"),
            "UTF-16, tabs",
        ),
        (
            b"sep=;\r\n" + PEOPLE.encode("cp1252"),
            "Windows-1252, as line 3 is not UTF-8, semicolons",
        ),
        (PEOPLE.replace("\r\n", "\n").encode(), "UTF-8, semicolons"),
        (PEOPLE.replace("\r\n", "\r").encode(), "UTF-8, semicolons"),
        (PEOPLE.rstrip().encode(), "UTF-8, semicolons"),
        (PEOPLE.replace("Name", '"Name"').encode(), "UTF-8, semicolons"),
    ],
)
def test_a_sheet_is_read_as_excel_writes_it(content: bytes, said: str) -> None:
    """A file is read in any usual encoding, delimiter and line end, and names its form."""
    read = sheet(content)
    assert read.form == said
    assert read.header.names == ("Name", "Phone")
    assert [list(row.values) for row in read.rows()] == ROWS


@pytest.mark.parametrize(
    "broken", ["15551234890,Renée\n".encode("latin-1"), "15551234890,Ren\u00e9".encode()[:-1]]
)
def test_a_file_that_lines_of_two_encodings_are_in_garbles_no_text(broken: bytes) -> None:
    """A file with lines in two encodings is refused for texts."""
    read = sheet("to,name\n15551234888,Bo\n15551234889,Zoë\n".encode() + broken)
    with pytest.raises(
        SheetError, match="line 4 is not UTF-8, and line 3 is: read in one encoding"
    ):
        read.check_texts()
    assert read.form == "Windows-1252, as line 4 is not UTF-8, commas"  # for numbers alone
    sheet(b"to,name\n15551234888,Bo\n" + broken).check_texts()
    sheet(PEOPLE.encode()).check_texts()


@pytest.mark.parametrize("encoding", ["cp437", "cp850", "mac-roman"])
@pytest.mark.parametrize("name", ["Renée", "Jörg", "Günter", "Françoise", "Häsler", "Hélène"])
def test_a_file_that_excel_saved_for_another_system_garbles_no_text(
    name: str, encoding: str
) -> None:
    """A file in a code page of MS-DOS or the Macintosh is refused with the format to save."""
    content = f"to,name\n15551234888,Zo\u00eb\n15551234889,{name}\n15551234890,Br\u00e1ulio\n"
    with pytest.raises(SheetError, match=r"line [234] .*: save the file as `CSV UTF-8`"):
        sheet(content.encode(encoding)).check_texts()


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp850", "Hola José"),
        ("mac-roman", "Hola José, qué tal"),
        ("cp1250", "Cześć Małgorzata"),
        ("cp1250", "Zapraszamy w piątek"),
        ("iso8859-16", "Timișoara"),
        ("cp1254", "Hoş geldiniz"),
        ("cp1254", "Bar\u0131ş, merhaba"),
        ("cp1251", "Здравствуйте"),
        ("koi8-r", "Здравствуйте"),
        ("cp1253", "Καλημέρα"),
        ("cp1255", "שלום לכולם"),
        ("iso8859-15", "Rabatt 10 €"),
        ("iso8859-15", "only €5"),
    ],
)
def test_a_file_of_another_language_garbles_no_text(encoding: str, text: str) -> None:
    """A file in the code page of another language or system is refused with the format to save."""
    with pytest.raises(SheetError, match="line 2 seems to be neither UTF-8 nor Windows-1252"):
        sheet(f"to,text\n15551234888,{text}\n".encode(encoding)).check_texts()


@pytest.mark.parametrize(
    "text",
    [
        "Get NESCAFÉ® today",
        "OLÉ… we won",
        "JOSÉ\u2019S PIZZA",
        "the CAFÉ\u2013BAR",
        "Réservé\xa0\u2013 merci",
        '"voilà le café…”"',
        "“Þýðandi”, Þýskaland: óþýð alþýða, Ýmir, íþrótt, að þvo, óþrif, samþykkja",
        "jäääär, työyö, hääyöaie, Åsgård, blåbærgrød, Øyvind",
        "m³ and cm³, gratis¹, nº 5, 1º de mayo, Srª, Nºs, l·lusió, £££off",
        "¿Qué tal?¡Sí! ÇA VA DÉJÀ, Noël, cœur, maïs, AÑO, NÃO, ÀÉÈ",
        "Straße, Größe",
    ],
)
def test_western_text_is_not_taken_for_another_encoding(text: str) -> None:
    """Texts of western languages in Windows-1252 are read, whatever signs stand beside letters."""
    sheet(f"to,text\n15551234888,Hola Zoé\n15551234889,{text}\n".encode("cp1252")).check_texts()


def test_text_that_windows_wrote_is_read_as_such() -> None:
    """Windows-1252 text, with quotes, dashes, signs and letters of many languages, is read."""
    words = (
        "“Côté” „Ähnlich”,O\u2019Brien…he,Škoda Hašek Žižka ŽIŽKA,5¢ £5 ¡Sí! ¤,ŒUVRE cœur,™ ‰ †"
    )
    sheet(f"to,name\n15551234888,Zoë {words}\n".encode("cp1252")).check_texts()


def test_a_sheet_can_be_read_again_and_again() -> None:
    """A file can be read repeatedly, even after a reading was broken off."""
    read = sheet(PEOPLE.encode())
    next(read.rows())
    assert [list(row.values) for row in read.rows()] == ROWS
    assert [list(row.values) for row in read.rows()] == ROWS


def test_a_delimiter_inside_a_quoted_name_counts_for_nothing() -> None:
    """The delimiter is what stands between the names, not within one."""
    assert sheet(b'"a,b,c";to\r\n').header.names == ("a,b,c", "to")


@pytest.mark.parametrize("separator", ['"', ""])
def test_an_impossible_delimiter_is_no_delimiter(separator: str) -> None:
    """A `sep=` line with an impossible delimiter is read as a header."""
    assert sheet(f"sep={separator}\r\nto\r\n".encode()).header.names == (f"sep={separator}",)


def test_a_line_is_where_a_row_begins() -> None:
    """A row's line is where it begins, counted as an editor counts."""
    content = 'to,text\r\n1,"a\r\nb"\r\n\r\n,\r\n2,c\r\n'
    assert lines(content) == [(2, ["1", "a\r\nb"]), (6, ["2", "c"])]
    assert lines("sep=,\n" + content)[-1] == (7, ["2", "c"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\r\n\r\n", "it is empty"),
        (b"PK\x03\x04rest", "it is an Excel workbook: save it as `CSV UTF-8`"),
        (b"\xd0\xcf\x11\xe0rest", "it is an Excel workbook"),
        (b"to\r\n1\r\n\x81\x8d\r\n", "line 3 is not UTF-8: save the file as `CSV UTF-8`"),
        (codecs.BOM_UTF8 + b"to\r\n\xff\r\n", "line 2 is not UTF-8 with a byte order mark"),
        (codecs.BOM_UTF16_LE + b"t\x00o", "line 1 is not UTF-16"),
        ("to\n1\n".encode("utf-16-le"), "it is UTF-16 without a byte order mark: save the file"),
        ("to\n1\n".encode("utf-16-be"), "it is UTF-16 without a byte order mark: save the file"),
        (b'to,text\r\n1,a\r\n2,"b\r\n3,c\r\n', "line 3 cannot be read"),
        (b'to,text\r\n1,a\r\n2,"b"c\r\n3,c\r\n', "line 3 cannot be read"),
    ],
)
def test_an_unreadable_row_is_reported_with_its_line(content: bytes, said: str) -> None:
    """A broken file is a one-line error that says where."""
    with pytest.raises(SheetError) as error:
        list(sheet(content).rows())
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["Phone No.", "phone_no", "PHONENO", "phone-no"])
def test_a_column_is_found_without_case_and_punctuation(name: str) -> None:
    """A column name matches without case and punctuation."""
    assert Header(("Name", "Phone No.")).index(name) == 1


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Phone No.",
            "Phone #",
            "Phone Nr",
            "phone_num",
            "Cell Phone",
            "Cell No",
            "MSISDN",
            "Tel.",
        ),
        *(
            "Mobile Number",
            "Mobile Phone No.",
            "Telephone Number",
            "Contact No.",
            "TO",
            "Recipient",
        ),
    ],
)
def test_the_column_of_the_numbers_is_found_as_people_name_it(name: str) -> None:
    """The column of numbers is found by many usual names."""
    assert Header(("Contact", "Name", name)).find(NUMBER_COLUMNS, "--to-column") == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("code", "there is no column 'code'; the columns are 'Name', 'name', ''"),
        ("name", "2 columns have the name 'name'"),
        ("", "there is no column ''"),
    ],
)
def test_a_column_that_is_missing_or_there_twice_is_refused(name: str, said: str) -> None:
    """A column that is missing or ambiguous is refused."""
    with pytest.raises(SheetError, match=said):
        Header(("Name", "name", "")).index(name)


def test_one_of_several_columns_is_not_guessed() -> None:
    """If several columns could hold the numbers, the deciding option is named."""
    header = Header(("Mobile", "x", "Phone"))
    with pytest.raises(SheetError, match=r"'Mobile', 'Phone' could all be meant.*--to-column"):
        header.find(("to", "phone", "mobile"), "--to-column")
    assert header.find(("to", "x"), "--to-column") == 1
    assert header.find(("to",), "--to-column") is None


def test_rejects_have_the_shape_of_the_sheet(tmp_path: Path) -> None:
    """Rejects have the file's columns, with reason and line."""
    read = sheet(codecs.BOM_UTF16_LE + 'Näme;to\r\n"a;""b\n";1\r\n'.encode("utf-16-le"))
    path = tmp_path / "people.rejects.csv"
    with Rejects(path, read) as rejects:
        assert not path.exists()
        for row in read.rows():
            rejects.write(row, "no; good")
        rejects.write(Row(line=9, values=["short"]), "r")
        rejects.write(Row(line=10, values=["a", "b", "c"]), "r")
        assert rejects.count == 3
    assert path.read_bytes().startswith(codecs.BOM_UTF8)
    again = sheet(path.read_bytes())
    assert again.header.names == ("Näme", "to", "reason", "line")
    assert [list(row.values) for row in again.rows()] == [
        ['a;"b\n', "1", "no; good", "2"],
        ["short", "", "r", "9"],
        ["a", "b;c", "r", "10"],
    ]


def test_rejects_of_rejects_have_one_reason(tmp_path: Path) -> None:
    """Rejects of a rejects file have one reason column."""
    read = sheet(b"to,reason,line\r\n1,old,7\r\n")
    with Rejects(tmp_path / "r.csv", read) as rejects:
        rejects.write(next(read.rows()), "new")
    assert (tmp_path / "r.csv").read_text("utf-8-sig") == "to,reason,line\n1,new,2\n"


def test_a_file_that_was_taken_away_meanwhile_is_none_of_the_same_rejects(tmp_path: Path) -> None:
    """A removed rejects file does not count as an equal one."""
    read, same = sheet(b"to\r\n1\r\n"), tmp_path / "same.csv"
    row = next(read.rows())
    for path, earlier in (same, ()), (tmp_path / "new.csv", (tmp_path / "gone.csv", same)):
        with Rejects(path, read, earlier) as rejects:
            rejects.write(row, "r")
    assert (rejects.path, list(tmp_path.iterdir())) == (same, [same])


@pytest.mark.skipif(sys.platform == "win32", reason="rights are of another kind there")
def test_rejects_are_their_owners_alone(tmp_path: Path) -> None:
    """A rejects file is private, and keeps permissions changed since."""
    read, path = sheet(b"to\r\n1\r\n"), tmp_path / "r.csv"
    before = os.umask(0)
    try:
        for shared in (0o600, 0o640):
            with Rejects(path, read) as rejects:
                rejects.write(next(read.rows()), "r")
                assert path.stat().st_mode & 0o777 == shared
            path.chmod(0o640)
    finally:
        os.umask(before)


@pytest.mark.slow
def test_reading_takes_no_memory_for_rows_that_were_read(tmp_path: Path) -> None:
    """Reading many rows takes no more memory than reading few."""

    def peak(rows: int) -> int:
        path = tmp_path / "many.csv"
        path.write_text("to;name\n" + "15551234888;Somebody\n" * rows)
        with path.open("rb") as file:
            tracemalloc.start()
            try:
                assert sum(1 for _ in Sheet(file, "many.csv").rows()) == rows
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    peak(10)
    assert peak(50_000) < peak(10_000) + 500_000
