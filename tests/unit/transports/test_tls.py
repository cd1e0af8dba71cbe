"""TLS contexts: loaded once, and again if the environment names other certificates."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skycore_async.errors import ConfigurationError
from skycore_async.transports.tls import _by_default, ssl_context
from tests.support.fault_server import CERTIFICATE, client_context


def test_all_transports_share_what_is_trusted_by_default() -> None:
    """All transports share one default TLS context."""
    assert ssl_context(True) is ssl_context(True)
    assert ssl_context(True).verify_mode is ssl.CERT_REQUIRED


def test_another_file_in_the_environment_is_another_context(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A certificate file that the environment names is used from the next transport on."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    world = ssl_context(True)
    trusted = tmp_path / "trusted.pem"
    trusted.write_text(CERTIFICATE, "ascii")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    assert ssl_context(True).cert_store_stats()["x509"] == 1 < world.cert_store_stats()["x509"]


UNREADABLE: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "No such file or directory": ("SSL_CERT_FILE", lambda folder: folder / "ca.pem"),
    "NO_CERTIFICATE_OR_CRL_FOUND": ("SSL_CERT_FILE", lambda _: Path(__file__)),
    "Is a directory": ("SSL_CERT_FILE", lambda folder: folder),
    "No such file or director[y]": ("SSLKEYLOGFILE", lambda folder: folder / "nowhere" / "keys"),
}


@pytest.mark.parametrize("wrong", UNREADABLE)
def test_an_unloadable_certificate_file_is_named(
    wrong: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A certificate file that cannot be loaded is a ConfigurationError with its name."""
    for each in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(each, raising=False)
    name, make = UNREADABLE[wrong]
    monkeypatch.setenv(name, str(path := make(tmp_path)))
    _by_default.cache_clear()
    with pytest.raises(ConfigurationError, match=f"{wrong}: see {name}='{path}'") as caught:
        ssl_context(True)
    assert caught.value.__context__ is None


def test_a_given_tls_context_is_used() -> None:
    """A caller's TLS context is used as it is, and `verify=False` checks no certificate."""
    context = client_context()
    assert ssl_context(context) is context
    assert ssl_context(False).verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize("verify", [None, 1])
def test_a_verify_of_another_type_is_refused(verify: Any) -> None:
    """A `verify` that is neither bool nor TLS context is refused."""
    with pytest.raises(ConfigurationError, match="verify: True, False or an"):
        ssl_context(verify)
