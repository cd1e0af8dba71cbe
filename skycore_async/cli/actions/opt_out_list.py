"""What `skycore opt-outs list`, `add`, `remove`, `import` and `export` do with a user's list.

Rules:

* On the screen a number is masked but for its last four digits, unless --show-numbers is given.
  An exported file has whole numbers, so that it can be imported again.
* A file is read to its end before any of its numbers goes onto the list.  An error in a row is
  told with its line.
* The user is asked before a file is imported, as a wrong file cannot be taken back: later nothing
  tells its numbers from those that said STOP.  Where nobody can be asked the numbers are put onto
  the list, as that is the safe side.
* Entries of a ledger keep their own times, since a ledger may be imported again and again: an
  entry that is clearly later stays.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import anyio
import click

from ...errors import InvalidMessage, LedgerError
from ...ledger.export import time_at
from ...ledger.opt_outs import OptOut, all_spellings, may_be_sent_to, relayed
from ...ledger.sqlite.opt_out_list import OptOutList
from ...ledger.sqlite.schema import MAGIC
from ...messages import masked
from ...protocol.numbers import NumberReader, country_code, number
from ...runtime.private_files import write_privately
from ...runtime.secret import Secret
from ..bulk.files import copied, name_of
from ..bulk.recipients import NUMBER_COLUMNS, Sheet, SheetError, shown_row
from ..ui import confirm
from ..ui.dsn import is_dsn
from ..ui.ledger_target import ledger_target
from ..ui.numbers import is_perhaps_american
from ..ui.opt_out_list import list_of, shown
from ..ui.output import STANDARD_OUTPUT, Exit, emit, fail, number_of, say
from ..ui.times import iso_time, time_of

_DRY: Final = "This was a dry run: nothing was changed."


def the_list(given: str | None) -> OptOutList:
    """Return the list that was named, else the user's own; fail for `none`."""
    return list_of(given) or fail("there is no list to look at: --opt-outs names one")


def show_list(shared: OptOutList, *, show_numbers: bool, as_json: bool) -> None:
    """Print the numbers that have opted out, and since when."""
    try:
        count = 0
        for entry in shared.opted_out():
            count += 1
            name = entry.number if show_numbers else masked(entry.number)
            if as_json:
                emit({"number": name, "since": _since(entry)})
            else:
                say(f"{name:<15}  {time_of(_since(entry))}")
    except LedgerError as error:
        fail(str(error))
    if not as_json:
        say(f"{number_of(count, 'number')} in {shown(shared.path)}", err=True)


def set_opted_out(
    shared: OptOutList, given: Iterable[str], reader: NumberReader | None, *, out: bool
) -> None:
    """Put all of these numbers onto the list, or take all off it; none where one is invalid."""
    try:
        numbers = {each: number(each, reader) for each in given}
    except InvalidMessage as error:
        fail(f"nothing was changed: {error}")
    _change(shared, numbers, reader, out=out)


def import_any(
    shared: OptOutList,
    named: Secret,
    reader: NumberReader | None,
    *,
    column: str | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Put the numbers of a CSV file, or the entries of a ledger, onto the list."""
    if is_dsn(named.reveal()) or _is_database(named.reveal()):
        _import_ledger(shared, named, dry_run=dry_run)
    else:
        asks = confirm.has_terminal() and not (yes or dry_run)
        _import_file(shared, named.reveal(), reader, column=column, dry_run=dry_run, asks=asks)


def _is_database(file: str) -> bool:
    with suppress(OSError):  # told when the file is read as CSV
        path = Path(file)
        if path.is_file():  # not a pipe, which can be read only once
            with path.open("rb") as opened:
                return opened.read(len(MAGIC)) == MAGIC
    return False


def _import_ledger(shared: OptOutList, named: Secret, *, dry_run: bool) -> None:
    target = ledger_target(named)

    async def entries() -> list[OptOut]:
        async with target.to_read() as ledger:
            return [entry async for entry in ledger.opt_outs()]

    try:
        found = anyio.run(entries)
        known = shared.entries([entry.number for entry in found])
        if not dry_run:
            shared.tell(
                relayed(entry for entry in found if _is_new(entry, known.get(entry.number)))
            )
        count = shared.count()
    except LedgerError as error:
        fail(f"nothing was changed: {error}")
    said = f"what {number_of(len(found), 'number')} said to {target.name}"
    if dry_run:
        say(f"{said} would be taken in. {_DRY}", err=True)
        return
    said = f"{said} is taken in"
    say(f"{said}: {number_of(count, 'number')} on {shown(shared.path)}", err=True)


def _is_new(entry: OptOut, known: OptOut | None) -> bool:
    """Return whether an entry may be later than the known one; of a stamp the list decides."""
    return known is None or entry.stamped or entry.at > known.at


def _import_file(
    shared: OptOutList,
    file: str,
    reader: NumberReader | None,
    *,
    column: str | None,
    dry_run: bool,
    asks: bool,
) -> None:
    """Put the numbers of a CSV file onto the list; fail where a row has no valid number."""
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
            numbers: dict[str, str] = {}
            wrong = []
            for row in sheet.rows():
                cells = shown_row(row.values)
                cell = cells[at] if at < len(cells) else ""
                try:
                    numbers[cell] = number(cell, reader)
                except InvalidMessage as error:
                    wrong.append(f"line {row.line}: {error}")
    except SheetError as error:
        fail(f"{name_of(file)}: {error}")
    except OSError as error:
        fail(f"{error.filename or name_of(file)}: {error.strerror}")
    _change(shared, numbers, reader, out=True, dry_run=dry_run, asks=asks)
    for one in wrong[:10]:
        say(one, err=True)
    if wrong:
        fail(
            f"no number can be read from {number_of(len(wrong), 'row')} of {name_of(file)}, and"
            " who is meant there would be sent to: mend that and import the file again",
            Exit.NOT_ALL_WELL,
        )


def export_file(shared: OptOutList, file: Path) -> None:
    """Write the numbers that have opted out as CSV, to a file or to standard output."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("number", "since"))
    try:
        rows.writerows((entry.number, iso_time(_since(entry))) for entry in shared.opted_out())
    except LedgerError as error:
        fail(str(error))
    if file == STANDARD_OUTPUT:
        click.echo(text.getvalue(), nl=False)
        return
    if file.exists():
        fail(f"{file} is there already: give the export another name")
    try:
        write_privately(file, text.getvalue())
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}")
    say(f"{number_of(shared.count(), 'number')} in {file}", err=True)


def _change(
    shared: OptOutList,
    numbers: Mapping[str, str],
    reader: NumberReader | None,
    *,
    out: bool,
    dry_run: bool = False,
    asks: bool = False,
) -> None:
    """Put numbers onto the list, or take them off; `numbers` has them by how they are written."""
    now = time.time()
    asked = {*numbers.values()}
    try:
        entries = shared.entries(all_spellings(asked))
        on_it = sum(not may_be_sent_to(each, entries) for each in asked)
        if asks and on_it < len(asked):
            _ask_to_put_on(len(asked), on_it, shown(shared.path))
        if not dry_run:
            shared.tell(OptOut(number=each, out=out, at=now) for each in numbers.values())
    except LedgerError as error:
        fail(f"nothing was changed: {error}")
    say(_changed(len(asked), on_it, shown(shared.path), out=out, dry_run=dry_run), err=True)
    if reader is None:
        _tell_ten_digits(numbers)


def _ask_to_put_on(asked: int, on_it: int, where: str) -> None:
    say(f"{number_of(asked, 'number')}: {on_it:,} of them on {where} already", err=True)
    confirm.confirm(
        f"Put {asked - on_it:,} more on it? Nothing is sent there any more, by any campaign, and"
        " it is not taken back as a whole.",
        otherwise="nothing was changed",
    )


def _changed(asked: int, on_it: int, where: str, *, out: bool, dry_run: bool) -> str:
    """Describe the change of so many numbers, of which so many were on the list before."""
    count = number_of(asked, "number")
    if dry_run:
        return f"{count} would be put on {where}: {on_it:,} of them on it already. {_DRY}"
    if out:
        return f"{count} put on {where}" + (f": {on_it:,} of them on it before" if on_it else "")
    others = f": {asked - on_it:,} of them had not been on it" if on_it < asked else ""
    return f"{count} not on {where} any more{others}"


def _tell_ten_digits(numbers: Mapping[str, str]) -> None:
    """Warn of numbers that may be American, and were taken as numbers of another country."""
    ten = [digits for written, digits in numbers.items() if is_perhaps_american(digits, written)]
    if ten:
        have = "number has" if len(ten) == 1 else "numbers have"
        codes = ", ".join(f"+{code}" for code in sorted({country_code(each) for each in ten}))
        say(
            f"{len(ten):,} {have} ten digits and no +: as they stand they are of {codes}. If they"
            " are American, do it again with --country US",
            err=True,
        )


def _since(entry: OptOut) -> datetime:
    return time_at(entry.at)
