"""A user who answers a question only once something else has happened."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable


class TypedAfter(io.BytesIO):
    """The input of a command, which is typed once something has happened."""

    def __init__(self, typed: bytes, happens: Callable[[], object]) -> None:
        super().__init__(typed)
        self._happens = functools.cache(happens)

    def read1(self, size: int | None = -1, /) -> bytes:
        self._happens()
        return super().read1(size)
