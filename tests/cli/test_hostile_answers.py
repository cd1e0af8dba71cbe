"""Text of API answers has no effect on terminals or in spreadsheets.

XML cannot have the escape character, but it can have C1 controls, which do the same on many
terminals, marks that turn the direction of text, and line ends.
"""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import skycore_async.cli
from skycore_async.cli.app import skycore
from tests.support.fault_server import FaultServer, Hang, Read, Script, Send, answer

ODD = "\x9b31m\x85\u202eOK\u2066\t\nSMS accepted\x07".replace("\x07", "\x9d")
SHOWN = "\ufffd31m"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKYCORE_API_KEY", "Y6r74u6Br4hAVgrolveksjEiiu8yJX")
    monkeypatch.setenv("SKYCORE_FROM", "60856")


def run(*args: str) -> Result:
    done = CliRunner().invoke(skycore, args, catch_exceptions=False)
    for line in [*done.stdout.split("\n"), *done.stderr.split("\n")]:
        # The line of progress takes itself back.
        assert line.replace("\r\x1b[K", "").replace("\rchecked", "").isprintable(), ascii(line)
    return done


def refused(code: str, info: str) -> bytes:
    said = f"<ERRORCODE>{code}</ERRORCODE><ERRORINFO>{info}</ERRORINFO>"
    return answer(f"<RESPONSE><STATUS>Failure</STATUS>{said}</RESPONSE>".encode())


def accepted(tracking_id: str, to: str = "15551234888") -> bytes:
    said = f"<TRACKINGID>{tracking_id}</TRACKINGID><TO>{to}</TO>"
    return answer(f"<RESPONSE><STATUS>Success</STATUS>{said}</RESPONSE>".encode())


ANSWERS = {
    "TRACKINGID": accepted(f"SMS_1{ODD}2"),
    "TO": accepted("SMS_1", f"{ODD[:4]}15551234888{ODD[4:8]}"),
    "ERRORCODE": refused(f"E{ODD}1", "no"),
    "ERRORINFO": refused("E110", f"no{ODD}"),
    "E106": refused("E106", f"no{ODD}"),
    "E503": refused("E503", f"no{ODD}"),
}


@pytest.fixture
def served(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    script: Script = (*((Read(), Send(request.param)) * 4), Hang())
    with FaultServer(script) as server:
        monkeypatch.setenv("SKYCORE_BASE_URL", server.url)
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("served", ANSWERS.values(), ids=ANSWERS, indirect=True)
def test_an_answer_cannot_move_the_cursor() -> None:
    """Each command prints answer texts on one line, with control characters escaped."""
    args = ("send", "15551234888", "Hello", "--timeout", "2")
    run(*args, "--ledger", "one.db", "--key", "k")
    run(*args, "--json")
    Path("promo.csv").write_text("to\n15551234888\n", "utf-8")
    run("bulk", "promo.csv", "--text", "Hi", "--yes")
    for ledger in ("one.db", "promo.db"):
        run("status", ledger)
        for state in ("accepted", "rejected", "in_doubt", "not_sent"):
            run("status", ledger, "--state", state)
    run("status", "one.db", "--key", "k")


@pytest.mark.slow
@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("served", [refused("=HYPERLINK(1)", "@SUM(1)")], indirect=True)
def test_a_reason_is_no_formula_and_its_row_can_be_run_again() -> None:
    """A reason in a rejects file is no formula, and the user's cells are unchanged."""
    Path("promo.csv").write_text("to,note\n+1 555 123 4888,=1+1\n", "utf-8")
    run("bulk", "promo.csv", "--text", "Hi", "--yes")
    with Path("promo.rejects.csv").open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["reason"] == "'=HYPERLINK(1): @SUM(1)"
    assert (row["to"], row["note"]) == ("+1 555 123 4888", "=1+1")
    again = run("bulk", "promo.rejects.csv", "--text", "Hello", "--yes", "--json")
    assert '"already_done": 1' in again.stdout or '"refused"' in again.stdout


@pytest.mark.slow
def test_one_function_prints_what_people_read() -> None:
    """All text for people is printed through one function."""
    own = {
        ("simulate.py", "_INTRODUCTION"),
        ("action.py", "page"),
        ("output.py", "json.dumps"),
        ("output.py", "printable"),
        ("output.py", "join(lines)"),  # which a caller made fit
        ("post_sample.py", "body"),  # the package's own
        ("opt_out_list.py", "text"),  # digits and times
        ("check.py", "\\r"),
        ("listen.py", "line"),  # each field of which is printable
    }
    for path in Path(skycore_async.cli.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "click.echo":
                said = ast.unparse(node)
                assert any(path.name == name and part in said for name, part in own), said


DSNS = [
    "postgres:/u:s3cret@h/db",
    "postgresql:u:s3cret@h/db",
    "postgres//u:s3cret@h/db",
    "postgresql:///u:s3cret@h/db",
    "postgre://u:s3cret@h/db",
    "POSTGRES://u:s3cret@h/db",
    " postgresql://u:s3cret@h/db",
    "psql:u:s3cret@h",
    "u:s3cret@h:5432/db",
    "host=h user=u password=s3cret",
    "postgresql:/\\u:s3cret@h/db",
    "jdbc:postgresql:/u:s3cret@h/db",
]


@pytest.mark.parametrize(
    "command",
    [
        ["status", "DSN"],
        ["report", "DSN", "--json"],
        ["report", "x.db", "--html", "DSN"],
        ["listen", "--ledger", "DSN"],
        ["opt-outs", "candidates", "DSN"],
        ["worker", "DSN"],
        ["cluster", "migrate", "DSN"],
        ["cluster", "pause", "DSN", "promo"],
        ["cluster", "pause", "promo", "DSN"],
        ["cluster", "resend", "DSN", "promo", "--yes"],
        ["cluster", "copy", "DSN", "x.db"],
        ["cluster", "copy", "x.db", "DSN"],
        ["bulk", "DSN", "--text", "Hi"],
        ["bulk", "promo.csv", "--text", "Hi", "--ledger", "DSN"],
        ["bulk", "promo.csv", "--text", "Hi", "--rejects", "DSN"],
        ["bulk", "promo.csv", "--text", "Hi", "--cluster", "DSN"],
        ["worker", "postgresql://h/db", "--api-key-file", "DSN"],
        ["send", "15551234888", "Hello", "--ledger", "DSN", "--base-url", "http://127.0.0.1:9/"],
        ["send", "15551234888", "Hello", "--api-key-file", "DSN"],
    ],
    ids=" ".join,
)
def test_a_mistyped_dsn_is_not_shown(command: list[str]) -> None:
    """A mistyped DSN makes no file, and its password is not shown."""
    Path("promo.csv").write_text("to\n15551234888\n", "utf-8")
    Path("x.db").write_bytes(b"no ledger")
    before = {*Path().rglob("*")}
    for dsn in DSNS:
        done = run(*(dsn if word == "DSN" else word for word in command))
        assert done.exit_code != 0, dsn
        assert "s3cret" not in done.output, dsn
        assert {*Path().rglob("*")} - {Path("x.db-lock")} == before, dsn
