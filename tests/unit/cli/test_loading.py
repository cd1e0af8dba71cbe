"""What the database is asked about a campaign's rows before they are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skycore_async.cli.bulk.judged_rows import JudgedRows
from skycore_async.cli.bulk.load_campaign import _MessageRows
from skycore_async.cli.bulk.recipients import Row, Sheet
from skycore_async.cli.bulk.rejects import Rejects
from skycore_async.cli.bulk.rows import RejectedRow, RejectionKind


class Asked:
    """A connection that keeps what it is asked, and knows nothing."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def execute(self, _statement: str, values: dict[str, list[str]]) -> Asked:
        self.keys += values["names"]
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def test_a_key_that_no_database_takes_costs_no_other_row(tmp_path: Path) -> None:
    """A key with NUL is rejected, and the other rows are loaded."""
    (tmp_path / "p.csv").write_text("to\n1\n")
    asked: Any = Asked()
    with (
        (tmp_path / "p.csv").open("rb") as file,
        JudgedRows() as rows,
        Rejects(tmp_path / "r.csv", Sheet(file, "p.csv")) as rejects,
    ):
        for line, key in enumerate(("a", "k\0x"), 2):
            row = Row(line, ["1"])
            rows.add(RejectedRow(row=row, kind=RejectionKind.INVALID, reason="no", key=key))
        assert list(_MessageRows(rows, rejects).read(asked)) == []
        assert (asked.keys, rejects.count) == (["a"], 2)
