"""Running worlds, one after the other, in this process.

Strategy: the garbage collector runs seldom while worlds run.  Objects that were frozen before,
such as the tests that pytest collected, stay frozen: else every later collection would go through
all of them.
"""

from __future__ import annotations

import gc
import itertools
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .events import Plan
from .log import log_of_world
from .machine import place
from .world import World

_MADE: Final = 50_000  # objects from one look of the garbage collector to the next


class Worlds:
    """Runs worlds on an event loop; `worlds` makes one."""

    def __init__(self, folder: Path, backend: str) -> None:
        self._folder = folder
        self._backend = backend
        self._numbers = itertools.count()

    def run(self, plan: Plan) -> World:
        """Run a world to its end."""
        folder = self._folder / str(next(self._numbers))
        world = World(plan, folder, backend=self._backend)
        world.run()
        shutil.rmtree(folder, ignore_errors=True)
        return world

    def broken_in(self, plan: Plan) -> list[str]:
        """Return what rules are broken in a world."""
        return self.run(plan).notes.broken


@contextmanager
def worlds(backend: str = "asyncio") -> Iterator[Worlds]:
    """Make a place for worlds, and read what is logged in them."""
    logger = logging.getLogger("skycore_async")
    before = logger.level, logger.propagate
    says, logging.raiseExceptions = logging.raiseExceptions, False
    logger.addHandler(log_of_world)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        with place() as folder, _garbage_left():
            yield Worlds(folder, backend)
    finally:
        logger.removeHandler(log_of_world)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        logging.raiseExceptions = says


@contextmanager
def _garbage_left() -> Iterator[None]:
    """Have garbage looked for less often."""
    before = gc.get_threshold()
    gc.set_threshold(_MADE, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
