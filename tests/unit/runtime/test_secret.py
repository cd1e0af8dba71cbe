"""The API key shows nowhere: no repr, no log record, no text, no frame, no pickle.

Strategy: play every kind of failure, over both transports and both methods, with a
server that repeats the key wherever a server may.  Then look everywhere that a
log, a traceback or a debugger would: all records of all loggers at DEBUG, and
the locals of every frame of every error in the chain.
"""

from __future__ import annotations

import copy
import logging
import pickle
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape as xml_escape

import httpx
import pytest

from skycore_async import (
    ConfigurationError,
    NotSent,
    OutcomeUnknown,
    Request,
    Response,
    SkycoreClient,
    SkycoreError,
)
from skycore_async.runtime.secret import Secret
from tests import conftest
from tests.support.fault_server import (
    SUCCESS,
    FaultServer,
    Hang,
    Read,
    Script,
    Send,
    answer,
    html,
    refused,
)

if TYPE_CHECKING:
    from tests.conftest import OpenClient

PLAIN = "Y6r74u6Br4hAVgrolveksjEiiu8yJX"
ODD = "a&b<c>\"d'e f+g%h;i=j?k/l"
TEST_FILES = (__file__, conftest.__file__)


@cache
def shown(key: str) -> set[str]:
    """Return the forms in which a key could show."""
    return {
        *(key, repr(key)[1:-1], escape(key), xml_escape(key), escape(key, quote=False)),
        *(quote(key), quote(key, safe=""), quote_plus(key)),
        quote_plus(key)[8:],  # what is left of one that was cut at the wrong place
    }


def looked_at(error: BaseException | None) -> Iterator[str]:
    """Return all that a traceback with locals would print of an error and its chain."""
    if error is None:
        return
    yield str(error)
    yield repr(error)
    yield repr(vars(error))
    yield from frames(error.__traceback__)
    for other in {error.__cause__, error.__context__}:
        yield from looked_at(other)


def frames(traceback: TracebackType | None) -> Iterator[str]:
    while traceback:
        frame = traceback.tb_frame
        if frame.f_code.co_filename not in TEST_FILES:
            for name, value in frame.f_locals.items():
                with suppress(AttributeError):  # of an object half made
                    yield f"{name}={value!r}"
        traceback = traceback.tb_next


def assert_hidden(key: str, *looks: str) -> None:
    assert looks
    for look in looks:
        for form in shown(key):
            assert form not in look


# --- Secret itself ------------------------------------------------------------


def test_a_secret_shows_itself_only_when_asked() -> None:
    """`reveal` gives it; `repr`, `str` and formatting do not."""
    secret = Secret(PLAIN)
    assert secret.reveal() == PLAIN
    assert {repr(secret), str(secret), f"{secret}", f"{secret!r}"} == {"Secret('***')"}
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize("travel", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_does_not_travel(travel: Any) -> None:
    """A pickled secret would be written somewhere."""
    with pytest.raises(TypeError, match="not pickled"):
        travel(Secret(PLAIN))


@pytest.mark.parametrize("key", [PLAIN, ODD], ids=["plain", "odd"])
def test_a_secret_is_hidden_in_what_repeats_it(key: str) -> None:
    """It is masked plain, and as HTML, XML and a form would write it."""
    written = {key, escape(key), xml_escape(key), quote_plus(key)}
    document = " ".join(sorted(written)).encode()
    assert Secret(key).hide_in(b"<" + document + b">") == (
        b"<" + b" ".join([b"***"] * len(written)) + b">"
    )


def each(form: str) -> bytes:
    """Write every character of the key as `form` has it."""
    return "".join(form.format(ord(character), character) for character in PLAIN).encode()


REPEATED: dict[str, bytes] = {
    "UTF-16": PLAIN.encode("utf-16-le"),
    "UTF-16, the other way round": PLAIN.encode("utf-16-be"),
    "UTF-32": PLAIN.encode("utf-32-le"),
    "decimal references": each("&#{0};"),
    "hexadecimal references": each("&#x{0:X};"),
    "references with zeros": each("&#x00{0:x};"),
    "references in an escaped page": each("&amp;#{0};"),
    "percent signs": each("%{0:02X}"),
    "percent signs twice": each("%25{0:02x}"),
    "JSON": each("\\u{0:04x}"),
    "JSON in JSON": each("\\\\u{0:04X}"),
    "a bytes literal": each("\\x{0:02x}"),
    "quoted-printable": each("={0:02X}"),
    "hexadecimal": PLAIN.encode().hex().encode(),
    "small letters": PLAIN.lower().encode(),
    "some characters alone": b"%59" + PLAIN[1:3].encode() + b"&#55;" + PLAIN[4:].encode(),
}


@pytest.mark.parametrize("form", REPEATED.values(), ids=REPEATED)
def test_a_secret_is_hidden_however_it_is_written(form: bytes) -> None:
    """Wide, escaped in each way or some of them, and in another case: nothing is left of it."""
    hidden = Secret(PLAIN).hide_in(b"<A>" + form + b"</A>")
    assert hidden.replace(b"\0", b"") == b"<A>***</A>"


@pytest.mark.parametrize("before", ["", "<", "<A", "key="])
@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
def test_a_secret_is_hidden_in_base64(before: str, encode: Callable[[bytes], bytes]) -> None:
    """Wherever it begins in a group of three bytes, two digits of it are left at the most."""
    document = encode(f"{before}{ODD}".encode())
    assert len(Secret(ODD).hide_in(document)) <= len(before) * 4 / 3 + len(b"***") + 5


@pytest.mark.parametrize("piece", [b"\\", b"%", b"%25", b"&amp;", b"&#0", b"=", b"\0", b"Y6r7"])
def test_looking_for_a_secret_takes_no_time(piece: bytes) -> None:
    """A document made of what escapes begin with is looked through once."""
    document = piece * (1024 * 1024 // len(piece))
    began = time.process_time()
    assert Secret(PLAIN).hide_in(document) == document
    assert time.process_time() - began < 5


def test_a_short_secret_is_not_looked_for() -> None:
    """One that is found within words would spoil an answer."""
    assert Secret("a key").hide_in(b"<A>a key</A>") == b"<A>a key</A>"


# --- Failures -----------------------------------------------------------------


def echoing(key: str) -> dict[str, Script]:
    """Script the answers that repeat the key, and the failures that have it in hand."""
    told = xml_escape(key).encode()
    failure = b"<RESPONSE><STATUS>Failure</STATUS>%s</RESPONSE>"
    location = f"https://other.example/?action=sendsms&api_key={quote_plus(key)}&to=1"
    login = f"/login?next={quote(location, safe='')}"
    return {
        "accepted": (Read(), Send(answer(SUCCESS.replace(b"SMS_12345", told)))),
        "rejected": (
            Read(),
            Send(
                answer(
                    failure
                    % (b"<ERRORCODE>E104</ERRORCODE><ERRORINFO>bad key %s</ERRORINFO>" % told)
                )
            ),
        ),
        "throttled": (
            Read(),
            Send(
                answer(
                    failure % (b"<ERRORCODE>E106</ERRORCODE><ERRORINFO>%s</ERRORINFO>" % told),
                    headers={"Retry-After": "1"},
                )
            ),
        ),
        "E503": (
            Read(),
            Send(
                answer(failure % (b"<ERRORCODE>E503</ERRORCODE><ERRORINFO>%s</ERRORINFO>" % told))
            ),
        ),
        "code": (Read(), Send(answer(failure % (b"<ERRORCODE>%s</ERRORCODE>" % told)))),
        "status": (
            Read(),
            Send(answer(b"<RESPONSE><STATUS>%s</STATUS></RESPONSE>" % told)),
        ),
        "broken XML": (Read(), Send(answer(b"<RESPONSE>" + told))),
        "debug page": (
            Read(),
            Send(answer(b"<pre>" + escape(key).encode() + b"</pre>", status="500 Oops")),
        ),
        "redirect": (Read(), Send(html("301 Moved", Location=location))),
        "redirect to a login": (Read(), Send(html("302 Found", Location=login))),
        "429": (Read(), Send(html("429 Slow", Location=location, **{"Retry-After": "1"}))),
        "read and closed": (Read(),),
        "half a body": (Read(), Send(answer(SUCCESS)[:-30])),
        "timeout": (Read(), Hang()),
        "no HTTP": (Read(), Send(b"api_key=" + told)),
    }


@pytest.mark.anyio
@pytest.mark.unmeasured
@pytest.mark.parametrize("key", [PLAIN, ODD], ids=["plain", "odd"])
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("scenario", ["refused", *echoing(PLAIN)])
async def test_the_key_never_shows(
    open_client: OpenClient,
    scenario: str,
    method: str,
    key: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever goes wrong: no record, text, local, context or pickle has the key."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "skycore_async"):
        assert logging.getLogger(name).isEnabledFor(logging.DEBUG)
    timeout = 0.1 if scenario == "timeout" else 5
    script = echoing(key).get(scenario, ())
    with refused() as nowhere, FaultServer(script) as server:
        url = server.url if script else nowhere
        async with open_client(
            url, api_key=key, method=method, timeout=timeout, max_attempts=1
        ) as client:
            looks = [repr(client), str(client), repr(vars(client))]
            try:
                accepted = await client.send_sms(to="15551234888", text="Hello Jerry")
            except SkycoreError as error:
                looks += looked_at(error)
                looks.append(repr(pickle.dumps(error)))
                assert scenario != "accepted"
            else:
                looks += [repr(accepted), repr(accepted.raw)]
                assert scenario == "accepted"
    assert caplog.records
    for record in caplog.records:
        looks += [record.getMessage(), repr(vars(record))]
    assert_hidden(key, *looks)


@pytest.mark.parametrize("scheme", ["https", "ftp"])
def test_a_password_in_an_address_does_not_show(scheme: str) -> None:
    """An address that is refused for it, or for more, is in no text and no local of a frame."""
    address = f"{scheme}://user:{PLAIN}@skycore.example/"
    client = SkycoreClient(api_key="k")
    for make in (partial(SkycoreClient, api_key="k"), client.with_options):
        with pytest.raises(ConfigurationError, match="base_url: ") as caught:
            make(base_url=address)
        assert_hidden(PLAIN, str(caught.value), *frames(caught.value.__traceback__))


async def raise_for_status(response: httpx.Response) -> None:
    response.raise_for_status()


async def raise_text(response: httpx.Response) -> None:
    raise RuntimeError(f"404 Not Found: {response.url}")


async def raise_value(response: httpx.Response) -> None:
    raise ValueError("404 Not Found", response.url)


@pytest.mark.anyio
@pytest.mark.parametrize("check", [raise_for_status, raise_text, raise_value])
async def test_an_exception_of_a_hook_does_not_show_the_key(check: Any) -> None:
    """The URL is in some texts of httpx, and the API key in the URL of a GET."""
    with FaultServer((Read(), Send(html("404 Not Found")))) as server:
        async with (
            httpx.AsyncClient(event_hooks={"response": [check]}, trust_env=False) as http_client,
            SkycoreClient(
                api_key=PLAIN,
                from_="60856",
                base_url=server.url,
                http_client=http_client,
                method="GET",
            ) as client,
        ):
            with pytest.raises(
                OutcomeUnknown, match=r"(?m)no answer: [A-Z][A-Za-z]+Error$"
            ) as caught:
                await client.send_sms(to="15551234888", text="Hello Jerry")
    assert_hidden(PLAIN, *looked_at(caught.value), repr(pickle.dumps(caught.value)))


@pytest.mark.parametrize("name", ["httpcore.http2", "hpack.hpack", "hpack.table"])
def test_the_key_is_masked_in_the_records_of_http_2(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What a client with HTTP/2 logs of its headers is masked, and else left alone."""
    SkycoreClient(api_key=PLAIN)
    caplog.set_level(logging.DEBUG)
    path = f"/index.php?action=sendsms&api_key={PLAIN}&to=1".encode()
    logging.getLogger(name).debug("Adding %s=%s to the header table", b":path", path)
    logging.getLogger(name).debug("Adding %s=%s", "a", 1)
    masked, untouched = caplog.records
    assert masked.getMessage() == (
        "Adding b':path'=b'/index.php?action=sendsms&api_key=***' to the header table"
    )
    assert_hidden(PLAIN, repr(vars(masked)))
    assert (untouched.msg, untouched.args) == ("Adding %s=%s", ("a", 1))


class Failing:
    """A transport that raises with its arguments in hand."""

    async def send(self, request: Request, *, timeout: float) -> Response:
        raise NotSent("nothing works here")

    async def aclose(self) -> None:
        """Close nothing."""


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_request_in_a_frame_does_not_show_the_key(method: Any) -> None:
    """What a transport is given can be shown: its key cannot be seen."""
    async with SkycoreClient(
        api_key=PLAIN, from_="60856", transport=Failing(), method=method, max_attempts=1
    ) as client:
        with pytest.raises(NotSent) as caught:
            await client.send_sms(to="15551234888", text="Hello Jerry")
    traceback = caught.value.__traceback__
    assert traceback
    while traceback.tb_next:
        traceback = traceback.tb_next
    assert_hidden(PLAIN, *looked_at(caught.value), repr(traceback.tb_frame.f_locals["request"]))


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"timeout": 0}, id="timeout"),
        pytest.param({"base_url": "nowhere"}, id="base_url"),
        pytest.param({"base_url": "https://nowhere:x/"}, id="URL that httpx refuses"),
        pytest.param({"method": "PUT"}, id="method"),
        pytest.param({"max_segments": 0}, id="max_segments"),
        pytest.param({"api_key": PLAIN + "\x00"}, id="key with a control character"),
        pytest.param({"api_key": PLAIN + "\u00fc"}, id="key outside ASCII"),
        pytest.param({"api_key": PLAIN.encode()}, id="key of bytes"),
        pytest.param({"max_in_flight": 0}, id="max_in_flight"),
        pytest.param({"http_client": object()}, id="http_client"),
    ],
)
def test_a_wrong_setting_does_not_show_the_key(settings: dict[str, Any]) -> None:
    """Neither the constructor nor `with_options` shows the key when it refuses a setting."""
    settings = {"api_key": PLAIN, **settings}
    with pytest.raises(ConfigurationError) as caught:
        SkycoreClient(**settings)
    assert_hidden(PLAIN, *looked_at(caught.value))
    if settings.keys() & {"max_in_flight", "http_client"}:
        return
    client = SkycoreClient(api_key="another key", transport=Failing())
    with pytest.raises(ConfigurationError) as caught:
        client.with_options(**settings)
    assert_hidden(PLAIN, *looked_at(caught.value))


def test_an_unknown_option_does_not_show_the_key() -> None:
    """A misspelt option is a TypeError whose frames have no key."""
    client = SkycoreClient(api_key=PLAIN, transport=Failing())
    misspelt: dict[str, Any] = {"api_key": PLAIN, "time_out": 1}
    with pytest.raises(TypeError, match="time_out") as caught:
        client.with_options(**misspelt)
    assert_hidden(PLAIN, *looked_at(caught.value))


def test_the_search_finds_what_it_is_to_find() -> None:
    """The tests above would see a key in a local of a cause."""

    def library(body: bytes) -> None:
        raise ValueError("no key here")

    code = compile(
        "def ours(call, body):\n    try:\n        call(body)\n"
        "    except ValueError as error:\n        raise KeyError('none here') from error\n",
        "elsewhere.py",
        "exec",
    )
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - a frame that is not this file's
    with pytest.raises(KeyError) as caught:
        names["ours"](library, PLAIN.encode())
    with pytest.raises(AssertionError):
        assert_hidden(PLAIN, *looked_at(caught.value))
