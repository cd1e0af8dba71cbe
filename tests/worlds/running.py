"""Running worlds, one after the other, in this process."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .events import Plan
from .machine import place
from .world import World, log_of_world


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
        with place() as folder:
            yield Worlds(folder, backend)
    finally:
        logger.removeHandler(log_of_world)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        logging.raiseExceptions = says
