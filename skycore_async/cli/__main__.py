"""`python -m skycore_async.cli` is `skycore`."""

from ..cli import main

main()
