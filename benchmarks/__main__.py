"""Run the benchmarks and print them as one table; exits 1 if a bound was missed."""

from __future__ import annotations

import sys

from . import (
    bulk,
    cluster,
    growth,
    handovers,
    imports,
    ledger,
    memory,
    pace,
    parsing,
    peers,
    receiving,
    reliability,
    reports,
    rows,
    sending,
    settling,
    shared_pace,
    worlds,
)
from .harness import machine, table

BENCHMARKS = {
    "imports": imports.measure,
    "parsing": parsing.measure,
    "sending": sending.measure,
    "bulk": bulk.measure,
    "handovers": handovers.measure,
    "peers": peers.measure,
    "memory": memory.measure,
    "rows": rows.measure,
    "reports": reports.measure,
    "pace": pace.measure,
    "shared_pace": shared_pace.measure,
    "ledger": ledger.measure,
    "settling": settling.measure,
    "growth": growth.measure,
    "receiving": receiving.measure,
    "reliability": reliability.measure,
    "cluster": cluster.measure,
    "worlds": worlds.measure,
}


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; `worlds` and `growth` take arguments of their own."""
    if names[:1] == ["worlds"] and names[1:]:
        return worlds.main(names[1:])
    if names[:1] == ["growth"] and names[1:]:
        return growth.main(names[1:])
    if unknown := set(names) - BENCHMARKS.keys():
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
        return 2
    figures = [figure for name in names or BENCHMARKS for figure in BENCHMARKS[name]()]
    print(table(figures))
    print(f"\n{machine('httpx', 'xmltodict', 'attrs', 'anyio')}")
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
