"""Log records of HTTP libraries are masked, and cannot break an exchange."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from skycore_async.runtime.secret import Secret
from skycore_async.transports.library_logs import hide_key, mask_library_logs, without_secrets

NAME = "tests.library"
KEY = "Y6r74u6Br4hAVgrolveksjEiiu8yJX"

MASKED = {
    f'GET http://x/?action=sendsms&api_key={KEY}&to=1 "200 OK"': (
        'GET http://x/?action=sendsms&api_key=*** "200 OK"'
    ),
    f"b'/login?next=%2F%3Fapi_key%3D{KEY}%26to%3D1' 302": (
        "b'/login?next=%2F%3Fapi_key%3D***' 302"
    ),
    f"(b'HTTP/1.1', 500, b'<API_KEY>{KEY}</API_KEY><TO>1</TO>')": (
        "(b'HTTP/1.1', 500, b'<API_KEY***"
    ),
    f"b'xml=%3CAPI_KEY%3E{KEY}%3C%2FAPI_KEY%3E%0A'": "b'xml=%3CAPI_KEY***",
    "failed exception=RemoteProtocolError(\"illegal: b'Hello Jerry'\")": (
        "failed exception=RemoteProtocolError(***)"
    ),
    "http://user:word@proxy.example/": "http://***@proxy.example/",
    "api_keys are in the vault": "api_keys are in the vault",
}


@pytest.mark.parametrize(("text", "shown"), MASKED.items(), ids=range(len(MASKED)))
def test_a_key_and_its_surroundings_are_masked_in_a_text(text: str, shown: str) -> None:
    """The key, and what stands beside it in a URL or body, is masked; the rest stays."""
    assert without_secrets(text) == shown


class KeepingHandler(logging.Handler):
    """A handler that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


def test_a_key_is_masked_for_as_long_as_it_is_there(logger: logging.Logger) -> None:
    """A key is masked wherever it stands, until its owner is deleted."""
    mask_library_logs(NAME)
    logger.addHandler(handler := KeepingHandler())
    logger.propagate = False  # as pytest would carry the half of a character from test to test
    key, gone = Secret(KEY), Secret("another-long-key")
    for each in (key, gone):
        hide_key(each)
    del each, gone
    logger.info("X-Consumer: %s \ud800, not another-long-key", KEY)
    assert handler.seen == ["X-Consumer: *** \ud800, not another-long-key"]


class RaisingFilter(logging.Filter):
    """A filter of the program that raises."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise ValueError(f"no request_id in {record.getMessage()}")


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger(NAME)
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.propagate = True
    logger.filters.clear()
    logger.handlers.clear()


@pytest.mark.parametrize("before", [True, False])
def test_a_filter_that_raises_breaks_nothing_off(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str], *, before: bool
) -> None:
    """A filter that raises costs its record alone, and stderr says so without its text."""
    if before:
        logger.addFilter(RaisingFilter())
    mask_library_logs(NAME)
    mask_library_logs(NAME)
    if not before:
        logger.addFilter(RaisingFilter())
    logger.info("api_key=%s", KEY)
    said = capsys.readouterr().err
    assert said.startswith("skycore_async: logging raised ValueError\n")
    assert KEY not in said


def test_other_filters_and_handlers_are_asked_once(logger: logging.Logger) -> None:
    """The program's own filters and handlers see each record once."""
    mask_library_logs(NAME)
    logger.addFilter(lambda record: "dropped" not in record.getMessage())
    logger.addHandler(handler := KeepingHandler())
    logger.info("api_key=%s", KEY)
    logger.info("dropped")
    logger.info("kept %d", 1)
    assert handler.seen == ["api_key=***", "kept 1"]
