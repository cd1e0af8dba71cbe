"""Wrapping lines for people, without breaking words or commands."""

from __future__ import annotations

import io

import pytest

from skycore_async.cli.ui import output
from skycore_async.cli.ui.wrapping import width_of, wrapped

ADVICE = (
    "67 may have been sent: no clear answer came. `skycore settle mix.db --with a,b`, best an hour"
    " from now, asks. With --resend-in-doubt whoever has it already gets it twice."
)


@pytest.mark.parametrize("width", range(1, 180))
def test_no_word_is_broken_and_no_command(width: int) -> None:
    """At any width no word or command is broken."""
    lines = wrapped(ADVICE, width).split("\n")
    assert " ".join(lines) == ADVICE
    command = "`skycore settle mix.db --with a,b`,"
    assert sum(command in line for line in lines) == 1
    assert [line for line in lines if len(line) > width and " " in line.replace(command, "")] == []


def test_a_line_is_filled() -> None:
    """A word goes onto the next line only if it does not fit."""
    assert wrapped("one two three", 7) == "one two\nthree"
    assert wrapped("one two three", 8) == "one two\nthree"
    assert wrapped("one two three", 13) == "one two three"
    assert wrapped("one `two three` four", 9) == "one\n`two three`\nfour"
    assert wrapped("an odd ` one two", 8) == "an odd `\none two"


def test_a_wrapped_value_goes_on_below_itself() -> None:
    """A wrapped value continues below itself, or below its name if space is short."""
    line = "first text    'Hi Ann, here is what you have asked for, and more'"
    assert wrapped(line, 50) == (
        "first text    'Hi Ann, here is what you have asked\n              for, and more'"
    )
    below = wrapped(f"  {line}", 52).split("\n")
    assert below[1] == "                for, and more'"
    assert wrapped(line, 40).split("\n")[1].startswith("have")
    assert wrapped(f"name  {'x' * 60} y", 40) == f"name  {'x' * 60}\n      y"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_wrapped_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are wrapped only on a terminal, to COLUMNS or its width."""
    monkeypatch.setenv("COLUMNS", "40")
    for stream, lines in ((io.StringIO(), 1), (_Terminal(), 6)):
        monkeypatch.setattr("sys.stderr", stream)
        output.say(ADVICE, err=True)
        assert stream.getvalue().count("\n") == lines
        with pytest.raises(SystemExit):
            output.fail(ADVICE)
    monkeypatch.setenv("COLUMNS", "wide")
    assert width_of(_Terminal()) is None
    monkeypatch.delenv("COLUMNS")
    assert width_of(_Terminal()) is None
    assert width_of(io.StringIO()) is None
