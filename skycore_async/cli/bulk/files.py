"""The files of a bulk send: a copy of the recipients to read, and a name for the rejects.

Rules:

* The recipients are read from a copy.  A file is read twice, for its encoding and for its rows: a
  copy is the same both times, and makes it possible for a pipe.
* Standard input and pipes of a shell, as of `<(...)`, have no name: that of a pipe has the number
  of a descriptor, which may be another one in the next run.
* No file of the user's is overwritten.  Without --rejects, the rejects get a name that is free;
  with it, they get that name where it is free or the file has rejects in it.  When files of
  earlier rejects are kept, reused or replaced, is decided by `Rejects`.
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

# The names by which systems open a descriptor that the process has already.
_DESCRIPTOR: Final = re.compile(r"/dev/(stdin|fd/[0-9]+)|/proc/[^/]+(/task/[0-9]+)?/fd/[0-9]+")
_REJECTS: Final = re.compile(r"\.rejects(-[0-9]+)?$")


def name_of(csv: str) -> str:
    """Return the name of the recipients' file, for people."""
    return "standard input" if csv == STANDARD_INPUT else csv


def has_name(csv: str) -> bool:
    """Return whether the recipients are in a file whose name is the same in the next run."""
    return csv != STANDARD_INPUT and not _DESCRIPTOR.fullmatch(str(Path(csv).absolute()))


def stem_of(csv: str) -> Path:
    """Return the path of the recipients without its suffix, and without `.rejects`."""
    path = Path(csv)
    return path.with_name(_REJECTS.sub("", path.stem) or path.stem)


@contextmanager
def copied(csv: str) -> Iterator[BinaryIO]:
    """Yield a copy of the recipients' file; fail where there is no room for one."""
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
    """Return the path that --rejects names; fail where something other than rejects is there."""
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
    """Return the files of rejects that earlier runs left, without empty ones."""
    named = re.compile(rf"{re.escape(stem.name)}\.rejects(-[0-9]+)?\.csv")
    found = (path for path in stem.parent.iterdir() if named.fullmatch(path.name))
    return sorted(path for path in found if path.stat().st_size)


def free_rejects(stem: Path) -> Path:
    """Return a path for the rejects where there is no file, or an empty one of a killed run."""
    number, path = 1, stem.with_name(f"{stem.name}.rejects.csv")
    while path.exists() and path.stat().st_size:
        number += 1
        path = stem.with_name(f"{stem.name}.rejects-{number}.csv")
    return path
