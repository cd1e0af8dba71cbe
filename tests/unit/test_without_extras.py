"""The package works without its extras, as far as it promises to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.measuring import measured

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "support" / "without_extras.py"
EXTRAS = (
    "click",
    "jinja2",
    "opentelemetry",
    "phonenumbers",
    "psycopg",
    "rich",
    "starlette",
    "uvicorn",
)


@pytest.mark.slow
def test_core_and_client_need_no_extra_and_the_rest_names_its_own() -> None:
    """With every extra hidden, sending and parsing work, and the rest names its extra."""
    hide = f"import sys, runpy; sys.modules.update(dict.fromkeys({EXTRAS}))"
    run = f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own script
        [sys.executable, "-W", "error", "-c", f"{hide}; {run}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=measured(),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "passed" in done.stdout
