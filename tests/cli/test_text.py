"""`skycore segments` and `skycore parse`."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from skycore_async import parse_postback
from skycore_async.cli.app import skycore
from skycore_async.cli.ui.notifications import facts_of, row_of
from skycore_async.cli.ui.output import Exit, plain, printable
from skycore_async.cli.ui.tables import show_table
from skycore_async.cli.ui.times import time_of

BUNDLE = """<POSTBACK>
<NOTIFICATION ID="1" CREATED="2026-11-22 10:00:00"><ORIGIN>SMS_MT</ORIGIN><CODE>N201</CODE>
<BODY><TO>15551234888</TO><TRACKINGID>SMS_12345</TRACKINGID></BODY></NOTIFICATION>
<NOTIFICATION ID="2"><ORIGIN>SMS_MT</ORIGIN><CODE>N201</CODE><BODY><TO>15551234888</TO>
<TRACKINGID>SMS_12345</TRACKINGID><STATUS PROTOCOL="2" STATUS="514"/></BODY></NOTIFICATION>
<NOTIFICATION ID="3"><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE>
<BODY><FROM>15551234889</FROM><TEXT>STOP &#x9b;31m</TEXT></BODY></NOTIFICATION>
<NOTIFICATION ID="4"><ORIGIN>SUB</ORIGIN><CODE>N302</CODE>
<BODY><MOBILE>15551234890</MOBILE><CAMPAIGNTITLE>Promo</CAMPAIGNTITLE></BODY></NOTIFICATION>
<NOTIFICATION ID="5"><ORIGIN>PASS</ORIGIN><CODE>N900</CODE></NOTIFICATION>
</POSTBACK>"""


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    """Run a command with this standard input."""
    return CliRunner().invoke(skycore, arguments, input=stdin)


def answer(*arguments: str, stdin: str | bytes | None = None) -> Any:
    """Return a command's JSON answer."""
    done = run(*arguments, "--json", stdin=stdin)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


# segments


def test_a_plain_text_is_one_segment() -> None:
    """`segments` prints count, encoding and characters left."""
    assert run("segments", "Hello").stdout == (
        "segments         1\nencoding         GSM 03.38\ncharacters left  155\n"
    )


def test_characters_that_force_ucs2_are_listed() -> None:
    """Each character outside GSM 03.38 has one row with name and positions."""
    done = run("segments", "Ça ☎ coûte ☎")
    assert "UCS-2" in done.stdout
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert rows["☎"].split(")")[1].split() == ["3,", "11"]
    assert "LATIN SMALL LETTER U WITH CIRCUMFLEX" in rows["û"]
    assert "Ç" not in rows


def test_many_positions_are_counted() -> None:
    """Many positions of one character are cut and counted."""
    assert "0, 1, 2, 3, 4, 5, 6, 7 and 92 more" in run("segments", "ж" * 100).stdout


def test_programs_get_segments_as_one_object() -> None:
    """--json gives one object with every position."""
    assert answer("segments", "a☎") == {
        "segments": 1,
        "encoding": "UCS-2",
        "units": 2,
        "characters_left": 68,
        "forced_ucs2": [{"position": 1, "character": "☎", "name": "U+260E (BLACK TELEPHONE)"}],
    }


@pytest.mark.parametrize("arguments", [["-"], []])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_standard_input_is_read_without_its_last_line_break(
    arguments: list[str], end: str
) -> None:
    """Standard input is read without its last line break."""
    assert answer("segments", *arguments, stdin=f" one\ntwo {end}".encode())["units"] == 9


def test_standard_input_that_is_no_text() -> None:
    """Input that is no UTF-8 is refused with the position."""
    done = run("segments", "-", stdin=b"caf\xe9")
    assert done.exit_code == Exit.USAGE
    assert "no UTF-8" in done.stderr
    assert "byte 3" in done.stderr


def test_an_argument_that_is_no_text() -> None:
    """Bytes of an argument that are no text are counted and shown as surrogates."""
    done = run("segments", "a\udcff")
    assert done.exit_code == 0
    assert "lone surrogate" in done.stdout


@pytest.mark.parametrize("command", ["segments", "parse"])
def test_a_terminal_is_told_what_is_missing(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument on a terminal a command is a usage error."""
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
    done = run(command)
    assert done.exit_code == Exit.USAGE
    assert "pipe" in done.stderr


# parse


def test_a_bundle_is_a_table() -> None:
    """`parse` prints a row for each notification."""
    lines = [line.split() for line in run("parse", "-", stdin=BUNDLE).stdout.splitlines()]
    assert lines[0] == ["kind", "tracking", "id", "number", "state", "details", "time"]
    assert lines[2] == ["sent", "SMS_12345", "15551234888", "sent", "2026-11-22", "10:00:00"]
    assert lines[3][:5] == ["receipt", "SMS_12345", "15551234888", "failed", "recipient:"]
    assert lines[4] == ["inbound", "15551234889", "STOP", "\ufffd31m"]
    assert lines[5] == ["subscription", "15551234890", "unsubscribed", "Promo"]
    assert lines[6] == ["unknown", "PASS", "N900"]


def test_a_pipe_gets_whole_lines(tmp_path: Path) -> None:
    """Piped, each row is one whole line."""
    file = tmp_path / "postback.xml"
    file.write_text(BUNDLE.replace("Promo", "A campaign with a title " * 8))
    printed = run("parse", str(file)).stdout
    assert ("A campaign with a title " * 8).strip() in printed
    assert len(printed.splitlines()) == 7
    assert not [line for line in printed.splitlines() if line != line.rstrip()]


def on_terminal(
    width: int, headings: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str] = ()
) -> list[str]:
    """Return the lines of a table on a terminal of that width."""
    printed = io.StringIO()
    out = Console(file=printed, width=width, force_terminal=True, color_system=None)
    show_table(out, headings, rows, spare=spare)
    return printed.getvalue().splitlines()


@pytest.mark.parametrize(
    ("width", "first"), [(140, "kind          tracking id"), (40, "kind sent")]
)
def test_a_terminal_too_narrow_gets_blocks(width: int, first: str) -> None:
    """On a narrow terminal a row is a block of lines."""
    rows = [row_of(one) for one in parse_postback(BUNDLE)]
    lines = on_terminal(width, type(rows[0]).headings(), [row.cells() for row in rows])
    assert lines[0].startswith(first)
    assert max(map(len, lines)) <= (width if width > 100 else 55)
    assert any("unsubscribed" in line for line in lines)


@pytest.mark.parametrize("width", [80, 60])
def test_a_table_stays_one_and_breaks_no_word(width: int) -> None:
    """Cells are wrapped between words, the widest first."""
    reason = "recipient: the number is not one of a subscriber, and was given back long ago"
    row = ("receipt", "*******4888", "failed", reason, "2026-11-22 10:00:00Z")
    lines = on_terminal(width, ("kind", "number", "state", "reason", "time"), [row])
    assert lines[0].split() == ["kind", "number", "state", "reason", "time"]
    assert lines[2].startswith("receipt  *******4888  failed  recipient: ")
    assert max(map(len, lines)) <= width
    assert sorted(" ".join(lines[2:]).split()) == sorted(" ".join(row).split())


def test_a_narrow_table_leaves_out_what_can_be_spared() -> None:
    """A narrow table leaves out its least important columns."""
    headings = ("to", "tracking id", "answer")
    rows = [("15551234888", "U01TXzYxNzY0NTA2MDAwMDAw", "0.07 s")]

    def shown(width: int) -> list[str]:
        printed = on_terminal(width, headings, rows, spare=["answer", "tracking id"])
        return printed[0].split("  ")

    assert [word.strip() for word in shown(60) if word] == list(headings)
    assert [word.strip() for word in shown(40) if word.strip()] == ["to", "tracking id"]
    assert [word.strip() for word in shown(20) if word.strip()] == ["to"]


def test_times_are_in_one_zone() -> None:
    """Times are shown in UTC, and naive ones as such."""
    east = datetime(2026, 11, 22, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert time_of(east) == "2026-11-21 20:00:00Z"
    assert time_of(east.astimezone(UTC)) == "2026-11-21 20:00:00Z"
    assert time_of(east.replace(tzinfo=None)) == "2026-11-22 01:30:00"
    assert time_of(None) == ""


def test_programs_get_a_line_for_each_notification() -> None:
    """`parse --json` gives a line for each notification."""
    done = run("parse", "--json", stdin=BUNDLE)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = ["sent", "receipt", "inbound", "subscription", "unknown"]
    assert [one["kind"] for one in told] == kinds
    assert told[1]["reason"] == "recipient"
    assert told[2]["from"] == "15551234889"
    assert told[4]["raw"]["ORIGIN"] == "PASS"


def test_an_unreadable_part_of_a_postback_says_why() -> None:
    """An unreadable part has a row with its reason."""
    broken = "<POSTBACK><NOTIFICATION><TEXT>a <b></TEXT></NOTIFICATION></POSTBACK>"
    (row,) = run("parse", stdin=broken).stdout.splitlines()[2:]
    assert row.startswith("unreadable")
    assert row.endswith("not well-formed XML: mismatched tag: line 1, column 27")
    told = json.loads(run("parse", "--json", stdin=broken).stdout)
    assert (told["kind"], told["raw"]["#text"]) == ("unreadable", broken[10:-11])
    facts = facts_of(*parse_postback(broken))
    assert facts["detail"] == told["unreadable"]


@pytest.mark.parametrize("body", [b"", b"junk", b"<RESPONSE/>", b"<" * (2 * 1024 * 1024)])
def test_input_that_is_no_postback_is_refused_with_a_reason(body: bytes) -> None:
    """A body that is no postback is a one-line error."""
    done = run("parse", stdin=body)
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")
    assert done.stderr.startswith("skycore: this body is no postback: ")
    assert done.stderr.count("\n") == 1


def test_cursor_controls_are_not_shown() -> None:
    """Control characters of a postback are replaced."""
    assert printable("a\x1b[31m\nb\u202e ☎") == "a\ufffd[31m b\ufffd ☎"


def test_times_are_in_utc_to_the_end_of_all_time() -> None:
    """A time that cannot be converted to UTC is shown as it came."""
    zone = timezone(timedelta(hours=-5))
    noon, last = datetime(2026, 11, 29, 12, tzinfo=zone), datetime(9999, 12, 31, 23, tzinfo=zone)
    naive = noon.replace(tzinfo=None)
    assert [*map(time_of, (noon, naive, last, None))] == [
        *("2026-11-29 17:00:00Z", "2026-11-29 12:00:00", "9999-12-31 23:00:00-0500", ""),
    ]
    assert plain([noon, naive, last]) == [
        "2026-11-29T17:00:00.000000+00:00",
        *("2026-11-29T12:00:00.000000", "9999-12-31T23:00:00.000000-05:00"),
    ]
