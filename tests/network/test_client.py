"""The client over real sockets, on asyncio and on trio: settings, outcomes, views, logs."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import pytest

from skycore_async import (
    SMS,
    Accepted,
    ConfigurationError,
    DirectTransport,
    HttpxTransport,
    InvalidMessage,
    MemoryLedger,
    NotSent,
    OutcomeUnknown,
    Rejected,
    Request,
    Response,
    Road,
    SkycoreClient,
    SkycoreError,
    Throttled,
    Transport,
    __version__,
)
from skycore_async.messages import masked
from skycore_async.transports.proxies import environment_proxy
from tests.support.fault_server import SUCCESS, FaultServer, Hang, Read, Send, answer, refused
from tests.support.sending_cases import (
    ANSWERS,
    KEY,
    PAGE_GET,
    PAGE_REQUEST,
    Answer,
    check,
    elements,
    failure,
)

if TYPE_CHECKING:
    from tests.conftest import OpenClient

pytestmark = pytest.mark.anyio

ANSWERED = (Read(), Send(answer()))
KEPT_ALIVE = (*ANSWERED * 20, Hang())


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the machine's own settings from the environment."""
    for name in ("SKYCORE_API_KEY", "SKYCORE_FROM", "SKYCORE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_PROXY".upper(), raising=False)


class RecordingTransport:
    """A transport that keeps what it was given, and answers Success."""

    def __init__(self, body: bytes = SUCCESS) -> None:
        self.requests: list[Request] = []
        self.timeouts: list[float] = []
        self.closed = 0
        self._body = body

    async def send(self, request: Request, *, timeout: float) -> Response:
        self.requests.append(request)
        self.timeouts.append(timeout)
        return Response(status=200, headers={}, body=self._body)

    async def aclose(self) -> None:
        self.closed += 1

    @property
    def documents(self) -> list[dict[str, str]]:
        return [
            elements(parse_qs(request.body.decode("ascii"))["xml"][0])
            for request in self.requests
            if request.method == "POST"
        ]


async def send(client: SkycoreClient, **fields: Any) -> Accepted:
    return await client.send_sms(**{"to": "15551234888", "text": "Hello Jerry", **fields})


# --- Over the wire ------------------------------------------------------------


async def test_the_api_pages_example_over_post(open_client: OpenClient) -> None:
    """The example of the API's page goes out as REQUEST in a form, and is accepted."""
    with FaultServer(ANSWERED) as server:
        async with open_client(server.url) as client:
            accepted = await client.send_sms(
                to="+1 (555) 123-4888",
                text="Hello Jerry, Greetings from Marc",
                campaign_ref="77676",
            )
    assert accepted == Accepted(
        message=SMS(
            to="+1 (555) 123-4888",
            text="Hello Jerry, Greetings from Marc",
            campaign_ref="77676",
        ),
        to="15551234888",
        tracking_id="SMS_12345",
        raw={"STATUS": "Success", "TRACKINGID": "SMS_12345", "TO": "15551234888"},
    )
    (request,) = server.requests
    head, _, body = request.partition(b"\r\n\r\n")
    line, *headers = head.lower().split(b"\r\n")
    assert line == b"post /api/wxml/1.3/index.php http/1.1"
    assert {
        b"content-type: application/x-www-form-urlencoded",
        b"user-agent: skycore-async/%s" % __version__.encode(),
        b"accept: text/xml",
        b"accept-encoding: identity",
        b"content-length: %d" % len(body),
    } <= set(headers)
    assert elements(parse_qs(body.decode("ascii"))["xml"][0]) == elements(PAGE_REQUEST)


async def test_the_api_pages_example_over_get(open_client: OpenClient) -> None:
    """With `method="GET"` the URL of the API's page goes out, character for character."""
    with FaultServer(ANSWERED) as server:
        async with open_client(server.url, method="GET") as client:
            await send(client, text="Hello Jerry, Greetings from Marc")
    target = server.requests[0].split(b" ")[1].decode()
    assert target == PAGE_GET.removeprefix("https://secure.skycore.com")
    assert server.requests[0].endswith(b"\r\n\r\n")


async def test_no_cache_on_the_way_answers_a_get(open_client: OpenClient) -> None:
    """A GET forbids caches, which could answer an equal message without sending it."""
    with FaultServer(ANSWERED) as server:
        async with open_client(server.url, method="GET") as client:
            await send(client)
    assert b"\r\ncache-control: no-cache, no-store\r\n" in server.requests[0].lower()


@pytest.mark.parametrize("answered", ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_means_the_same_over_sockets(answered: Answer) -> None:
    """Each answer of the wire table has its outcome when a server gives it."""
    reply = answer(answered.body, status=f"{answered.status} Any", headers=answered.headers)
    outcome: Accepted | SkycoreError
    with FaultServer((Read(), Send(reply))) as server:
        async with SkycoreClient(
            api_key=KEY, from_="60856", base_url=server.url, max_attempts=1
        ) as client:
            try:
                outcome = await send(client)
            except SkycoreError as error:
                outcome = error
    check(answered, outcome)
    assert len(server.requests) == 1


async def test_every_field_is_passed_on() -> None:
    """`send_sms` takes every field of SMS, and sends all of them but `key`."""
    transport = RecordingTransport()
    async with (
        MemoryLedger() as ledger,
        SkycoreClient(api_key=KEY, transport=transport, ledger=ledger) as client,
    ):
        accepted = await client.send_sms(
            to="15551234888",
            text="Hello",
            from_="60856",
            campaign_ref="77676",
            spid="0001470",
            operator_id="31",
            from_mask="Jerry",
            key="order-17",
        )
    assert accepted.message == SMS(
        to="15551234888",
        text="Hello",
        from_="60856",
        campaign_ref="77676",
        spid="0001470",
        operator_id="31",
        from_mask="Jerry",
        key="order-17",
    )
    assert transport.documents == [
        {
            "ACTION": "sendSMS",
            "API_KEY": KEY,
            "SPID": "0001470",
            "OPERATORID": "31",
            "TO": "15551234888",
            "FROM": "60856",
            "FROM_MASK": "Jerry",
            "CAMPAIGNREF": "77676",
            "TEXT": "Hello",
        }
    ]


async def test_a_refused_message_reaches_no_transport() -> None:
    """An invalid message reaches no transport."""
    transport = RecordingTransport()
    async with SkycoreClient(
        api_key=KEY,
        from_="60856",
        transport=transport,
        max_segments=1,
        enforce_campaign_check=True,
    ) as client:
        for fields in (
            {"to": "none"},
            {"campaign_ref": "1", "text": "x" * 161},
            {"text": "no campaign"},
        ):
            with pytest.raises(InvalidMessage):
                await send(client, **fields)
    assert not transport.requests


async def test_many_at_once_are_not_mixed_up(open_client: OpenClient) -> None:
    """Each of many concurrent messages gets the answer to its own request."""

    def script(number: int) -> Any:
        body = SUCCESS.replace(b"12345", b"%d" % number)
        return (Read(), Send(answer(body)))

    answered: list[str] = []

    async def one(client: SkycoreClient) -> None:
        answered.append(str((await send(client)).tracking_id))

    with FaultServer(*map(script, range(20))) as server:
        async with open_client(server.url) as client, anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(one, client)
    assert sorted(answered) == sorted(f"SMS_{number}" for number in range(20))


# --- Settings -----------------------------------------------------------------


async def test_the_environment_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """SKYCORE_API_KEY, SKYCORE_FROM and SKYCORE_BASE_URL replace settings not given."""
    with FaultServer(KEPT_ALIVE) as server:
        monkeypatch.setenv("SKYCORE_API_KEY", f" {KEY}\n")
        monkeypatch.setenv("SKYCORE_FROM", "60856")
        monkeypatch.setenv("SKYCORE_BASE_URL", server.url)
        async with SkycoreClient() as client:
            await send(client)
    body = server.requests[0].partition(b"\r\n\r\n")[2].decode()
    fields = elements(parse_qs(body)["xml"][0])
    assert (fields["API_KEY"], fields["FROM"]) == (KEY, "60856")


async def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument wins over the environment."""
    monkeypatch.setenv("SKYCORE_API_KEY", "of the environment")
    monkeypatch.setenv("SKYCORE_FROM", "1")
    monkeypatch.setenv("SKYCORE_BASE_URL", "http://environment.example/")
    transport = RecordingTransport()
    async with SkycoreClient(
        api_key=KEY, from_="60856", base_url="http://given.example/", transport=transport
    ) as client:
        await send(client)
    assert transport.requests[0].url == "http://given.example/"
    assert (transport.documents[0]["API_KEY"], transport.documents[0]["FROM"]) == (KEY, "60856")


async def test_without_an_address_it_is_the_providers() -> None:
    """Without `base_url` the provider's endpoint is used."""
    transport = RecordingTransport()
    async with SkycoreClient(api_key=KEY, from_="60856", transport=transport) as client:
        await send(client)
    assert transport.requests[0].url == urlsplit(PAGE_GET)._replace(query="").geturl()
    assert transport.timeouts == pytest.approx([30], abs=1)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no key": ({"api_key": None}, "SKYCORE_API_KEY"),
    "blank key": ({"api_key": " \n"}, "SKYCORE_API_KEY"),
    "key of bytes": ({"api_key": KEY.encode()}, "api_key: a str is needed"),
    "key with a line break": ({"api_key": "two\nlines"}, "no API key has"),
    "key outside ASCII": ({"api_key": "schlüssel"}, "no API key has"),
    "timeout of 0": ({"timeout": 0}, "timeout: 0"),
    "timeout below 0": ({"timeout": -1}, "timeout: -1"),
    "timeout of more than a day": ({"timeout": 86_401}, "timeout: 86401"),
    "timeout without an end": (
        {"timeout": float("inf")},
        "timeout: inf is not above 0 and at most",
    ),
    "timeout that is no number": ({"timeout": float("nan")}, "timeout: nan"),
    "timeout of text": ({"timeout": "30"}, "timeout: a number of seconds is needed, not str"),
    "no timeout": ({"timeout": None}, "timeout: a number of seconds is needed, not NoneType"),
    "attempts of text": ({"max_attempts": "3"}, "max_attempts: a whole number is needed, not str"),
    "half a segment": ({"max_segments": 1.5}, "max_segments: a whole number is needed, not float"),
    "short code as a number": ({"from_": 60856}, "from_: a str is needed, not int"),
    "campaign as a number": ({"campaign_ref": 77676}, "campaign_ref: a str is needed, not int"),
    "check of text": (
        {"enforce_campaign_check": "no"},
        "enforce_campaign_check: True or False is needed, not str",
    ),
    "max_attempts of 0": ({"max_attempts": 0}, "max_attempts: 0"),
    "max_segments of 0": ({"max_segments": 0}, "max_segments: 0"),
    "country for a reader": ({"number_reader": "US"}, "number_reader: 'US' cannot be called"),
    "unknown method": ({"method": "PUT"}, "method: 'PUT'"),
    "methods": ({"method": ["POST"]}, "method: "),
    "no scheme": ({"base_url": "secure.skycore.com/API"}, "no http or https URL"),
    "other scheme": ({"base_url": "ftp://secure.skycore.com/"}, "no http or https URL"),
    "no host": ({"base_url": "https:///API"}, "no http or https URL"),
    "impossible port": ({"base_url": "https://skycore.example:x/"}, "no URL"),
    "line break in the URL": ({"base_url": "https://skycore.example/\n"}, "no URL"),
    "broken IPv6": ({"base_url": "https://[::1/"}, "no URL"),
    "URL of bytes": ({"base_url": b"https://skycore.example/"}, "no URL"),
    "query": ({"base_url": "https://skycore.example/?a=b"}, "no query"),
    "fragment": ({"base_url": "https://skycore.example/#a"}, "no fragment"),
    "user": ({"base_url": "https://user:word@skycore.example/"}, "no user"),
    "no connections": ({"max_in_flight": 0}, "max_in_flight: 0"),
    "connections of text": ({"max_in_flight": "50"}, "max_in_flight: '50' is no int above 0"),
    "burst of text": ({"burst": "2"}, "burst: a whole number is needed, not str"),
    "rate of text": ({"rate": "20"}, "rate: '20' is neither a number"),
    "unknown transport": ({"transport": "quick"}, "neither a Transport, 'fast' nor 'httpx'"),
    "a client for a transport": (
        {"transport": httpx.AsyncClient(verify=False)},  # noqa: S501
        "an AsyncClient is given as http_client=",
    ),
    "one of httpx's transports": (
        {"transport": httpx.AsyncHTTPTransport(verify=False)},
        "AsyncHTTPTransport is no Transport",
    ),
    "a class for a transport": (
        {"transport": RecordingTransport},
        "RecordingTransport is no Transport",
    ),
    "two transports": (
        {"transport": RecordingTransport(), "http_client": httpx.AsyncClient(verify=False)},  # noqa: S501
        "not both",
    ),
    "synchronous client": ({"http_client": httpx.Client(verify=False)}, "AsyncClient"),  # noqa: S501
}


@pytest.mark.parametrize(("settings", "text"), WRONG.values(), ids=WRONG)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], text: str) -> None:
    """A setting that cannot work raises ConfigurationError, a ValueError, at construction."""
    with pytest.raises(ConfigurationError, match=text) as caught:
        SkycoreClient(**{"api_key": KEY, **settings})
    assert isinstance(caught.value, ValueError)


OPTIONS = (
    "key of bytes",
    "short code as a number",
    "timeout of 0",
    "max_segments of 0",
    "country for a reader",
    "unknown method",
    "query",
    "user",
)


@pytest.mark.parametrize(
    ("settings", "text"), [WRONG[name] for name in OPTIONS] + [({"api_key": ""}, "no API key")]
)
def test_a_view_is_checked_too(settings: dict[str, Any], text: str) -> None:
    """`with_options` refuses what the constructor refuses, and takes no key from outside."""
    client = SkycoreClient(api_key=KEY, transport=RecordingTransport())
    with pytest.raises(ConfigurationError, match=text):
        client.with_options(**settings)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("timout", "argument 'timout': did you mean 'timeout'?"),
        ("max_in_flight", "argument 'max_in_flight': connections, rate, .* to SkycoreClient"),
    ],
)
def test_an_unknown_option_of_a_view_is_named(name: str, text: str) -> None:
    """An unknown option raises TypeError that suggests the right name or place."""
    client = SkycoreClient(api_key=KEY, transport=RecordingTransport())
    settings: dict[str, Any] = {name: 5}
    with pytest.raises(TypeError, match=text):
        client.with_options(**settings)


def test_there_is_no_view_over_a_ledger_for_a_client_without_one() -> None:
    """A client without ledger gives no view with one."""
    client = SkycoreClient(api_key=KEY, from_="60856")
    with pytest.raises(ConfigurationError, match="ledger: there is nothing to view"):
        client._over(MemoryLedger(), max_in_flight=1)


def test_a_client_can_be_made_outside_an_event_loop() -> None:
    """A client can be made outside an event loop, and leaves nothing to close."""
    client = SkycoreClient(api_key=KEY, from_="60856")
    assert repr(client) == (
        "<SkycoreClient base_url='https://secure.skycore.com/API/wxml/1.3/index.php'"
        " from_='60856'>"
    )


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_client_made_outside_an_event_loop_sends_inside(backend: str) -> None:
    """A client made at module level sends in a later event loop."""
    with FaultServer(ANSWERED) as server:
        client = SkycoreClient(api_key=KEY, from_="60856", base_url=server.url)

        async def main() -> str | None:
            async with client:
                return (await send(client)).tracking_id

        assert anyio.run(main, backend=backend) == "SMS_12345"


# --- Its life -----------------------------------------------------------------


async def test_a_client_works_without_async_with(open_client: OpenClient) -> None:
    """A client works without `async with`, if `aclose` is called."""
    with FaultServer(KEPT_ALIVE) as server:
        client = SkycoreClient(api_key=KEY, from_="60856", base_url=server.url)
        await send(client)
        await client.aclose()
        assert server.hung_up()
        # And where `async with` is used, leaving it is the same.
        async with open_client(server.url) as client:
            await send(client)
        assert server.hung_up()


async def test_a_client_may_be_closed_in_another_task() -> None:
    """A client may be opened, used and closed in three different tasks."""
    with FaultServer(KEPT_ALIVE) as server:
        client = SkycoreClient(api_key=KEY, from_="60856", base_url=server.url)

        async def close() -> None:
            await client.__aexit__(None, None, None)

        for step in (client.__aenter__, lambda: send(client), close):
            with anyio.fail_after(5):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(step)
        assert server.hung_up()
        assert len(server.requests) == 1


@pytest.mark.parametrize("road", ["fast", "httpx"])
async def test_the_proxy_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, road: Road
) -> None:
    """A client sends through the proxy that HTTP_PROXY names."""
    with FaultServer(ANSWERED) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.port}")
        async with SkycoreClient(
            api_key=KEY, from_="60856", base_url="http://skycore.invalid/API/", transport=road
        ) as client:
            assert (await client.send_sms(to="15551234888", text="Hello")).tracking_id
        assert b"http://skycore.invalid/API/" in proxy.requests[0]


@pytest.mark.parametrize(
    ("environment", "base_url", "proxy"),
    [
        ({}, "https://secure.example/", None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "https://secure.example/", "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://secure.example/", None),
        ({"ALL_PROXY": "socks5://proxy"}, "https://secure.example/", "socks5://proxy"),
        (
            {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": ".example"},
            "https://secure.example/",
            None,
        ),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://127.0.0.1:8000/", None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://[::1]:8000/", None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://localhost:8000/", None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://10.1.2.3/", "http://proxy:3128"),
    ],
)
def test_the_environment_names_a_proxy_and_its_exceptions(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], base_url: str, proxy: str | None
) -> None:
    """The proxy is chosen by scheme; NO_PROXY and this machine are left out."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = environment_proxy(base_url)
    assert (found and str(found.url)) == proxy


@pytest.mark.parametrize(
    ("road", "proxy", "transport"),
    [
        (None, None, HttpxTransport),
        ("httpx", None, HttpxTransport),
        ("fast", None, DirectTransport),
        ("fast", "http://proxy:3128", DirectTransport),
        ("fast", "socks5://proxy", HttpxTransport),
    ],
)
async def test_a_transport_is_chosen_by_name(
    monkeypatch: pytest.MonkeyPatch,
    road: Road | None,
    proxy: str | None,
    transport: type[Transport],
) -> None:
    """The name "fast" or "httpx" chooses the transport; httpx is the default, and for SOCKS."""
    if proxy is not None:
        monkeypatch.setenv("ALL_PROXY", proxy)
    async with SkycoreClient(api_key=KEY, transport=road) as client:
        assert type(client._dispatcher.transport) is transport


async def test_a_transport_is_closed_with_its_client() -> None:
    """A given transport is closed by its client, but not by a view."""
    transport = RecordingTransport()
    assert isinstance(transport, Transport)
    async with SkycoreClient(api_key=KEY, from_="60856", transport=transport) as client:
        async with client.with_options(timeout=1) as view:
            await send(view)
        assert transport.closed == 0
        await send(client)
    assert transport.closed == 1


# --- Views --------------------------------------------------------------------


@pytest.mark.parametrize("road", [None, "fast"])
async def test_a_view_of_an_address_with_another_proxy_is_refused(
    monkeypatch: pytest.MonkeyPatch, road: Road | None
) -> None:
    """`with_options` refuses a `base_url` that needs another proxy than the client's."""
    monkeypatch.setenv("NO_PROXY", "inside.invalid")
    with FaultServer(ANSWERED) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        outside, inside = "http://outside.invalid/", "http://inside.invalid/"
        for base_url, other in ((outside, inside), (inside, outside)):
            async with SkycoreClient(api_key=KEY, base_url=base_url, transport=road) as client:
                with pytest.raises(ConfigurationError, match="make a client of its own"):
                    client.with_options(base_url=other)
        async with SkycoreClient(
            api_key=KEY, from_="60856", base_url=outside, transport=road
        ) as client:
            await send(client.with_options(base_url="http://beside.invalid/"))
        assert [b"http://beside.invalid/" in each for each in proxy.requests] == [True]
        async with SkycoreClient(
            api_key=KEY, base_url=outside, transport=RecordingTransport()
        ) as client:
            client.with_options(base_url=inside)  # which has its own way


async def test_a_view_shares_connections(open_reusing_client: OpenClient) -> None:
    """A view uses the client's connections, and closing the view closes none."""
    with FaultServer(KEPT_ALIVE) as server:
        async with open_reusing_client(server.url) as client:
            await send(client)
            async with client.with_options(campaign_ref="1") as view:
                await send(view)
            await view.aclose()
            await send(client)
        assert (server.connections, len(server.requests)) == (1, 3)


async def test_a_view_has_its_own_settings() -> None:
    """A view has each option that it names, and the client's for all others."""
    transport = RecordingTransport()
    async with SkycoreClient(
        api_key=KEY, from_="60856", campaign_ref="1", timeout=7, transport=transport
    ) as client:
        view = client.with_options(
            api_key="another key\n", from_=None, campaign_ref="2", timeout=3
        )
        again = view.with_options(from_="4", base_url="http://other.example/", method="GET")
        with pytest.raises(InvalidMessage, match="no short code"):
            await send(view)
        await send(client)
        await send(view, from_="3")
        await send(again)
        with pytest.raises(InvalidMessage, match="max_segments"):
            await send(view.with_options(max_segments=1, from_="1"), text="x" * 161)
        with pytest.raises(InvalidMessage, match="Enforce"):
            await send(client.with_options(enforce_campaign_check=True, campaign_ref=None))
    names = ("API_KEY", "FROM", "CAMPAIGNREF")
    assert [[document[name] for name in names] for document in transport.documents] == [
        [KEY, "60856", "1"],
        ["another key", "3", "2"],
    ]
    assert transport.timeouts == pytest.approx([7, 3, 3], abs=1)
    assert transport.requests[2].target == (
        "http://other.example/?action=sendsms&api_key=another+key&to=15551234888&from=4"
        "&campaignref=2&text=Hello+Jerry"
    )


# --- Logs ---------------------------------------------------------------------


def test_a_number_is_masked_but_for_its_end() -> None:
    """A masked number shows its last four digits."""
    assert masked("15551234888") == "*******4888"


QUOTING = "<ERRORINFO>15551234888 does not want: Hello Jerry</ERRORINFO>"
LOGGED = {
    "Success with an odd tracking id": (
        SUCCESS.replace(b"SMS_12345", b"SMS_1\n2026-01-01 ERROR \xc2\x9b31m"),
        "DEBUG",
        "SMS to *******4888 accepted as an odd tracking id",
    ),
    "Failure with an odd code": (
        failure("<ERRORCODE>15551234888</ERRORCODE>"),
        "INFO",
        "SMS to *******4888: Rejected: an odd error code",
    ),
    "Success": (SUCCESS, "DEBUG", "SMS to *******4888 accepted as SMS_12345"),
    "Failure": (
        failure("<ERRORCODE>E715</ERRORCODE>", QUOTING),
        "INFO",
        "SMS to *******4888: NotSubscribed: E715",
    ),
    "no code": (failure("", QUOTING), "INFO", "SMS to *******4888: Rejected: no error code"),
    "pace": (
        failure("<ERRORCODE>E106</ERRORCODE>", QUOTING),
        "INFO",
        "SMS to *******4888: Throttled: E106",
    ),
    "E503": (
        failure("<ERRORCODE>E503</ERRORCODE>", QUOTING),
        "WARNING",
        "SMS to *******4888: OutcomeUnknown: E503",
    ),
    "doubt": (
        b"<RESPONSE><STATUS>Success</STATUS></RESPONSE>",
        "WARNING",
        "SMS to *******4888: OutcomeUnknown: HTTP 200 with Success without a TRACKINGID",
    ),
}


@pytest.mark.parametrize(("body", "level", "message"), LOGGED.values(), ids=LOGGED)
async def test_an_outcome_is_logged_with_number_and_text_masked(
    body: bytes, level: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each outcome is logged once, with number and text masked, and doubt as a warning."""
    caplog.set_level(logging.DEBUG)
    async with SkycoreClient(
        api_key=KEY, from_="60856", transport=RecordingTransport(body), max_attempts=1
    ) as client:
        with suppress(Rejected, Throttled, OutcomeUnknown):
            await send(client)
    ours = [record for record in caplog.records if record.name == "skycore_async"]
    assert [(record.levelname, record.getMessage()) for record in ours] == [(level, message)]


async def test_a_failed_connection_is_logged_in_its_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A failed connection is logged with its error text unchanged."""
    caplog.set_level(logging.INFO, "skycore_async")
    with refused() as url:
        async with SkycoreClient(
            api_key=KEY, from_="60856", base_url=url, max_attempts=1
        ) as client:
            with pytest.raises(NotSent) as caught:
                await send(client)
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert record.getMessage() == f"SMS to *******4888: NotSent: {caught.value}"


class RaisingHandler(logging.Handler):
    """A handler of the program that raises."""

    def handle(self, record: logging.LogRecord) -> bool:
        raise LookupError("no database")


async def test_an_exception_of_a_logging_handler_loses_no_outcome(
    open_client: OpenClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A logging handler that raises during an exchange costs no outcome."""
    caplog.set_level(logging.DEBUG)
    handler = RaisingHandler()
    with FaultServer(KEPT_ALIVE) as server:
        async with open_client(server.url, max_in_flight=2) as client:
            logging.getLogger().addHandler(handler)
            try:
                for _ in range(5):
                    assert (await send(client)).tracking_id == "SMS_12345"
            finally:
                logging.getLogger().removeHandler(handler)
        assert len(server.requests) == 5
