"""What is logged in a world, held against the rules."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .notes import Notes

API_KEY: Final = "Y6r74u6Br4hAVgrolveksjEiiu8yJX"
_NUMBER: Final = re.compile(r"555\d{7}")  # with its country code or without, see `number_of`


class Accident(Exception):
    """What a limiter or a log handler of the caller's raises."""


class LogOfWorld(logging.Handler):
    """Reads what is logged: no secret, no number, no text, and no accident of ours."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
        self.notes: Notes | None = None
        self.may_fail = False  # to write what came of a message
        self.raises = False  # with each other record, as a handler of a program's may

    def emit(self, record: logging.LogRecord) -> None:
        """Hold a record against the rules."""
        if self.notes is None:
            return
        said = self.format(record)
        if API_KEY in said or "Hello" in said or _NUMBER.search(said):
            self.notes.break_rule(f"the log says {said}")
        if self.raises:
            self._count += 1
            if self._count % 2:
                raise Accident
        if "a background task raised" in said or ("not recorded" in said and not self.may_fail):
            self.notes.break_rule(said)


log_of_world: Final = LogOfWorld()  # of the one that runs
