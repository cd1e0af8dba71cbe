"""Rows of a recipients file and their estimate: templates, duplicates, segments, cost."""

from __future__ import annotations

import io
import random
import tracemalloc
from decimal import Decimal
from typing import Any

import pytest

from skycore_async import NationalNumbers
from skycore_async.cli.bulk.duplicates import FirstLines
from skycore_async.cli.bulk.estimate import Estimate, Survey, duration
from skycore_async.cli.bulk.judged_rows import JudgedRows
from skycore_async.cli.bulk.preview import preview
from skycore_async.cli.bulk.recipients import Header, Sheet, SheetError
from skycore_async.cli.bulk.rows import (
    MessageRow,
    RejectedRow,
    RejectionKind,
    RowOptions,
    RowReader,
)
from skycore_async.cli.bulk.template import Template
from skycore_async.protocol.segments import Encoding

LACKING = "nothing was sent: rows lack what the text names"
CURE = "fill them in, or take them out"
HEADER = Header(("Name", "Code No."))


def judged(content: str, **options: Any) -> list[MessageRow | RejectedRow]:
    sheet = Sheet(io.BytesIO(content.encode()), "promo.csv")
    given = {"campaign": "promo", "from_": "60856", "text": "Hello", **options}
    reader = RowReader(sheet.header, RowOptions(**given))
    return [reader.read(row) for row in sheet.rows()]


def reasons(content: str, **options: Any) -> list[tuple[int, RejectionKind, str]]:
    return [
        (one.row.line, one.kind, one.reason)
        for one in judged(content, **options)
        if isinstance(one, RejectedRow)
    ]


def message_rows(content: str, **options: Any) -> list[MessageRow]:
    return [one for one in judged(content, **options) if isinstance(one, MessageRow)]


def surveyed(content: str, *, price: str | None = None, **options: Any) -> Estimate:
    survey = Survey()
    for one in judged(content, **options):
        survey.see(one)
    return survey.estimate(price=None if price is None else Decimal(price), rate=20)


@pytest.mark.parametrize(
    "name",
    ["Phone Number", "cell", "Telephone", "phone_number", "Mobile", "Cell Phone", "TO", "Phone #"],
)
def test_the_column_of_the_numbers_is_found(name: str) -> None:
    """The column of numbers is found by its usual names."""
    (row,) = message_rows(f"Name,{name}\nAnn,15551234888\n")
    assert row.message.to == "15551234888"


def test_a_formula_with_a_text_result_is_read_as_the_text() -> None:
    """A cell like `="15551234888"` is read as its text."""
    content = '="phone",name\n="15551234888",="A ""quoted"" name"\n"=""15551234889""",=A1\n'
    rows = message_rows(content, text="Hi {name}")
    assert [(row.message.to, row.message.text) for row in rows] == [
        ("15551234888", 'Hi A "quoted" name'),
        ("15551234889", "Hi =A1"),
    ]


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("Hello", "Hello"),
        ("Hi {name}, {code no}!", "Hi Ann, 4711!"),
        ("{Code_No.}{NAME}", "4711Ann"),
        ("{{nmae}} {{ }} }", "{nmae} { } }"),
        ("{{{name}}}", "{Ann}"),
        ("Smile :}", "Smile :}"),
        ("100 % {name}s, %s", "100 % Anns, %s"),
        ("100 %", "100 %"),
        ("${code no}, [x] <3 %s% $5 <3", "$4711, [x] <3 %s% $5 <3"),
        ("the #name #today, (name)", "the #name #today, (name)"),
    ],
)
def test_a_template_is_filled(text: str, filled: str) -> None:
    """Column names in braces are filled, and doubled braces are literal."""
    assert Template.parse(text, HEADER).fill(["Ann", "4711"]) == filled


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "Hi {nmae}",
            r"the text names {nmae}, and there is no column 'nmae'; .* 'Name', 'Code No.'",
        ),
        ("Hi {name", "a { that is not closed"),
        ("Hi {}", "the text names {}"),
        ("Hi {{ name }}", "has {{ name }} in it, .* write {name} for the column"),
        ("5% off, [code no.]!", r"has \[code no.\] in it, .* write {code no.} for the column"),
        ("Hi <<Name>>", "has <Name> in it"),
        ("Hi «name»", "has «name» in it"),
        ("Hi *|NAME|*", r"has \*\|NAME\|\* in it"),
        ("5% off for %name%", "has %name% in it"),
        ("Hi {name}, $Name", r"has \$Name in it"),
        ("Hi ((name))", r"has \(\(name\)\) in it"),
        ("Hi ##name##", "has #name# in it"),
        ("Hi %(name)s", r"has %\(name\)s in it"),
        ("«Hi [name]», he said", r"has \[name\] in it"),
        ("Hi [name]", "where it is meant so, rename that column"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(text: str, said: str) -> None:
    """A template with unknown columns or bad braces is refused."""
    with pytest.raises(SheetError, match=said):
        Template.parse(text, HEADER)


def test_a_value_is_never_read_as_a_template() -> None:
    """Braces in a cell are not filled."""
    (row,) = message_rows("to,name\n15551234888,{to}\n", text="Hi {name}")
    assert row.message.text == "Hi {to}"
    (row,) = message_rows("to,text\n15551234888,{a} {}{\n", text=None)
    assert row.message.text == "{a} {}{"


def test_a_row_is_a_message_under_the_key_of_its_campaign() -> None:
    """A row's key is the campaign and the normalized number."""
    (row,) = message_rows("Name;Mobile\nAnn;+1 (555) 123-4888\n", text="Hi {name}")
    assert (row.message.to, row.message.text) == ("15551234888", "Hi Ann")
    assert (row.message.key, row.message.from_) == ("promo:15551234888", "60856")


def test_columns_of_their_own_give_key_text_and_sender() -> None:
    """Columns may give key, text and sender; empty ones mean the default."""
    content = "to,text,key,from\n15551234888,A {x},k1,777\n15551234889,B, ,\n"
    first, second = (row.message for row in message_rows(content, text=None))
    assert (first.text, first.key, first.from_) == ("A {x}", "k1", "777")
    assert (second.text, second.key, second.from_) == ("B", "promo:15551234889", "60856")


def test_columns_can_be_named() -> None:
    """Options name the columns of number, text, key and sender."""
    content = "phone,mobile,t,k,f\n1,15551234888,Hi,key,777\n"
    (row,) = message_rows(
        content,
        text=None,
        to_column="Mobile",
        text_column="t",
        key_column="k",
        from_column="f",
    )
    assert (row.message.to, row.message.text) == ("15551234888", "Hi")
    assert (row.message.key, row.message.from_) == ("key", "777")


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("a,b\n", {}, "no column is called to, number, .* or recipient, nor .*--to-column"),
        ("phone,mobile\n", {}, "--to-column"),
        ("to\n", {"text": None}, "there is no text: give --text"),
        ("to,t\n", {"text_column": "t"}, "give --text or --text-column, not both"),
        ("to\n", {"key_column": "k"}, "there is no column 'k'"),
    ],
)
def test_a_column_that_is_needed_and_missing_is_an_error(
    content: str, options: dict[str, Any], said: str
) -> None:
    """A missing column is an error before the first row."""
    with pytest.raises(SheetError, match=said):
        judged(content, **options)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("555", "'555' is no phone number in international format"),
        ("0044 20 7946 0018", "write the country code first, with no 00, 011 or 0 before it"),
        ("+44 (0)20 7946 0018", "leave it out, as in +44 20 7946 0958"),
        (" ", "no number"),
        ("1.55512E+10", "Excel rounded the number to 1.55512E+10"),
        ("1,55512E+10", "Excel rounded the number"),
    ],
)
def test_a_number_that_is_none_is_refused_with_its_line(number: str, said: str) -> None:
    """A bad number is refused with its line and what to correct."""
    ((line, kind, reason),) = reasons(f"x;to\nA;15551234888\nB;{number}\n")
    assert (line, kind) == (3, RejectionKind.INVALID)
    assert said in reason


def test_of_rows_with_one_number_the_first_is_kept() -> None:
    """Of rows with one number the first is kept, and the others name its line."""
    content = "to\n15551234888\n15551234889\n+1 (555) 123-4888\n1 555 1234 888\n"
    assert reasons(content) == [
        (4, RejectionKind.DUPLICATE, "15551234888 is on line 2"),
        (5, RejectionKind.DUPLICATE, "15551234888 is on line 2"),
    ]


def test_a_row_that_is_not_valid_does_not_shadow_the_next() -> None:
    """An invalid row does not make a later row with its number a duplicate."""
    content = "to,name\n15551234888,\x07\n15551234888,Ann\n"
    assert [row.row.line for row in message_rows(content, text="Hi {name}")] == [3]


def test_a_key_is_used_once() -> None:
    """A second row with a key is a duplicate, also if the key is a default one."""
    content = "to,key\n15551234888,a\n15551234889,a\n15551234887,promo:15551234886\n15551234886,\n"
    assert reasons(content) == [
        (3, RejectionKind.DUPLICATE, "the key 'a' is on line 2"),
        (5, RejectionKind.DUPLICATE, "the key 'promo:15551234886' is on line 4"),
    ]


def test_a_row_that_is_not_sent_takes_no_number_and_no_key() -> None:
    """A duplicate row reserves neither its number nor its key."""
    content = "to,key\n15551234888,a\n15551234888,b\n15551234889,b\n15551234887,a\n15551234887,c\n"
    assert [one.row.line for one in message_rows(content)] == [2, 4, 6]
    assert reasons(content) == [
        (3, RejectionKind.DUPLICATE, "15551234888 is on line 2"),
        (5, RejectionKind.DUPLICATE, "the key 'a' is on line 2"),
    ]


def test_a_duplicate_that_was_written_down_stays_one() -> None:
    """A duplicate from a rejects file stays a duplicate in another campaign."""
    reason = "15551234888 is on line 2"
    content = f"to,reason,line\n1 555 1234888,{reason},5\n15551234889,{reason},5\n15551234888,,5\n"
    assert reasons(content) == [(2, RejectionKind.DUPLICATE, reason)]
    assert [one.row.line for one in message_rows(content)] == [3, 4]
    content = "to,key,reason,line\n15551234888,a,the key 'a' is on line 2,5\n"
    assert [line for line, *_ in reasons(content)] == [2]
    assert not reasons(content.replace(",a,", ",b,"))


@pytest.mark.parametrize("name", ["reason", "line"])
@pytest.mark.parametrize("option", ["text", "text_column", "key_column", "from_column"])
def test_no_message_is_made_of_what_rejects_say(name: str, option: str) -> None:
    """The columns `reason` and `line` of a rejects file cannot be used in messages."""
    asked = {"text": f"Cancelled: {{{name}}}"} if option == "text" else {option: name}
    with pytest.raises(SheetError, match=f"need the column '{name}', .* rename it"):
        message_rows(f"to,text,{name}\n15551234888,Hi,snow\n", **{"text": None, **asked})


def test_a_key_that_no_ledger_takes_is_refused_before_anything_is_sent() -> None:
    """A key that no ledger accepts is refused."""
    ((_, kind, reason),) = reasons("to\n15551234888\n", campaign="pro\udcffmo")
    assert kind is RejectionKind.INVALID
    assert reason.startswith("key: ")


def test_stored_rows_are_the_rows_that_were_read() -> None:
    """Judged rows come back from the temporary file equal and in order."""
    content = (
        'to,name,key,from\n15551234888,Ann,a,777\n15551234889\n5,"x\ny"\n15551234888,Bo\n'
        "15551234887,\u00e4\u2019\0x,,\n" + "".join(f"1555124{n:04},Co,,\n" for n in range(1200))
    )
    found = judged(content, text="Hi {name}", campaign_ref="77")
    with JudgedRows() as kept:
        for one in found:
            kept.add(one)
        assert list(kept) == found
    assert {type(one) for one in found} == {MessageRow, RejectedRow}


@pytest.mark.slow
def test_stored_rows_take_little_memory() -> None:
    """Ten thousand judged rows take under 2 MB of memory."""
    content = "to,name\n15551234888,Somebody\n"
    (row,) = message_rows(content, text="Hi {name}")
    tracemalloc.start()
    try:
        with JudgedRows() as kept:
            for _ in range(10_000):
                kept.add(row)
            assert sum(1 for _ in kept) == 10_000
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "options", "kind", "said"),
    [
        ("to,name\n15551234888, \n", {}, RejectionKind.INCOMPLETE, "no value for 'name'"),
        ("to,name\n15551234888\n", {}, RejectionKind.INCOMPLETE, "no value for 'name'"),
        (
            "to,text\n15551234888,\n",
            {"text": None},
            RejectionKind.INCOMPLETE,
            "no value for 'text'",
        ),
        (
            "to,name\n15551234888,#N/A\n",
            {},
            RejectionKind.INCOMPLETE,
            "no value for 'name', which shows #N/A",
        ),
        (
            "to,name,code\n15551234888,,#¿NOMBRE? \n",
            {"text": "{name}{code}"},
            RejectionKind.INCOMPLETE,
            "no value for 'name', 'code', which shows #¿NOMBRE?",
        ),
        (
            "to,name,key\n15551234888,a,#BEZUG!\n",
            {},
            RejectionKind.INVALID,
            "no value for 'key', which shows #BEZUG!",
        ),
        (
            "to,name,from\n15551234888,a,Err:502\n",
            {},
            RejectionKind.INVALID,
            "no value for 'from', which shows Err:502",
        ),
        (
            "to,name,text\n15551234888,Ann,{4} Hi { NAME }!\n",
            {"text": None},
            RejectionKind.INCOMPLETE,
            "{ NAME } would go out as it stands, as only --text fills in a column; where it is",
        ),
        (
            "to,name,text\n15551234888,Ann,Hi [name]!\n",
            {"text": None},
            RejectionKind.INCOMPLETE,
            "[name] would go out as it stands, as only --text fills in a column",
        ),
        ("to,name\n15551234888,a,b\n", {}, RejectionKind.INVALID, "it has 3 values for 2 columns"),
        ("to,name\n15551234888,\x07\n", {}, RejectionKind.INVALID, "U+0007"),
        (
            "to,name\n15551234888,Ren\ufffde\n",
            {},
            RejectionKind.INVALID,
            "text: it has U+FFFD in it",
        ),
        ("to,name\n15551234888,a\n", {"from_": None}, RejectionKind.INVALID, "no short code"),
        (
            f"to,name\n15551234888,{'a' * 160}\n",
            {"max_segments_each": 1},
            RejectionKind.INVALID,
            "it takes 2 segments, and --max-segments-each is 1",
        ),
    ],
)
def test_a_row_that_is_no_message_says_why(
    content: str, options: dict[str, Any], kind: RejectionKind, said: str
) -> None:
    """A row that is no valid message is rejected with its reason."""
    ((_, found, reason),) = reasons(content, **{"text": "Hi {name}", **options})
    assert found is kind
    assert said in reason


def test_a_failed_formula_alone_is_no_value() -> None:
    """A spreadsheet error is refused as a value, but other texts with # are not."""
    content = "to,name,other\n15551234888,#1,#N/A\n15551234889,#SALE!,\n15551234890,Erroll,\n"
    assert [one.message.text for one in message_rows(content, text="{name}")] == [
        "#1",
        "#SALE!",
        "Erroll",
    ]
    ((_, kind, _),) = reasons("to,key\n#REF!,#REF!\n")
    assert kind is RejectionKind.INVALID


def test_a_row_that_was_in_doubt_is_sent_again_on_a_word_alone() -> None:
    """A row in doubt in a rejects file is sent only with --resend-in-doubt."""
    content = "to,reason,line\n15551234888,in doubt: no answer,7\n15551234889,E110: no,8\n"
    assert reasons(content) == [(2, RejectionKind.IN_DOUBT, "in doubt: no answer")]
    assert len(message_rows(content, resend_in_doubt=True)) == 2


@pytest.mark.slow
def test_first_lines_agree_with_a_dict() -> None:
    """The table of first lines agrees with a dict for random numbers."""
    chance = random.Random(7)
    table, known = FirstLines(), dict[int, int]()
    for line in range(1, 30_000):
        name = chance.choice([chance.randrange(1, 9_000), -(2**63) + chance.randrange(9_000)])
        assert table.before(name, line) == known.get(name)
        known.setdefault(name, line)


def test_a_name_that_was_forgotten_is_new_again() -> None:
    """A forgotten name is new again."""
    table = FirstLines()
    for line in range(10_000):
        table.before(line, line)
    for name in (1, 9_999):
        table.forget(name)
        assert (table.before(name, 20_000), table.before(name, 30_000)) == (None, 20_000)


def test_first_lines_of_many_numbers_are_small() -> None:
    """Ten thousand numbers take under 2 MB in the table of first lines."""
    tracemalloc.start()
    try:
        table = FirstLines()
        for line in range(10_000):
            table.before(115551000000 + line, line)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_an_estimate_counts_what_would_be_sent() -> None:
    """The estimate counts segments, characters and cost of rows to send alone."""
    long = "a" * 161
    content = (
        f"to,name\n15551234881,{long}\n15551234882,Co\u2019s\u2019\n15551234883,☎\u2019\n"
        "15551234884,Ann\n15551234881,☎☎\n5,☎\n"
    )
    estimate = surveyed(content, text="{name}", price="0.0075")
    assert (estimate.rows, estimate.to_send, estimate.segments) == (6, 4, 5)
    assert (estimate.count(RejectionKind.INVALID), estimate.count(RejectionKind.DUPLICATE)) == (
        1,
        1,
    )
    gsm, ucs2 = estimate.encodings[Encoding.GSM_7], estimate.encodings[Encoding.UCS_2]
    assert (gsm.messages, gsm.segments, gsm.longest, gsm.longest_line) == (2, 3, 2, 2)
    assert (ucs2.messages, ucs2.segments) == (2, 2)
    assert [(one.character, one.messages, one.first_line) for one in estimate.forcing] == [
        ("\u2019", 2, 3),
        ("☎", 1, 4),
    ]
    assert estimate.cost == Decimal("0.0375")
    assert estimate.seconds == 0.2


def test_the_preview_says_it_in_lines() -> None:
    """The preview has lines for rows, rejects, segments, characters, cost and time."""
    content = (
        "to,name\n15551234888,Ann\n15551234889,Co\u2019s\n" + "5,x\n" * 7 + "15551234888,Ed\n"
    )
    estimate = surveyed(content, text="Hi {name}", price="0.01")
    printed = list(preview(estimate))
    assert printed == [
        "rows          10",
        "  to send     2",
        "  not valid   7",
        *[
            f"    line {line}: to: '5' is no phone number in international format: 5 to 15 digits"
            " (0 to 9), the country code first"
            for line in range(4, 9)
        ],
        "    and 2 more",
        "  duplicate   1",
        "    line 11: 15551234888 is on line 2",
        "countries     +1 (2)",
        "first text    'Hi Ann' (line 2)",
        "segments      2",
        "  GSM 03.38   1 in 1 message",
        "  UCS-2       1 in 1 message",
        "UCS-2 takes more segments, and is needed for",
        "    \u2019 U+2019 (RIGHT SINGLE QUOTATION MARK): 1 message, first on line 3",
        "estimate      0.02 at 0.01 a segment",
        "time          0:00:01 at 20 a second",
    ]


def test_numbers_are_counted_by_country() -> None:
    """Numbers are counted by country, and ten-digit ones without + are pointed out."""
    numbers = ["(555) 123-4888", "5551234889", "2025550123", "+65 9123 4567", "1555123488"]
    numbers += ["15551234888", "+4915112345678", "15551234889", "15551234890", "+552134567890"]
    estimate = surveyed("\n".join(["to", *numbers]) + "\n")
    assert estimate.numbers == {
        "countries": {"1": 4, "55": 3, "20": 1, "65": 1, "49": 1},
        "ten_digits": {"count": 3, "first_line": 2, "countries": {"55": 2, "20": 1}},
    }
    printed = list(preview(estimate))
    assert "countries     +1 (4), +55 (3), +20 (1), +65 (1), +49 (1)" in printed
    assert (
        "3 numbers have ten digits and no + (first on line 2): with --country US they are"
        " American; without it they go to +55, +20"
    ) in printed


def test_one_number_of_ten_digits_and_many_countries_are_said_in_short() -> None:
    """At most eight countries are named, and the others counted."""
    codes = (20, 30, 31, 33, 36, 39, 41, 43, 45, 46)
    numbers = [f"+{code}912345{code}" for code in codes]
    printed = list(preview(surveyed("\n".join(["to", "5551234888", *numbers]) + "\n")))
    assert any(line.startswith("countries ") and line.endswith(" and 3 more") for line in printed)
    assert any(line.startswith("1 number has ten digits and no + (first") for line in printed)


def test_numbers_that_are_read_are_counted_as_they_are_sent() -> None:
    """With --country numbers are counted as they are sent."""
    found = judged(
        "to\n(555) 123-4888\n+1 555 123 4888\n5551234889\n6592345678\n4930123456\n",
        number_reader=NationalNumbers("US"),
    )
    sent = [one for one in found if isinstance(one, MessageRow)]
    assert [(one.message.to, one.written) for one in sent] == [
        ("15551234888", "5551234888"),
        ("15551234889", "5551234889"),
        ("16592345678", "6592345678"),
    ]
    assert [one.message.key for one in sent][:1] == ["promo:15551234888"]
    left = [(one.kind, one.reason) for one in found if isinstance(one, RejectedRow)]
    assert left[0] == (RejectionKind.DUPLICATE, "15551234888 is on line 2")
    assert left[1][0] is RejectionKind.INVALID
    assert "could be +14930123456 or +4930123456" in left[1][1]
    with JudgedRows() as kept:
        for one in found:
            kept.add(one)
        assert list(kept) == found


def test_a_row_with_a_key_of_its_own_is_one_message_however_its_number_is_read() -> None:
    """A row with its own key has no other key for the number as written."""
    (row,) = message_rows("to,key\n5551234888,a\n", number_reader=NationalNumbers("US"))
    assert (row.message.to, row.message.key, row.as_written) == ("15551234888", "a", None)


def test_the_preview_has_room_for_more_than_a_long_text() -> None:
    """A long text is cut in the preview, with its length."""
    printed = list(preview(surveyed(f"to,name\n15551234888,{'x' * 10_000}\n", text="Hi {name}")))
    (line,) = (line for line in printed if line.startswith("first text"))
    assert line.endswith("xxx' and 9,503 characters more (line 2)")
    assert len(line) < 600


def test_the_preview_cannot_steer_the_terminal() -> None:
    """Control characters are escaped in the preview."""
    estimate = surveyed("to,name\n15551234888,\x9b31m\n", text="{name}")
    assert not any("\x9b" in line for line in preview(estimate))


@pytest.mark.parametrize(
    ("content", "most", "said"),
    [
        ("to,name\n15551234888,Ann\n", None, None),
        ("to,name\n15551234888,Ann\n", 1, None),
        (
            "to,name\n",
            None,
            "nothing was sent: there is no row below the first line, that of the columns",
        ),
        (
            "to,name\n15551234888,Ann\n15551234889,Bo\n",
            1,
            "nothing was sent: it would take 2 segments, and --max-segments is 1",
        ),
        (
            "to,name\n15551234888,Ann\n" + "15551234889,\n" * 6,
            None,
            f"{LACKING}, 6 in all, on line 3, 4, 5, 6, 7, ... (no value for 'name'): {CURE}",
        ),
    ],
)
def test_an_obstacle_to_sending_is_named(content: str, most: int | None, said: str | None) -> None:
    """A missing value, too many segments and an empty file are obstacles."""
    assert surveyed(content, text="Hi {name}").obstacle(most) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0:00:00"), (0.1, "0:00:01"), (59.5, "0:01:00"), (50_000, "13:53:20")],
)
def test_a_time_is_hours_minutes_and_seconds(seconds: float, said: str) -> None:
    """A duration is rounded up to seconds."""
    assert duration(seconds) == said
