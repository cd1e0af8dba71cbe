"""What PyInstaller is told by this package, which announces itself as `pyinstaller40`.

Strategy: commands and public names are loaded when they are used, by names that no
analysis of the code can follow.  A hook names all modules and all files that are read.
"""

from __future__ import annotations

from pathlib import Path


def hook_dirs() -> list[str]:
    """Return the directory of the hook."""
    return [str(Path(__file__).parent)]
