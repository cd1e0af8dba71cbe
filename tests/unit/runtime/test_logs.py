"""The log of the package: what a filter or a handler of the program raises ends there."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from skycore_async.runtime.logs import log

TEXT = "SMS to *******4888"


class Broken(logging.Handler):
    """A handler whose own work fails, as one does that writes to a database."""

    def emit(self, record: logging.LogRecord) -> None:
        raise LookupError(record.getMessage())


@pytest.fixture
def broken() -> Iterator[None]:
    handler = Broken()
    logging.getLogger("skycore_async").addHandler(handler)
    yield
    logging.getLogger("skycore_async").removeHandler(handler)


@pytest.mark.usefixtures("broken")
def test_what_logging_raises_ends_there(capsys: pytest.CaptureFixture[str]) -> None:
    """It is said on stderr by its type and place, as `logging` does, and not by its text."""
    log.error(TEXT)
    said = capsys.readouterr().err
    assert said.startswith("skycore_async: logging raised LookupError\n")
    assert __file__ in said
    assert TEXT not in said


@pytest.mark.usefixtures("broken")
def test_where_logging_is_to_be_quiet_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`logging.raiseExceptions` off, or no stderr at all, or a closed one: nothing is said."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.error(TEXT)
    assert not capsys.readouterr().err
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(sys, "stderr", None)
    log.error(TEXT)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    log.error(TEXT)


def test_a_record_has_the_place_of_who_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A log's format may show file and function, which are those of the caller."""
    log.warning("%s", TEXT)
    (record,) = caplog.records
    assert (record.pathname, record.funcName) == (
        __file__,
        "test_a_record_has_the_place_of_who_logged",
    )
