"""The files of a bulk send: a copy of the recipients to read, and a free name for the rejects.

Rules:

* The recipients are read from a copy: what is looked at twice, for its encoding and for
  its rows, is the same both times, and a pipe can be looked at twice.
* No file of the user's is written over: the rejects take a free name where none was
  given, and one that was given only where it is free or has rejects in it.  Where an
  earlier run left a file of the same rejects, that one stays the only one; and where it left
  others that nobody has touched, `Rejects` says when they are written anew.
"""

from __future__ import annotations

import errno
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO, Final

from ..ui.ledger_target import LedgerFile
from ..ui.output import fail
from .rejects import is_replaceable

STANDARD_INPUT: Final = "-"

_REJECTS: Final = re.compile(r"\.rejects(-[0-9]+)?$")


def name_of(csv: str) -> str:
    """Return what messages call the recipients' file."""
    return "standard input" if csv == STANDARD_INPUT else csv


def stem_of(csv: str) -> Path:
    """Return the path of the recipients without its suffix, also for a file of their rejects."""
    path = Path(csv)
    return path.with_name(_REJECTS.sub("", path.stem) or path.stem)


@contextmanager
def copied(csv: str) -> Iterator[BinaryIO]:
    """Open a copy of the recipients' file, or fail where there is no room for one."""
    try:
        copy = _copy_of(csv)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = tempfile.gettempdir()
        fail(f"{where} has no room for a copy of {name_of(csv)}: name another with TMPDIR")
    with copy:
        yield copy


def _copy_of(csv: str) -> BinaryIO:
    is_given = csv == STANDARD_INPUT
    with (
        nullcontext(sys.stdin.buffer) if is_given else Path(csv).open("rb") as source,
        ExitStack() as unless_filled,
    ):
        copy = unless_filled.enter_context(tempfile.TemporaryFile())
        shutil.copyfileobj(source, copy)
        copy.flush()
        unless_filled.pop_all()
        return copy


def checked_rejects(rejects: Path, *, csv: str, ledger: Path) -> Path:
    """Return the name that was given for the rejects, or fail where something else is there."""
    if csv != STANDARD_INPUT and rejects.resolve() == Path(csv).resolve():
        fail(f"--rejects {rejects} is the file of the recipients: name another")
    if LedgerFile(ledger).holds(rejects):
        fail(f"--rejects {rejects} belongs to the ledger: name another")
    if not rejects.parent.is_dir():
        fail(f"--rejects {rejects}: there is no directory {rejects.parent}")
    if not is_replaceable(rejects):
        fail(f"--rejects {rejects} is something other than rejects: name another")
    return rejects


def earlier_rejects(stem: Path) -> list[Path]:
    """Return the files of rejects of earlier runs that are still there, and have any."""
    named = re.compile(rf"{re.escape(stem.name)}\.rejects(-[0-9]+)?\.csv")
    found = (path for path in stem.parent.iterdir() if named.fullmatch(path.name))
    return sorted(path for path in found if path.stat().st_size)


def free_rejects(stem: Path) -> Path:
    """Return a name for the rejects where no file is, or one that a killed run left empty."""
    number, path = 1, stem.with_name(f"{stem.name}.rejects.csv")
    while path.exists() and path.stat().st_size:
        number += 1
        path = stem.with_name(f"{stem.name}.rejects-{number}.csv")
    return path
