"""What goes into a program with this package: PyInstaller reads these two names."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_FILES = [path for path in sorted(_PACKAGE.rglob("*")) if path.is_file()]
_HERE = Path(__file__).parent

hiddenimports = [
    ".".join(path.relative_to(_PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in _FILES
    if path.suffix == ".py" and path.parent != _HERE
]
# Each file, and the directory that it has to be in.
datas = [
    (str(path), str(path.parent.relative_to(_PACKAGE.parent)))
    for path in _FILES
    if path.suffix not in {".py", ".pyc"}
]
