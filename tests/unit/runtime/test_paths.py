"""What stands at a path, as every version of Python is to tell it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from skycore_async.runtime.paths import is_directory, is_there


@pytest.mark.parametrize("ask", [is_there, is_directory])
@pytest.mark.parametrize("has_python_said_no", [False, True])
def test_an_unreadable_path_is_not_taken_for_missing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[Path], bool],
    has_python_said_no: bool,
) -> None:
    """A path that cannot be looked at raises OSError, on every Python."""
    if has_python_said_no:
        for method in ("exists", "is_dir"):
            monkeypatch.setattr(Path, method, lambda _path: False)
    assert ask(tmp_path)
    assert not ask(tmp_path / "missing")
    (tmp_path / "file").touch()
    assert not ask(tmp_path / "file" / "below it")
    with pytest.raises(OSError, match="File name too long"):
        ask(tmp_path / ("x" * 300))


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """A file is there, and is no directory."""
    file = tmp_path / "file"
    file.touch()
    assert (is_there(file), is_directory(file)) == (True, False)
