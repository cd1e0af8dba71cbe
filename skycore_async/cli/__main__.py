"""`python -m skycore_async.cli` is `skycore`."""

from . import main

main()
