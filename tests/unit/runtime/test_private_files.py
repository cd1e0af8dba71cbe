"""Files for their owner alone: whole or not at all, in the place that was named and no other."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from stat import S_IMODE, S_ISFIFO

import pytest

from skycore_async.runtime.private_files import PRIVATE, write_privately, written_privately

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes, links and pipes")


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """A new file has mode 600, whatever the umask."""
    write_privately(tmp_path / "new", "text")
    assert S_IMODE((tmp_path / "new").stat().st_mode) == PRIVATE


def test_a_file_that_is_there_keeps_its_rights(tmp_path: Path) -> None:
    """An existing file keeps its permissions."""
    path = tmp_path / "report.html"
    path.touch()
    path.chmod(0o644)
    write_privately(path, "text")
    assert (path.read_text(), S_IMODE(path.stat().st_mode)) == ("text", 0o644)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A failed write leaves the old file and no draft."""
    path = tmp_path / "old"
    path.write_text("old")

    def write_in_part() -> None:
        with written_privately(path) as file:
            file.write(b"new")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_in_part()
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("old", "old")]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_one(tmp_path: Path, *, is_there: bool) -> None:
    """A symbolic link stays, and its target is written."""
    link, file = tmp_path / "link", tmp_path / "file"
    if is_there:
        file.write_text("old")
    link.symlink_to(file)
    write_privately(link, "text")
    assert (link.is_symlink(), file.read_text()) == (True, "text")


def test_a_pipe_or_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """A pipe or device is written to, and not replaced."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_privately(pipe, "text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)
    assert S_ISFIFO(pipe.stat().st_mode)
