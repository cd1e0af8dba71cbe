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
def test_an_exception_in_logging_ends_there(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception in logging is printed to stderr by type and place, without its text."""
    log.error(TEXT)
    said = capsys.readouterr().err
    assert said.startswith("skycore_async: logging raised LookupError\n")
    assert __file__ in said
    assert TEXT not in said


@pytest.mark.usefixtures("broken")
def test_nothing_is_printed_where_logging_is_to_be_quiet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `raiseExceptions` off, or without stderr, nothing is printed."""
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


def test_a_record_has_the_place_of_its_caller(caplog: pytest.LogCaptureFixture) -> None:
    """A log record names the file and function of its caller."""
    log.warning("%s", TEXT)
    (record,) = caplog.records
    assert (record.pathname, record.funcName) == (
        __file__,
        "test_a_record_has_the_place_of_its_caller",
    )
