"""Worlds: how many run in a minute, and which rules they break.

    python -m benchmarks worlds --seconds 60 [--trio] [--first SEED]
    python -m benchmarks worlds --seed 4711 [--trace]
    python -m benchmarks worlds --script world.txt [--trace]
    python -m benchmarks worlds --mutants [NAME ...] [--most 20000] [--jobs 2] [--kept FILE]

A world is drawn from a seed; see `tests/worlds`.  If a world breaks a rule, it is made smaller and
printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Final

from tests.worlds.drawing import draw
from tests.worlds.events import Plan, read
from tests.worlds.running import Worlds, worlds
from tests.worlds.shrinking import kind_of, shrunk

from .harness import Figure, at_least_absolute

WORLDS: Final = 300
A_MINUTE: Final = 1500
_SHOWN: Final = 5  # seeds of those that break the same kind of rule


def measure() -> list[Figure]:
    """Measure how many worlds a core runs in a minute, and that no rule breaks in them."""
    with worlds() as here:
        here.broken_in(draw(0))
        began = time.process_time()
        broken = [seed for seed in range(WORLDS) if here.broken_in(draw(seed))]
        seconds = time.process_time() - began
    whole = at_least_absolute(WORLDS, "worlds that keep the promise", WORLDS - len(broken), "")
    return [at_least_absolute(A_MINUTE, "worlds a minute", WORLDS / seconds * 60, ""), whole]


def main(arguments: list[str]) -> int:
    """Run worlds as the command line says."""
    given = _parser().parse_args(arguments)
    backend = "trio" if given.trio else "asyncio"
    if given.mutants is not None:
        from tests.worlds.mutants import hunt  # noqa: PLC0415 - not needed otherwise

        return hunt(
            given.mutants, most=given.most, backend=backend, jobs=given.jobs, kept=given.kept
        )
    with worlds(backend) as here:
        if given.seed is not None:
            return _shown(here, draw(given.seed), trace=given.trace)
        if given.script is not None:
            script = sys.stdin.read() if given.script == "-" else Path(given.script).read_text()
            return _shown(here, read(script), trace=given.trace)
        return _run_on(here, given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks worlds")
    add = parser.add_argument
    add("--seconds", type=float, default=60.0, help="how long to run worlds")
    add("--first", type=int, default=0, metavar="SEED", help="the seed to begin with")
    add("--count", type=int, default=None, help="how many to run, however long that takes")
    add("--trio", action="store_true", help="on trio, and not on asyncio")
    add("--keep", type=Path, default=None, metavar="FOLDER", help="for worlds that break a rule")
    add("--until-broken", action="store_true", help="stop at the first that breaks a rule")
    add("--whole", action="store_true", help="make no world smaller that breaks a rule")
    add("--seed", type=int, help="run the world of this seed alone")
    add("--script", metavar="FILE", help="run the world that is written in a file, or -")
    add("--trace", action="store_true", help="show what happens in it")
    add("--mutants", nargs="*", metavar="NAME", help="put mistakes in, and see them found")
    add("--most", type=int, default=20_000, help="worlds in which a mistake must be found")
    add("--jobs", type=int, help="mistakes that are looked for at a time; one a core")
    add("--kept", type=Path, metavar="FILE", help="what is known, for another hunt to go on with")
    return parser


def _shown(here: Worlds, plan: Plan, *, trace: bool) -> int:
    world = here.run(plan)
    print(plan)
    if trace:
        print("\n".join(world.notes.trace))
    print("\n".join(f"BROKEN: {each}" for each in world.notes.broken) or "no rule is broken")
    return bool(world.notes.broken)


def _run_on(here: Worlds, given: argparse.Namespace) -> int:
    """Run worlds until their time is over, and return 1 where one breaks a rule."""
    seed = first = given.first
    kinds: dict[str, int] = {}
    began, used = time.monotonic(), time.process_time()
    while (
        time.monotonic() < began + given.seconds
        if given.count is None
        else seed < first + given.count
    ):
        broken = here.broken_in(draw(seed))
        if broken:
            kind = kind_of(broken[0])
            kinds[kind] = kinds.get(kind, 0) + 1
            if kinds[kind] <= _SHOWN:
                print(f"seed {seed}: {broken[0]}", flush=True)
            if given.until_broken:
                return 1
            if kinds[kind] == 1:
                _keep(here, seed, given)
        seed += 1
    used, took = time.process_time() - used, time.monotonic() - began
    count = seed - first
    print(
        f"{count:,} worlds (seeds {first:,} to {seed - 1:,}), {count / used * 60:,.0f} a minute"
        f" of CPU, {count / took * 60:,.0f} a minute by the wall"
    )
    for kind, count in sorted(kinds.items(), key=lambda each: -each[1]):
        print(f"{count} times: {kind}")
    return bool(kinds)


def _keep(here: Worlds, seed: int, given: argparse.Namespace) -> None:
    plan = draw(seed) if given.whole else shrunk(draw(seed), here.broken_in)
    if given.keep is not None:
        given.keep.mkdir(exist_ok=True)
        (given.keep / f"{seed}.txt").write_text(f"{plan}\n")
    print(f"{plan}\n{here.broken_in(plan)}", flush=True)
    print(f"to see it again: python -m benchmarks worlds --seed {seed} --trace", flush=True)
