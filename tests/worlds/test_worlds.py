"""Worlds drawn from seeds keep the promise, and are the same wherever they are run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .drawing import draw
from .events import read
from .running import Worlds, worlds

pytestmark = pytest.mark.unmeasured

# Of 300 worlds each is run on one event loop: more of both are for `benchmarks worlds`.
SEEDS = [("asyncio", range(first, first + 50)) for first in range(0, 250, 50)]
SEEDS.append(("trio", range(250, 300)))


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """Run on both event loops."""
    return str(request.param)


@pytest.fixture
def here(backend: str) -> Iterator[Worlds]:
    """Make a place for worlds."""
    with worlds(backend) as place:
        yield place


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "seeds"), SEEDS)
def test_worlds_keep_the_promise(here: Worlds, seeds: range) -> None:
    """Whatever happens in some hundred worlds, the provider's books say what was promised."""
    broken = {seed: found for seed in seeds if (found := here.broken_in(draw(seed)))}
    assert broken == {}


@pytest.mark.slow
def test_a_seed_is_the_same_world_again(here: Worlds) -> None:
    """What happens in a world, step by step, is the same when it is run again."""
    first, second = (here.run(draw(8)) for _ in range(2))
    assert first.notes.trace == second.notes.trace
    assert (first.steps, first.now()) == (second.steps, second.now())


@pytest.mark.slow
def test_a_seed_is_the_same_world_in_another_process() -> None:
    """Neither the addresses of another process nor its order of sets change what happens."""
    with worlds() as here:
        expected = here.run(draw(8)).notes.trace
    command = [sys.executable, "-m", "benchmarks", "worlds", "--seed", "8", "--trace"]
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own module
        command,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\n".join(expected) in done.stdout


@pytest.mark.slow
def test_a_world_is_read_as_it_is_printed() -> None:
    """A plan that was printed, and typed again, is the same plan."""
    for seed in range(50):
        assert read(str(draw(seed))) == draw(seed)
