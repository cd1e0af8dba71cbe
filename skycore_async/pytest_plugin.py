"""A pretend Skycore for your own tests: the fixture `skycore`, by pytest's plugin mechanism.

Rule: pytest imports this module in every run wherever the package is
installed, so that nothing is loaded here that no test has asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from .runtime.extras import missing

if TYPE_CHECKING:
    from .simulator import Simulator

_MARKER = "skycore(**settings): settings of the `Simulator` that the fixture `skycore` runs"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known to `--strict-markers`."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def skycore(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Simulator]:
    """Run a pretend Skycore on this machine for one test.

    SKYCORE_API_KEY, SKYCORE_FROM and SKYCORE_BASE_URL lead to it, so that a
    `SkycoreClient()` made in the test needs no arguments.  It is a `Simulator`:
    see `messages`, `billed`, `script`, `postback_url` and `wait_for_postbacks`.
    SKYCORE_HOME is a directory of the test's, so that nobody whom it opts out or in is so on the
    user's own list.
    The marker `@pytest.mark.skycore(...)` gives it other settings.
    """
    try:
        # A test run without the fixture loads none of it.
        from .simulator import API_KEY, SHORT_CODE, Simulator  # noqa: PLC0415

        marker = request.node.get_closest_marker("skycore")
        simulator = Simulator(**(marker.kwargs if marker else {}))
    except ImportError as error:
        raise missing("testing", error) from error
    account = simulator.account
    with simulator:
        monkeypatch.setenv("SKYCORE_API_KEY", min(account.api_keys, default=API_KEY))
        monkeypatch.setenv("SKYCORE_FROM", min(account.short_codes, default=SHORT_CODE))
        monkeypatch.setenv("SKYCORE_BASE_URL", simulator.url)
        monkeypatch.setenv("SKYCORE_HOME", str(tmp_path_factory.mktemp("skycore")))
        monkeypatch.delenv("SKYCORE_OPT_OUTS", raising=False)
        yield simulator
