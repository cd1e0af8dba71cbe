"""Bad settings from outside: refused at the start, in words, without showing secrets."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from skycore_async import (
    ConfigurationError,
    DirectTransport,
    HttpxTransport,
    PostbackReceiver,
    PostgresLimiter,
    SkycoreClient,
)
from skycore_async.cli.app import skycore
from tests.support.fault_server import client_context

KEY = "Y6r74u6Br4hAVgrolveksjEiiu8yJX"
# As Python reads bytes of the environment that are no UTF-8.
NO_TEXT = os.fsdecode(b"s3cret-\xff-with-a-byte-of-Latin-1")


def shown(error: BaseException) -> str:
    """Return all that a debugger or error collector shows of an error."""
    looks = [*traceback.format_exception(error, chain=True)]
    frames: TracebackType | None = error.__traceback__
    while frames is not None:
        if frames.tb_frame.f_code.co_filename != __file__:
            looks += [f"{name}={value!r}" for name, value in frames.tb_frame.f_locals.items()]
        frames = frames.tb_next
    assert error.__context__ is None
    return "\n".join(looks)


HALF_MADE: dict[str, tuple[Callable[[], object], str]] = {
    "a client": (lambda: SkycoreClient(api_key=KEY, timeout=0), "SkycoreClient, which was not"),
    "a client without a key": (lambda: SkycoreClient(api_key=" "), "SkycoreClient, which was not"),
    "a receiver": (
        lambda: PostbackReceiver(on_notification=print, path="x"),
        "PostbackReceiver()",
    ),
    "a limiter": (lambda: PostgresLimiter("postgresql://h/db", "", 1), "a rate that cannot be"),
    "a transport": (lambda: HttpxTransport(proxy="gopher://h"), "HttpxTransport"),
}


@pytest.mark.parametrize(("make", "look"), HALF_MADE.values(), ids=HALF_MADE)
def test_an_object_whose_making_failed_has_a_repr(
    make: Callable[[], object], look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback with locals can show an object whose construction failed."""
    monkeypatch.delenv("SKYCORE_API_KEY", raising=False)
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert look in shown(caught.value)


NO_UTF8: dict[str, tuple[Callable[[], object], str]] = {
    "the key": (lambda: SkycoreClient(api_key=NO_TEXT), "api_key: "),
    "the sender": (lambda: SkycoreClient(api_key=KEY, from_=NO_TEXT), "from_: "),
    "the campaign": (lambda: SkycoreClient(api_key=KEY, campaign_ref=NO_TEXT), "campaign_ref: "),
    "the address": (
        lambda: SkycoreClient(api_key=KEY, base_url=f"http://{NO_TEXT}/"),
        "base_url: ",
    ),
    "a secret": (lambda: PostbackReceiver(on_notification=print, secret=NO_TEXT), "secret: "),
    "the second secret": (
        lambda: PostbackReceiver(on_notification=print, secret=["new", NO_TEXT]),
        "secret: ",
    ),
    "a password": (
        lambda: PostbackReceiver(on_notification=print, credentials=("sky", NO_TEXT)),
        "credentials: ",
    ),
}


@pytest.mark.parametrize(("make", "said"), NO_UTF8.values(), ids=NO_UTF8)
def test_a_value_that_is_no_utf8_is_refused_at_the_start(
    make: Callable[[], object], said: str
) -> None:
    """A setting that is no UTF-8 is refused at construction, and a secret is not shown."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        make()
    if said not in {"from_: ", "campaign_ref: ", "base_url: "}:
        assert "s3cret" not in shown(caught.value)


def test_the_environment_is_looked_at_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A key, sender or postback secret in the environment that is no UTF-8 is refused."""
    for name in ("SKYCORE_API_KEY", "SKYCORE_FROM"):
        monkeypatch.setenv("SKYCORE_API_KEY", KEY)
        monkeypatch.setenv(name, NO_TEXT)
        with pytest.raises(ConfigurationError):
            SkycoreClient()
    monkeypatch.setenv("SKYCORE_POSTBACK_SECRET", NO_TEXT)
    done = CliRunner().invoke(
        skycore, ["listen", "--ledger", str(tmp_path / "x.db"), "--port", "0"]
    )
    assert (done.exit_code, done.stderr) == (
        2,
        "skycore: SKYCORE_POSTBACK_SECRET: secret: it is no text in UTF-8\n",
    )


def test_unloadable_certificates_are_reported_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`send` and `bulk` name SSL_CERT_FILE when its file is missing."""
    rows, nowhere = tmp_path / "rows.csv", str(tmp_path / "nowhere.pem")
    rows.write_text("to\n15551234888\n")
    environment = {
        "SKYCORE_API_KEY": KEY,
        "SKYCORE_FROM": "60856",
        "SKYCORE_HOME": str(tmp_path),
        "SSL_CERT_FILE": nowhere,
    }
    for command in (["send", "15551234888", "Hi"], ["bulk", str(rows), "--text", "Hi", "--yes"]):
        done = CliRunner().invoke(skycore, command, env=environment)
        assert done.exit_code == 2
        assert f"No such file or directory: see SSL_CERT_FILE='{nowhere}'" in done.stderr
        assert "rows.csv: No such file" not in done.stderr


PROXIES = [
    "gopher://user:s3cret@proxy.example",
    "http://user:s3cret@proxy:port",
    f"http://user:{NO_TEXT}@proxy",
    "user s3cret",
    "http://user:s3cret@",
]


@pytest.mark.parametrize("proxy", PROXIES, ids=ascii)
@pytest.mark.parametrize("transport", [HttpxTransport, DirectTransport])
def test_a_proxy_that_cannot_be_is_not_shown(transport: Any, proxy: str) -> None:
    """A refused proxy's password is in no error text and in no frame."""
    with pytest.raises(ConfigurationError, match="proxy: ") as caught:
        transport(proxy=proxy, verify=client_context())
    assert "s3cret" not in shown(caught.value)


def test_the_proxy_of_the_environment_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused proxy of the environment is named as setting, without its password."""
    monkeypatch.setenv("https_proxy", "gopher://user:s3cret@proxy.example")
    with pytest.raises(ConfigurationError, match="proxy: ") as caught:
        SkycoreClient(api_key=KEY)
    assert "s3cret" not in shown(caught.value)


@pytest.mark.parametrize("base_url", ["http://user:s3cret@h:x/", "ftp://user:s3cret@h/"])
def test_a_password_in_an_address_is_not_said(base_url: str) -> None:
    """A password in a refused `base_url` is masked in the error."""
    with pytest.raises(ConfigurationError, match=r"://\*\*\*@h") as caught:
        SkycoreClient(api_key=KEY, base_url=base_url)
    assert "s3cret" not in str(caught.value)
    assert not isinstance(caught.value.__context__, httpx.InvalidURL)


@pytest.mark.parametrize("base_url", [["http://h/"], "h:x", ""])
def test_an_invalid_address_is_refused(base_url: Any) -> None:
    """A `base_url` that is no address is refused, each time that it is given."""
    client = SkycoreClient(api_key=KEY)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="base_url: "):
            client.with_options(base_url=base_url)
        with pytest.raises(ConfigurationError, match="base_url: "):
            SkycoreClient(api_key=KEY, base_url=base_url)


def test_an_empty_argument_is_not_replaced_by_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An empty key, sender or address is refused, and not replaced by the environment."""
    monkeypatch.setenv("SKYCORE_API_KEY", KEY)
    monkeypatch.setenv("SKYCORE_BASE_URL", "http://environment.example/")
    with pytest.raises(ConfigurationError, match="base_url: '' is no"):
        SkycoreClient(base_url="")
    with pytest.raises(ConfigurationError, match="no API key: "):
        SkycoreClient(api_key="")
    monkeypatch.setenv("SKYCORE_FROM", "60856")
    with pytest.raises(ConfigurationError, match="from_: it is empty"):
        SkycoreClient(from_="")


def test_an_address_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message with its own permissions does not parse the `base_url` again."""
    client = SkycoreClient(api_key=KEY, base_url="http://read-once.example/")
    monkeypatch.setattr(httpx, "URL", None)
    settings = client._with_permissions(True, ignore_opt_out=False)
    assert settings.base_url == "http://read-once.example/"
