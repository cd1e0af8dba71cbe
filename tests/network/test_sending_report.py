"""A sending report as its readers meet it: over real sockets, whole or not."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import parse_qs

import anyio
import httpx
import pytest

from skycore_async import (
    LookupTooSoon,
    MemoryLedger,
    OutcomeUnknown,
    PeriodTooLong,
    RateLimiter,
    ReportedMessage,
    ReportError,
    ReportSection,
    SendingReport,
    SkycoreClient,
    Transport,
)
from skycore_async.ledger.report_evidence import OpenReason
from skycore_async.sending.report_requests import settle
from skycore_async.transports import download
from skycore_async.transports.base import Request, Response
from tests.conftest import KEY, OpenClient, over_http_client, over_httpx
from tests.network.test_fault_matrix import BOTH_CANCELS, Cancel
from tests.support.fault_server import (
    Drip,
    FaultServer,
    Hang,
    Hold,
    Read,
    Reply,
    Reset,
    Script,
    Secure,
    Send,
    answer,
    html,
)
from tests.support.ledger_cases import NOON, Clock
from tests.support.report_worlds import History, Sending, send

pytestmark = pytest.mark.anyio

SINCE = datetime(2012, 4, 30, 12, tzinfo=UTC)
UNTIL = SINCE + timedelta(hours=4)
CLOSE = {"Connection": "close"}
PATH = "/reports/17.xml?token=x"


def row(id_: int, *, at: datetime | None = None) -> str:
    ack = f'<ACK time="{at:%Y-%m-%dT%H:%M:%SZ}"/>' if at else ""
    return f'<TEXT id="{id_}" to="15551234888" text="Hello {id_}">{ack}</TEXT>'


def report(*rows: str) -> bytes:
    return f"<RESPONSE><SENDING_LIST>{''.join(rows)}</SENDING_LIST></RESPONSE>".encode()


WHOLE = report(row(1), row(2))


def linking(
    path: str = PATH,
    *,
    scheme: str = "http",
    host: str = "",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Script:
    """Answer a look-up with a link to a path of the same server, or another link."""

    def make(request: bytes) -> bytes:
        own = request.partition(b"\r\nHost: ")[2].partition(b"\r\n")[0].decode()
        link = f"{scheme}://{host or own}{path}".replace("&", "&amp;")
        said = f"<RESPONSE><STATUS>Success</STATUS><URL>{link}</URL></RESPONSE>"
        return answer(said.encode(), headers={**CLOSE, **headers})

    return (Read(), Reply(make))


def failing(code: str) -> Script:
    said = f"<RESPONSE><STATUS>Failure</STATUS><ERRORCODE>{code}</ERRORCODE></RESPONSE>"
    return (Read(), Send(answer(said.encode(), headers=CLOSE)))


def giving(body: bytes, **headers: str) -> Script:
    return (Read(), Send(answer(body, headers=headers)))


async def read(report: SendingReport) -> list[str]:
    """Read a report to its end, and return its ids."""
    async with report:
        return [message.history_id async for message in report]


async def broken(client: SkycoreClient) -> tuple[list[str], ReportError]:
    """Read a report that does not come whole, and return its ids and the error."""
    ids: list[str] = []
    report = client.sending_report(SINCE, UNTIL)

    async def read_into_ids() -> None:
        async with report:
            async for message in report:
                ids.append(message.history_id)  # noqa: PERF401 - it raises

    with pytest.raises(ReportError) as caught:
        await read_into_ids()
    assert not report.complete
    assert report.covered_until == SINCE
    assert KEY not in str(caught.value)
    return ids, caught.value


async def test_a_report_is_read_over_each_transport(open_client: OpenClient) -> None:
    """A report is looked up over each transport, and downloaded without the key."""
    with FaultServer(linking(), giving(WHOLE)) as server:
        async with open_client(server.url) as client:
            report = client.sending_report(SINCE, UNTIL)
            assert not report.complete
            async with report:
                messages = [message async for message in report]
            assert report.complete
            assert report.covered_until == UNTIL
        looked_up, downloaded = server.requests
    assert messages == [
        ReportedMessage(
            history_id=str(id_),
            to="15551234888",
            text=f"Hello {id_}",
            section=ReportSection.SENDING_LIST,
        )
        for id_ in (1, 2)
    ]
    document = parse_qs(looked_up.partition(b"\r\n\r\n")[2].decode())["xml"][0]
    assert "<ACTION>getSendingStatus</ACTION>" in document
    assert "<START_DATE>2012-04-30 12:00:00</START_DATE>" in document
    assert "<END_DATE>2012-04-30 16:00:00</END_DATE>" in document
    assert downloaded.startswith(f"GET {PATH} HTTP/1.1\r\n".encode())
    assert KEY.encode() not in downloaded


async def test_a_report_is_looked_up_by_get(open_client: OpenClient) -> None:
    """With `method="GET"` the look-up's fields are in the URL."""
    with FaultServer(linking(), giving(WHOLE)) as server:
        async with open_client(server.url, method="GET") as client:
            assert await read(client.sending_report(SINCE, UNTIL)) == ["1", "2"]
        assert b"action=getsendingstatus&" in server.requests[0].partition(b"\r\n")[0]


class OwnTransport:
    """A caller's own transport, which cannot download."""

    def __init__(self, link: str) -> None:
        self._link = link

    async def send(self, request: Request, *, timeout: float) -> Response:
        body = f"<RESPONSE><URL>{self._link}</URL></RESPONSE>".encode()
        return Response(status=200, headers={}, body=body)

    async def aclose(self) -> None:
        pass


async def test_a_report_is_downloaded_beside_a_transport_of_ones_own() -> None:
    """Beside a caller's own transport a report is downloaded over httpx."""
    with FaultServer(giving(WHOLE)) as server:
        transport = OwnTransport(server.url)
        async with SkycoreClient(transport=transport, api_key=KEY, base_url=server.url) as client:
            assert await read(client.sending_report(SINCE, UNTIL)) == ["1", "2"]


class OwnWithDownloads(OwnTransport):
    """A caller's own transport that says how to download."""

    def __init__(self, link: str, download: httpx.AsyncBaseTransport) -> None:
        super().__init__(link)
        self._download = download

    def for_downloads(self) -> httpx.AsyncBaseTransport:
        return self._download


class Wrapper:
    """A transport around another one, which passes on all but one of its methods."""

    def __init__(self, around: Transport) -> None:
        self._around = around

    async def send(self, request: Request, *, timeout: float) -> Response:
        return await self._around.send(request, timeout=timeout)

    async def aclose(self) -> None:
        await self._around.aclose()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._around, name)


class ClosedAfter(httpx.MockTransport):
    """A client that notes that it was closed."""

    is_closed = False

    async def aclose(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("is_wrapped", [False, True])
async def test_a_transport_of_ones_own_says_how_reports_are_downloaded(is_wrapped: bool) -> None:
    """A caller's own transport may say how reports are downloaded."""
    asked: list[str] = []

    def answered(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, content=WHOLE)

    link, by = "https://reports.example/17.xml", ClosedAfter(answered)
    transport: Transport = OwnWithDownloads(link, by)
    if is_wrapped:
        transport = Wrapper(transport)
    async with SkycoreClient(transport=transport, api_key=KEY) as client:
        assert await read(client.sending_report(SINCE, UNTIL)) == ["1", "2"]
    assert asked == [link]
    assert by.is_closed


# What comes in place of the report, and how much of it is read before that is told.
BROKEN: dict[str, tuple[Script, int]] = {
    "breaks off": ((Read(), Send(answer(WHOLE)[:-30])), 1),
    "breaks off, then a reset": ((Read(), Send(answer(WHOLE)[:-30]), Reset()), 1),
    "breaks off without a length": (
        (Read(), Send(b"HTTP/1.0 200 OK\r\n\r\n" + WHOLE[:-30])),
        1,
    ),
    "hangs": ((Read(), Send(answer(WHOLE)[:-30]), Hang()), 1),
    "never begins": ((Read(), Hang()), 0),
    "is not there": ((Read(), Send(html("404 Not Found"))), 0),
    "is an HTML page": (giving(b"<html>Log in</html>"), 0),
    "is empty": (giving(b""), 0),
    "has no end": (giving(WHOLE.replace(b"</RESPONSE>", b"")), 2),
    "is compressed in another way": (giving(WHOLE, **{"Content-Encoding": "br"}), 0),
    "is not compressed as it says": (giving(WHOLE, **{"Content-Encoding": "gzip"}), 0),
    "is compressed, and breaks off": (
        giving(gzip.compress(WHOLE)[:-4], **{"Content-Encoding": "gzip"}),
        2,
    ),
    "is compressed, with something behind": (giving(gzip.compress(WHOLE) + b"more"), 2),
    "begins as if compressed": (giving(b"\x1f"), 0),
    "no HTTP": ((Read(), Send(b"220 smtp.example ESMTP\r\n")), 0),
    "is redirected to nowhere": (
        (Read(), Send(html("302 Found", Location="https://a.example:x/"))),
        0,
    ),
    "is redirected without an address": ((Read(), Send(html("302 Found", Location=""))), 0),
    "is redirected to another host": (
        (Read(), Send(html("302 Found", Location="http://127.0.0.1:9/"))),
        0,
    ),
    "is redirected on and on": ((Read(), Send(html("307 Again", Location=PATH))), 0),
    "is redirected with the key": (
        (Read(), Send(html("302 Found", Location=f"https://a.example/?k={KEY}"))),
        0,
    ),
}


@pytest.mark.parametrize(("script", "count"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("open_it", [over_httpx, over_http_client], ids=["own", "http_client"])
async def test_a_report_that_does_not_come_whole_is_not_complete(
    open_it: OpenClient, script: Script, count: int
) -> None:
    """A broken report yields its messages, then an error; no message is in doubt for it."""
    with FaultServer(linking(), script) as server:
        async with open_it(server.url, timeout=0.3 if Hang() in script else 5) as client:
            ids, error = await broken(client)
        assert server.connections <= 2 + download.MAX_REDIRECTS
    assert ids == ["1", "2"][:count]
    assert not isinstance(error, OutcomeUnknown)
    if isinstance(script[1], Send) and b"Location: " in script[1].data:
        # httpx itself refuses what is no address, in a client of its.
        assert " link to " in str(error) or "RemoteProtocolError" in str(error)


REFUSED_LINKS: dict[str, Script] = {
    "another port, by http": linking(host="127.0.0.1:9"),
    "another host, by http": linking(host="reports.example"),
    "another scheme": linking(scheme="ftp"),
    "with a user": linking(host="me:secret@reports.example", scheme="https"),
    "no host": linking(host="/", scheme="https"),
    "no port": linking(host="reports.example:x", scheme="https"),
    "the key at another host": linking(f"/?key={KEY}", host="reports.example", scheme="https"),
}


@pytest.mark.parametrize("link", REFUSED_LINKS.values(), ids=REFUSED_LINKS)
async def test_a_link_that_leads_elsewhere_is_not_followed(link: Script) -> None:
    """A link that is neither https nor the API's own is not followed."""
    with FaultServer(link, giving(WHOLE)) as server:
        async with over_httpx(server.url) as client:
            ids, error = await broken(client)
        assert (ids, server.connections) == ([], 1)
    assert " link to " in str(error)


async def test_a_link_of_the_apis_own_may_have_the_key() -> None:
    """A link to the API itself may contain the key."""
    with FaultServer(linking(f"/?api_key={KEY}&x=1"), giving(WHOLE)) as server:
        async with over_httpx(server.url) as client:
            assert await read(client.sending_report(SINCE, UNTIL)) == ["1", "2"]


async def test_no_cache_on_the_way_gives_a_report(open_client: OpenClient) -> None:
    """A report's download forbids caches."""
    with FaultServer(linking(), giving(WHOLE)) as server:
        async with open_client(server.url) as client:
            assert await read(client.sending_report(SINCE, UNTIL)) == ["1", "2"]
    assert b"\r\ncache-control: no-cache, no-store\r\n" in server.requests[1].lower()


async def test_redirects_are_followed(open_client: OpenClient) -> None:
    """A download follows redirects, to another host only over trusted TLS."""
    with FaultServer((Secure(), *giving(WHOLE))) as elsewhere:
        moved = (Read(), Send(html("301 Moved", Location="/b")))
        found = (Read(), Send(html("302 Found", Location=elsewhere.secure_url)))
        with FaultServer(linking(), moved, found) as server:
            async with open_client(server.url) as client:
                assert await read(client.sending_report(SINCE, UNTIL)) == ["1", "2"]
        assert len(elsewhere.requests) == 1


async def test_credentials_of_the_api_go_to_no_other_host() -> None:
    """The authentication and cookies of a caller's client are not sent with a download."""
    with FaultServer(linking(), giving(WHOLE)) as server:
        async with over_http_client(server.url) as client:
            http_client = client._dispatcher.transport._http_client  # type: ignore[attr-defined]
            http_client.auth = ("me", "secret")
            http_client.headers["Authorization"] = "Bearer secret"
            http_client.cookies.set("session", "secret")
            assert await read(client.sending_report(SINCE, UNTIL)) == ["1", "2"]
        looked_up, downloaded = (request.lower() for request in server.requests)
    assert b"authorization" in looked_up
    assert b"authorization" not in downloaded
    assert b"cookie" not in downloaded


async def test_an_answer_that_a_hook_has_read_is_read_again() -> None:
    """A compressed report that a response hook has read is read."""
    packed = giving(gzip.compress(WHOLE), **{"Content-Encoding": "gzip"})
    with FaultServer(linking(), packed) as server:
        async with over_http_client(server.url) as client:
            http_client = client._dispatcher.transport._http_client  # type: ignore[attr-defined]
            http_client.event_hooks = {"response": [lambda response: response.aread()]}
            assert await read(client.sending_report(SINCE, UNTIL)) == ["1", "2"]


COMPRESSED = {
    "as it says": giving(gzip.compress(WHOLE), **{"Content-Encoding": "gzip"}),
    "by zlib": giving(zlib.compress(WHOLE), **{"Content-Encoding": "deflate"}),
    "without saying": giving(gzip.compress(WHOLE), **{"Content-Type": "application/gzip"}),
    "in parts": giving(gzip.compress(WHOLE[:90]) + gzip.compress(b"") + gzip.compress(WHOLE[90:])),
    "byte by byte": (
        Read(),
        *(Send(bytes([byte])) for byte in answer(gzip.compress(WHOLE))),
    ),
}


@pytest.mark.parametrize("script", COMPRESSED.values(), ids=COMPRESSED)
async def test_a_compressed_report_is_written_out(script: Script) -> None:
    """A compressed report is decompressed, however its compression is declared."""
    with FaultServer(linking(), script) as server:
        async with over_httpx(server.url) as client:
            assert await read(client.sending_report(SINCE, UNTIL)) == ["1", "2"]


@pytest.mark.slow
async def test_a_report_that_unpacks_to_too_much_takes_no_memory() -> None:
    """A report that decompresses to much white space is read in bounded memory."""
    space = b" " * (1024 * 1024)
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(WHOLE[:10]) + b"".join(packer.compress(space) for _ in range(30))
    packed += packer.compress(WHOLE[10:]) + packer.flush()
    with FaultServer(linking(), giving(packed)) as server:
        async with over_httpx(server.url) as client:
            report = client.sending_report(SINCE, UNTIL)
            async with report:
                tracemalloc.start()
                try:
                    ids = [message.history_id async for message in report]
                    _, peak = tracemalloc.get_traced_memory()
                finally:
                    tracemalloc.stop()
    assert ids == ["1", "2"]
    assert peak < 4_000_000


async def test_a_report_that_drips_is_waited_for_no_longer_than_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A report that drips is given up after its time limit."""
    monkeypatch.setattr(download, "LONGEST", 0.2)
    script = (Read(), Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"), Drip(b" "))
    with FaultServer(linking(), script) as server:
        async with over_httpx(server.url) as client:
            ids, error = await broken(client)
    assert ids == []
    assert "nothing came" in str(error)


async def test_a_look_up_that_gets_no_answer_is_no_doubt(open_client: OpenClient) -> None:
    """A look-up without answer is a ReportError, tried once, with its cause."""
    with FaultServer((Read(),)) as server:
        async with open_client(server.url) as client:
            _, error = await broken(client)
        assert len(server.requests) == 1
    assert str(error).startswith("the report cannot be looked up: no answer")
    assert error.__cause__ is not None
    assert error.__context__ is None or not isinstance(error.__context__, OutcomeUnknown)


async def test_leaving_early_ends_the_download(open_client: OpenClient) -> None:
    """Leaving a report early closes its connection."""
    with FaultServer(linking(), (Read(), Send(answer(WHOLE * 1000)[:50_000]), Hang())) as server:
        async with open_client(server.url) as client:
            async with client.sending_report(SINCE, UNTIL) as report:
                async for _ in report:
                    break
            assert await anyio.to_thread.run_sync(server.hung_up)
        assert not report.complete


@BOTH_CANCELS
@pytest.mark.parametrize(
    "scripts",
    [
        [(Read(), Hold(), Hang())],
        [linking(), (Read(), Hold(), Hang())],
        [linking(), (Read(), Send(answer(WHOLE)[:-30]), Hold(), Hang())],
    ],
    ids=["looking up", "opening", "reading"],
)
async def test_a_cancelled_reader_leaves_nothing_open(
    open_client: OpenClient, scripts: list[Script], cancel: Cancel
) -> None:
    """A cancelled report closes its connection, and the client can be used again."""
    with FaultServer(*scripts, linking(), giving(WHOLE)) as server:
        async with open_client(server.url) as client:
            report = client.sending_report(SINCE, UNTIL)
            await cancel(lambda: read(report), lambda: server.is_holding)
            server.let_go()
            assert await anyio.to_thread.run_sync(server.hung_up)
            assert not report.complete
            assert await read(client.sending_report(SINCE, UNTIL)) == ["1", "2"]


# Periods that are too long, and look-ups that are too early.


def periods(server: FaultServer) -> list[str]:
    """Return the hours of the requested periods, such as `12:00:00-13:00:00`."""
    return [f"{since:%H:%M:%S}-{until:%H:%M:%S}" for since, until in asked_for(server)]


def asked_for(server: FaultServer) -> list[tuple[datetime, datetime]]:
    """Return the requested periods."""
    asked = []
    for request in server.requests:
        body = parse_qs(request.partition(b"\r\n\r\n")[2].decode())
        if "xml" in body:
            since, until = (
                datetime.fromisoformat(body["xml"][0].partition(f"<{name}>")[2][:19])
                for name in ("START_DATE", "END_DATE")
            )
            asked.append((since, until))
    return asked


async def test_a_period_that_is_too_long_is_halved() -> None:
    """A period that is too long is halved until allowed, and each message comes once."""
    border = SINCE + timedelta(hours=1)
    first = giving(report(row(1, at=SINCE), row(2, at=border), row(3)))
    others = [
        giving(report(row(3), row(2, at=border), row(4, at=border), row(5))),
        giving(report(row(5), row(6))),
        giving(report(row(6), row(7))),
    ]
    too_long = failing("E509")
    parts = [script for part in others for script in (linking(), part)]
    with FaultServer(too_long, too_long, linking(), first, *parts) as server:
        async with over_httpx(server.url) as client:
            report_ = client.sending_report(SINCE, UNTIL)
            ids = await read(report_)
    assert ids == ["1", "2", "3", "4", "5", "6", "7"]
    assert report_.complete
    assert report_.period == timedelta(hours=1)
    assert periods(server) == [
        *("12:00:00-16:00:00", "12:00:00-14:00:00", "12:00:00-13:00:00"),
        *("12:59:59-14:00:00", "13:59:59-15:00:00", "14:59:59-16:00:00"),
    ]


async def test_how_long_a_period_may_be_is_found_out_once() -> None:
    """Settling several days finds the allowed period once."""
    clock = Clock()
    ledger = MemoryLedger(clock=clock)
    doubts = [
        Sending(key=f"{at}", to="15551234888", text="Hello", at=at, is_doubt=True)
        for at in (0, 900_000)
    ]
    await send(ledger, clock, History(), doubts)
    scripts = [script for _ in range(4) for script in (linking(), giving(report()))]
    with FaultServer(failing("E509"), *scripts) as server:
        async with over_httpx(server.url, ledger=ledger) as client:
            await client.settle()
    lengths = [until - since for since, until in asked_for(server)]
    whole, part = timedelta(seconds=4201), timedelta(hours=1)
    rest = whole - part + timedelta(seconds=1)
    assert lengths == [whole, part, rest, part, rest]


DATES = {
    "none": ({}, {"not_sent": ("k",)}),
    "its own": ({"Date": "Tue, 14 Nov 2023 23:50:00 GMT"}, {"not_sent": ("k",)}),
    "without a zone": ({"Date": "Tue, 14 Nov 2023 23:50:00 -0000"}, {"not_sent": ("k",)}),
    "no date": ({"Date": "today"}, {"not_sent": ("k",)}),
    "behind": ({"Date": "Tue, 14 Nov 2023 23:00:00 GMT"}, {"open": (OpenReason.TOO_SOON,)}),
}


@pytest.mark.parametrize("case", DATES)
async def test_a_machine_whose_clock_is_ahead_finds_no_report_old_enough(case: str) -> None:
    """A clock that is ahead of the provider's leaves doubts open, and is reported once."""
    headers, expected = DATES[case]
    clock = Clock()
    ledger = MemoryLedger(clock=clock)
    before, after = (
        Sending(key=f"{at}", to=f"1555123400{at + 5}", text="-", at=at) for at in (-5, 4)
    )
    doubt = Sending(key="k", to="15551234888", text="Hello", at=0, is_doubt=True, is_taken=False)
    history = History()
    await send(ledger, clock, history, [before, doubt, after])
    clock.now = NOON + 5900  # it is 22:13:20 by then, and an hour and a half later
    shown = [
        f'<TEXT id="{each.history_id}" to="{each.to}" text="-"><ACK time='
        f'"{each.acknowledged_at:%Y-%m-%dT%H:%M:%SZ}"/></TEXT>'
        for each in history.report(0, clock.now, made_at=clock.now)
    ]
    with FaultServer(linking(headers=headers), giving(report(*shown))) as server:
        async with over_httpx(server.url) as client:
            settled = await settle(ledger, client.sending_report, clock=clock)
    found = {"not_sent": settled.not_sent, "open": tuple(each.reason for each in settled.open)}
    assert {name: each for name, each in found.items() if each} == expected
    assert ["clock" in each for each in settled.problems] == [True] * ("open" in expected)


async def test_two_messages_with_one_history_id_are_both_listed() -> None:
    """Two messages with one HISTORYID are both listed, also across two parts."""
    other = row(1).replace("Hello 1", "Bye")
    scripts = [linking(), giving(report(row(1))), linking(), giving(report(other, row(1)))]
    with FaultServer(*scripts) as server:
        async with over_httpx(server.url) as client:
            report_ = client.sending_report(SINCE, UNTIL, period=timedelta(hours=3))
            async with report_:
                texts = [message.text async for message in report_]
    assert texts == ["Hello 1", "Bye"]


async def test_the_same_under_one_history_id_at_another_time_is_another_message() -> None:
    """Two equal messages with one HISTORYID at different times are both listed."""
    border = SINCE + timedelta(hours=3)
    times = [border - timedelta(seconds=30), border + timedelta(seconds=30)]
    scripts = [script for at in times for script in (linking(), giving(report(row(1, at=at))))]
    with FaultServer(*scripts) as server:
        async with over_httpx(server.url) as client:
            report_ = client.sending_report(SINCE, UNTIL, period=timedelta(hours=3))
            async with report_:
                given = [message.acknowledged_at async for message in report_]
    assert given == times


async def test_a_period_that_is_allowed_exactly_is_shortened_by_the_overlap() -> None:
    """Parts stay within the allowed period, including their overlap."""
    hour = timedelta(hours=1)
    scripts = [
        *(linking(), giving(report(row(1))), failing("E509")),
        *(linking(), giving(report(row(2))), linking(), giving(report(row(3)))),
    ]
    with FaultServer(*scripts) as server:
        async with over_httpx(server.url) as client:
            report_ = client.sending_report(SINCE, SINCE + 2.5 * hour, period=hour)
            assert await read(report_) == ["1", "2", "3"]
    assert report_.complete
    assert periods(server) == [
        *("12:00:00-13:00:00", "12:59:59-14:00:00", "12:59:59-13:59:59"),
        "13:59:58-14:30:00",
    ]


async def test_a_look_up_takes_no_permit_of_the_rate_limiter() -> None:
    """A look-up takes no start of the rate limit."""
    limiter = RateLimiter(0.001)
    with FaultServer(linking(), giving(report(row(1)))) as server:
        async with over_httpx(server.url, rate=limiter) as client:
            assert await read(client.sending_report(SINCE, UNTIL)) == ["1"]
    assert limiter.start_now() is not None
    assert limiter.start_now() is None


async def test_an_hour_is_not_halved() -> None:
    """A period of an hour is not halved further."""
    with FaultServer(failing("E509")) as server:
        async with over_httpx(server.url) as client:
            with pytest.raises(PeriodTooLong):
                await read(client.sending_report(SINCE, SINCE + timedelta(hours=1.5)))
        assert periods(server) == ["12:00:00-13:30:00", "12:00:00-13:00:00"]


async def test_a_period_can_be_asked_for_in_parts_from_the_start() -> None:
    """With `period=` the report is read in parts, one after the other."""
    scripts = [linking(), giving(report(row(1))), linking(), giving(report(row(2)))]
    with FaultServer(*scripts) as server:
        async with over_httpx(server.url) as client:
            report_ = client.sending_report(SINCE, UNTIL, period=timedelta(hours=3))
            async with report_:
                assert (await anext(report_)).history_id == "1"
                assert report_.covered_until == SINCE
                assert (await anext(report_)).history_id == "2"
                assert report_.covered_until == SINCE + timedelta(hours=3)
        assert periods(server) == ["12:00:00-15:00:00", "14:59:59-16:00:00"]


async def test_a_request_that_was_too_early_succeeds_after_the_pause() -> None:
    """A report refused as too soon can be read on after the pause."""
    early, first, second = failing("E510"), giving(report(row(1))), giving(report(row(2)))
    scripts = [failing("E509"), early, linking(), first, early, linking(), second]
    with FaultServer(*scripts) as server:
        async with over_httpx(server.url) as client:
            report_ = client.sending_report(SINCE, UNTIL)
            with pytest.raises(LookupTooSoon) as caught:
                await read(report_)
            assert caught.value.retry_after == 300
            async with report_:
                assert (await anext(report_)).history_id == "1"
                with pytest.raises(LookupTooSoon):
                    await anext(report_)
                assert report_.covered_until == SINCE + timedelta(hours=2)
                assert (await anext(report_)).history_id == "2"
                assert [message async for message in report_] == []
            assert report_.complete


async def test_a_part_that_is_not_whole_ends_it() -> None:
    """A broken part ends the report, which is covered up to the part before."""
    scripts = [linking(), giving(report(row(1))), linking(), giving(WHOLE[:-20])]
    with FaultServer(*scripts) as server:
        async with over_httpx(server.url) as client:
            report_ = client.sending_report(SINCE, UNTIL, period=timedelta(hours=2))
            with pytest.raises(ReportError, match="breaks off"):
                await read(report_)
    assert report_.covered_until == SINCE + timedelta(hours=2)
    assert not report_.complete


MISUSED: dict[str, Callable[[SkycoreClient], SendingReport]] = {
    "no zone": lambda client: client.sending_report(datetime(2012, 4, 30), UNTIL),
    "no zone at the end": lambda client: client.sending_report(SINCE, datetime(2013, 1, 1)),
    "no time": lambda client: client.sending_report(cast("Any", None), UNTIL),
    "the wrong way": lambda client: client.sending_report(UNTIL, SINCE),
    "nothing": lambda client: client.sending_report(SINCE, SINCE),
    "no period": lambda client: client.sending_report(SINCE, UNTIL, period=timedelta()),
}


@pytest.mark.parametrize("make", MISUSED.values(), ids=MISUSED)
async def test_a_period_that_is_none_is_refused(make: Callable[[SkycoreClient], object]) -> None:
    """A bad period is refused with a ValueError."""
    async with over_httpx("http://127.0.0.1:9/") as client:
        with pytest.raises(ValueError, match=r"since|until|period"):
            make(client)


async def test_a_report_is_entered_first_and_once() -> None:
    """A report that is not entered, or entered twice, raises RuntimeError."""
    with FaultServer(linking(), giving(WHOLE)) as server:
        async with over_httpx(server.url) as client:
            report_ = client.sending_report(SINCE, UNTIL)
            with pytest.raises(RuntimeError, match="async with"):
                await anext(report_)
            async with report_:
                with pytest.raises(RuntimeError, match="already"):
                    await report_.__aenter__()
                assert len([message async for message in report_]) == 2
            assert await read(report_) == []  # it was read
        with pytest.raises(RuntimeError, match="closed"):
            await read(client.sending_report(SINCE, UNTIL))
