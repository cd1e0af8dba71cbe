"""The version, in one place with `pyproject.toml` and held to it by a test."""

from typing import Final

__version__: Final = "0.1.0"
