"""What `skycore opt-outs list`, `add`, `remove`, `import` and `export` do with a user's list.

Rules:

* A number is masked on the screen but for its last four digits, unless --show-numbers is
  given; a file that was asked for by name has it whole, as it is to be read again.
* A file is read to its end before anything of it goes onto the list, and what is wrong with a
  row is told with its line.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from ...errors import InvalidMessage, LedgerError
from ...ledger.opt_outs import OptOut
from ...ledger.sqlite.opt_out_list import OptOutList
from ...messages import masked
from ...protocol.numbers import NumberReader, number
from ...runtime.private import write_privately
from ..bulk.files import copied, name_of
from ..bulk.recipients import NUMBER_COLUMNS, Sheet, SheetError, shown_row
from ..ui.opt_out_list import list_of, shown
from ..ui.output import Exit, emit, fail, number_of, say
from ..ui.times import time_of


def the_list(given: str | None) -> OptOutList:
    """Return the list that was named, else the user's own, or fail for `none`."""
    return list_of(given) or fail("there is no list to look at: --opt-outs names one")


def show_list(shared: OptOutList, *, show_numbers: bool, as_json: bool) -> None:
    """Print who may not be sent to, and since when."""
    try:
        count = 0
        for word in shared.opted_out():
            count += 1
            name = word.number if show_numbers else masked(word.number)
            if as_json:
                emit({"number": name, "since": _since(word)})
            else:
                say(f"{name:<15}  {time_of(_since(word))}")
    except LedgerError as error:
        fail(str(error))
    if not as_json:
        say(f"{number_of(count, 'number')} in {shown(shared.path)}", err=True)


def tell(
    shared: OptOutList, given: Iterable[str], reader: NumberReader | None, *, out: bool
) -> None:
    """Put numbers onto the list, or take them off it, all of them or none."""
    try:
        numbers = [number(each, reader) for each in given]
    except InvalidMessage as error:
        fail(f"nothing was changed: {error}")
    _change(shared, numbers, out=out)


def import_file(
    shared: OptOutList, file: str, reader: NumberReader | None, *, column: str | None
) -> None:
    """Put the numbers of a CSV file onto the list; fail where it has rows that are none."""
    try:
        with copied(file) as copy:
            sheet = Sheet(copy, name_of(file))
            header = sheet.header
            at = header.index(column) if column else header.find(NUMBER_COLUMNS, "--to-column")
            if at is None:
                fail(
                    f"{name_of(file)}: name the column with the numbers with --to-column"
                    f" ({header.first_line})"
                )
            numbers, wrong = [], []
            for row in sheet.rows():
                cells = shown_row(row.values)
                cell = cells[at] if at < len(cells) else ""
                try:
                    numbers.append(number(cell, reader))
                except InvalidMessage as error:
                    wrong.append(f"line {row.line}: {error}")
    except SheetError as error:
        fail(f"{name_of(file)}: {error}")
    except OSError as error:
        fail(f"{error.filename or name_of(file)}: {error.strerror}")
    _change(shared, numbers, out=True)
    for one in wrong[:10]:
        say(one, err=True)
    if wrong:
        fail(
            f"no number can be read from {number_of(len(wrong), 'row')} of {name_of(file)}, and"
            " who is meant there would be sent to: mend that and import the file again",
            Exit.NOT_ALL_WELL,
        )


def export_file(shared: OptOutList, file: Path | None) -> None:
    """Write who may not be sent to as CSV, to a file or to standard output."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("number", "since"))
    try:
        rows.writerows((word.number, _since(word).isoformat()) for word in shared.opted_out())
    except LedgerError as error:
        fail(str(error))
    if file is None:
        click.echo(text.getvalue(), nl=False)
        return
    if file.exists():
        fail(f"{file} is there already: give the export another name")
    try:
        write_privately(file, text.getvalue())
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}")
    say(f"{number_of(shared.count(), 'number')} in {file}", err=True)


def _change(shared: OptOutList, numbers: Sequence[str], *, out: bool) -> None:
    now = time.time()
    try:
        shared.tell(OptOut(number=each, out=out, at=now) for each in numbers)
    except LedgerError as error:
        fail(f"nothing was changed: {error}")
    count, where = number_of(len(set(numbers)), "number"), shown(shared.path)
    say(f"{count} put on {where}" if out else f"{count} not on {where} any more", err=True)


def _since(word: OptOut) -> datetime:
    return datetime.fromtimestamp(word.at, UTC)
