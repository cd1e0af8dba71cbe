"""How an exception of a library is described: class and known words, nothing else."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
import socket
import ssl
from collections.abc import Callable

import anyio
import httpx
import pytest

from skycore_async import NotSent, OutcomeUnknown
from skycore_async.transports.failures import failed

QUOTED = "api_key=Y6r74u6Br4 to=15551234888"


def raised(*errors: Exception) -> Exception:
    """Return the first of these exceptions, as raised because of the next, and so on."""
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


def in_a_circle() -> Exception:
    first, second = ValueError(QUOTED), ValueError(QUOTED)
    first.__cause__, second.__cause__ = second, first
    return first


def refused_certificate() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(QUOTED)
    error.verify_message = "self-signed certificate"
    return error


def broken_tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, QUOTED)
    error.reason = reason
    return error


class Unreadable(Exception):
    def __str__(self) -> str:
        raise ValueError(QUOTED)


REFUSED = os.strerror(errno.ECONNREFUSED)

SAID: dict[str, tuple[Callable[[], Exception], str]] = {
    "of the system": (
        lambda: ConnectionRefusedError(errno.ECONNREFUSED, QUOTED),
        f"ConnectionRefusedError: {REFUSED}",
    ),
    "of the system, below a library's": (
        lambda: raised(httpx.ConnectError(QUOTED), OSError(QUOTED), OSError(111, QUOTED)),
        f"ConnectError: {os.strerror(111)}",
    ),
    "of the system, in a group": (
        lambda: raised(
            httpx.ConnectError(QUOTED),
            ExceptionGroup(QUOTED, [OSError(errno.ECONNREFUSED, QUOTED), ValueError(QUOTED)]),
        ),
        f"ConnectError: {REFUSED}",
    ),
    "of a name": (
        lambda: raised(httpx.ConnectError(QUOTED), socket.gaierror(socket.EAI_NONAME, QUOTED)),
        "ConnectError: the name of the host was not found",
    ),
    "of a certificate": (
        lambda: raised(httpx.ConnectError(QUOTED), refused_certificate()),
        "ConnectError: the certificate was refused: self-signed certificate",
    ),
    "of TLS": (
        lambda: raised(httpx.ConnectError(QUOTED), broken_tls("WRONG_VERSION_NUMBER")),
        "ConnectError: no TLS: WRONG_VERSION_NUMBER",
    ),
    "of TLS, in words of somebody's": (lambda: broken_tls(QUOTED), "SSLError"),
    "a text that is known": (
        lambda: httpx.RemoteProtocolError("Server disconnected without sending a response."),
        "RemoteProtocolError: Server disconnected without sending a response.",
    ),
    "a text that is not": (
        lambda: httpx.RemoteProtocolError(QUOTED),
        "RemoteProtocolError: what came is no HTTP answer, or broke off",
    ),
    "of a proxy": (
        lambda: httpx.ProxyError(f"407 {QUOTED}"),
        "ProxyError: the proxy refused with HTTP 407",
    ),
    "of a proxy, without a status": (
        lambda: httpx.ProxyError(QUOTED),
        "ProxyError: the proxy refused",
    ),
    "of a class of nobody known": (lambda: Unreadable(QUOTED), "Unreadable"),
    "of a stream": (lambda: anyio.BrokenResourceError(QUOTED), "BrokenResourceError"),
    "of a circle": (in_a_circle, "ValueError"),
}


@pytest.mark.parametrize(("make", "said"), SAID.values(), ids=SAID)
def test_an_error_names_the_class_of_its_exception(
    make: Callable[[], Exception], said: str
) -> None:
    """An error names the exception's class and known words, and nothing of its own text."""
    for not_sent, kind in ((True, NotSent), (False, OutcomeUnknown)):
        error = failed(make(), not_sent=not_sent)
        assert type(error) is kind
        assert str(error).partition(": ")[2] == said
        cause = error.__cause__
        assert cause is not None
        assert (cause.__cause__, cause.__context__, cause.__traceback__) == (None, None, None)
        assert "Y6r7" not in f"{cause!r} {cause} {vars(cause)} {pickle.dumps(error)!r}"
