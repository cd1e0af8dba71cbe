"""What `skycore export` does: read a ledger page by page, and write a table.

Rules:

* The ledger is read also while another process has it open.  It is neither created nor changed.
* A number is masked wherever it stands, also in a key and in Skycore's ERRORINFO, unless
  --show-numbers is given.
* A file is written whole or not at all, and only its owner can read it.  It replaces an earlier
  export and nothing else: a file of recipients may have the same name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

import anyio
import attrs

from ...errors import LedgerError
from ...ledger.export import ExportedMessage
from ...ledger.model import MessageState
from ...messages import masked
from ...runtime.private_files import written_privately
from ...runtime.secret import Secret
from ..ui.ledger_target import LedgerTarget, ledger_target
from ..ui.masking import mask_in
from ..ui.output import STANDARD_OUTPUT, fail, number_of, say
from ..ui.table_files import WRITERS, TableWriter, is_table

# The columns that are not of type str.
_TYPES: Final = {
    "http_status": int,
    "segments": int,
    "tags": tuple,
    "began": datetime,
    "answered": datetime,
    "sent_at": datetime,
    "ended_at": datetime,
}
_BEGINNING: Final = 1000  # bytes that tell an export from another file
_NAMES: Final = {field.name.rstrip("_"): field.name for field in attrs.fields(ExportedMessage)}
COLUMNS: Final[dict[str, type]] = {name: _TYPES.get(name, str) for name in _NAMES}


def export_messages(
    named: Secret, path: Path, *, state: str | None, kind: str, show_numbers: bool
) -> None:
    """Write the messages of the ledger `named`, all or those in a state, as a table to `path`."""
    target = ledger_target(named)
    target.check()
    output = None if path == STANDARD_OUTPUT else path
    if output is None and kind == "parquet":
        fail("a Parquet file is no text: say where it goes with --output FILE")
    if output is not None and target.holds(output):
        fail(f"{output} belongs to the ledger; give the table a name of its own")
    if output is not None and not _may_be_replaced(output):
        fail(f"{output} is something other than an export; give the table another name")
    only = None if state is None else MessageState(state)
    try:
        with _opened(output) as file:
            writer = WRITERS[kind](file, COLUMNS)
            count = anyio.run(_write_all, target, only, writer, show_numbers)
    except LedgerError as error:
        fail(str(error))
    except OSError as error:
        if output is None:
            raise
        fail(f"{output} cannot be written: {error.strerror}")
    if output is not None:
        say(f"{number_of(count, 'message')} in {output}", err=True)


def _may_be_replaced(output: Path) -> bool:
    """Return whether a file may be replaced: it is free, empty or an export."""
    try:
        with output.open("rb") as file:
            begins = file.read(_BEGINNING)
    except OSError:  # told when the file is written
        return True
    return not begins or is_table(begins, COLUMNS)


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with written_privately(output) as file:
            yield file


async def _write_all(
    target: LedgerTarget, state: MessageState | None, writer: TableWriter, show_numbers: bool
) -> int:
    count = 0
    async with target.to_read() as ledger:
        async for message in ledger.export(state):
            writer.write(_row(message, show_numbers=show_numbers))
            count += 1
    writer.end()
    return count


def _row(message: ExportedMessage, *, show_numbers: bool) -> dict[str, Any]:
    row = {name: getattr(message, field) for name, field in _NAMES.items()}
    if not show_numbers:
        row["to"] = masked(message.to)
        for name in ("key", "info"):
            row[name] = row[name] and mask_in(row[name], message.to)
    return row
