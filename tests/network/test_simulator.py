"""The simulator as its users meet it: over real sockets on loopback."""

from __future__ import annotations

import contextlib
import random
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import attrs
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from skycore_async.codes import API_ERRORS
from skycore_async.protocol import safe_xml
from skycore_async.simulator import (
    BY_LAST_DIGITS,
    Account,
    Answer,
    Behaviour,
    PostbackForm,
    Simulator,
    refusal,
)
from skycore_async.simulator.asgi_thread import ServerThread
from tests.support.fault_server import client_context

SCALE = 0.0001


class Receiver:
    """A postback URL that answers with the given statuses in turn, and then with 200."""

    def __init__(self, url: str, statuses: tuple[int, ...]) -> None:
        self.url = url
        self.bodies: list[bytes] = []
        self.content_types: list[str] = []
        self._statuses = list(statuses)

    async def answer(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        self.content_types.append(request.headers["content-type"])
        return Response(status_code=self._statuses.pop(0) if self._statuses else 200)

    @property
    def codes(self) -> list[str]:
        """CODE of the flat postbacks, in the order of their arrival."""
        return [safe_xml.parse(body)[1]["CODE"] for body in self.bodies]


class Endpoint:
    """A server of postback URLs, one for each receiver."""

    def __init__(self) -> None:
        self.server = ServerThread(self)
        self._receivers: list[Receiver] = []

    def receiver(self, *statuses: int) -> Receiver:
        receiver = Receiver(f"{self.server.url}/{len(self._receivers)}", statuses)
        self._receivers.append(receiver)
        return receiver

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            receiver = self._receivers[int(scope["path"].removeprefix("/"))]
            response = await receiver.answer(Request(scope, receive))
            await response(scope, receive, send)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    with endpoint.server:
        yield endpoint


@pytest.fixture(scope="module")
def flat() -> Iterator[Simulator]:
    with Simulator(postback_form=PostbackForm.FLAT, time_scale=SCALE) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with Simulator(time_scale=SCALE) as simulator:
        yield simulator


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5, verify=client_context(), trust_env=False) as client:
        yield client


def document(to: str = "15551234888", **fields: str) -> dict[str, str]:
    values = {
        "ACTION": "sendSMS",
        "API_KEY": "simulator-key",
        "TO": to,
        "FROM": "60856",
        "TEXT": "Hello",
        **fields,
    }
    elements = "".join(
        f"<{name}>{safe_xml.escape(value)}</{name}>" for name, value in values.items()
    )
    return {"xml": f"<REQUEST>{elements}</REQUEST>"}


def answered(response: httpx.Response) -> dict[str, str]:
    root, fields = safe_xml.parse(response.content)
    assert root == "RESPONSE"
    return {name: value.strip() for name, value in fields.items() if name != "#text"}


def errors_of_the_server(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def eventually(condition: Callable[[], object]) -> None:
    for _ in range(5000):
        if condition():
            return
        threading.Event().wait(0.001)
    pytest.fail("this did not come about")


def test_a_message_is_posted_answered_and_billed(client: httpx.Client) -> None:
    """One POST gives Success, one log entry and one billed message."""
    with Simulator() as simulator:
        assert simulator.url.endswith("/API/wxml/1.3/index.php")
        response = client.post(simulator.url, data=document())
        (message,) = simulator.messages
        assert answered(response)["TRACKINGID"] == message.tracking_id
        assert response.headers["content-type"].startswith("text/xml")
        assert (simulator.billed, simulator.requests) == (1, 1)
        assert simulator.postbacks == ()
        simulator.wait_for_postbacks(timeout=0)
    assert simulator.billed == 1


def test_a_message_goes_by_get(shared: Simulator, client: httpx.Client) -> None:
    """The query string of the provider's own example sends a message."""
    query = "action=sendsms&api_key=simulator-key&to=15551234888&from=60856&text=Hello+Jerry%2C"
    assert answered(client.get(f"{shared.url}?{query}"))["STATUS"] == "Success"
    assert (shared.messages[-1].text, shared.messages[-1].method) == ("Hello Jerry,", "GET")


def test_other_methods_send_nothing(shared: Simulator, client: httpx.Client) -> None:
    """HEAD and PUT are answered with 405, and bill nothing."""
    billed = shared.billed
    query = "action=sendsms&api_key=simulator-key&to=15551234888&from=60856&text=Hello"
    for method in ("HEAD", "PUT"):
        assert client.request(method, f"{shared.url}?{query}").status_code == 405
    assert shared.billed == billed


@pytest.mark.slow
@pytest.mark.parametrize("code", API_ERRORS)
def test_every_documented_code_comes_for_its_number(
    shared: Simulator, client: httpx.Client, code: str
) -> None:
    """A number that ends in 0ddd is refused with Eddd and its meaning."""
    response = client.post(shared.url, data=document(f"15551230{code[1:]}"))
    assert response.status_code == 200
    assert answered(response)["ERRORCODE"] == code
    assert answered(response)["ERRORINFO"] == API_ERRORS[code].meaning
    assert (shared.messages[-1].taken, shared.messages[-1].code) == (False, code)


@pytest.mark.parametrize("digits", [digits for digits in BY_LAST_DIGITS if digits[0] == "1"])
def test_a_later_outcome_does_not_show_in_the_answer(
    shared: Simulator, client: httpx.Client, digits: str
) -> None:
    """Numbers that end in 1xxx are accepted like any other."""
    billed = shared.billed
    assert answered(client.post(shared.url, data=document(f"1555123{digits}")))["TRACKINGID"]
    assert shared.billed == billed + 1


STATUSES = {
    "2005": 502,
    "2006": 502,
    "2007": 429,
    "2008": 503,
    "2009": 200,
    "2010": 200,
    "2011": 200,
    "2012": 200,
    "2013": 200,
    "2014": 200,
}
ERRORS = {
    "2001": httpx.ReadError,
    "2002": httpx.ReadError,
    "2003": httpx.ReadTimeout,
    "2004": httpx.ReadTimeout,
    "2015": httpx.RemoteProtocolError,
    "2016": httpx.RemoteProtocolError,
    "2017": httpx.ReadError,
}


def test_every_number_of_doubt_is_tested() -> None:
    """The two tests below cover every 2xxx row of the table."""
    assert {*STATUSES, *ERRORS} == {digits for digits in BY_LAST_DIGITS if digits[0] == "2"}


@pytest.mark.parametrize(("digits", "status"), STATUSES.items())
def test_an_odd_answer_is_whole_http(
    shared: Simulator, client: httpx.Client, digits: str, status: int
) -> None:
    """An odd answer has the table's status and bill, and the connection stays usable."""
    billed = shared.billed
    response = client.post(shared.url, data=document(f"1555123{digits}"))
    assert response.status_code == status
    assert shared.billed == billed + BY_LAST_DIGITS[digits].taken
    assert client.post(shared.url, data=document()).status_code == 200


@pytest.mark.parametrize(("digits", "error"), ERRORS.items())
def test_no_answer_is_the_fault_that_the_table_says(
    shared: Simulator, client: httpx.Client, digits: str, error: type[Exception]
) -> None:
    """Reset, hang, close and cut have the table's error and bill."""
    billed, requests = shared.billed, shared.requests
    timeout = httpx.Timeout(5, read=0.2 if error is httpx.ReadTimeout else 5)
    with pytest.raises(error):
        client.post(shared.url, data=document(f"1555123{digits}"), timeout=timeout)
    eventually(lambda: shared.requests == requests + 1)
    assert shared.billed == billed + BY_LAST_DIGITS[digits].taken


def test_an_answer_cut_short_promises_more_than_it_gives(shared: Simulator) -> None:
    """A cut answer has the whole body's Content-Length and half of its bytes."""
    received = list[bytes]()
    with (
        httpx.Client(verify=client_context(), trust_env=False) as client,
        client.stream("POST", shared.url, data=document("15551232016")) as response,
    ):
        with pytest.raises(httpx.RemoteProtocolError):
            received.extend(response.iter_raw())
        promised = int(response.headers["content-length"])
    assert promised // 2 == len(b"".join(received)) > 0


def test_a_delay_is_scaled(shared: Simulator, client: httpx.Client) -> None:
    """A delay is shortened by `time_scale`."""
    shared.script(Behaviour(delay=600))
    response = client.post(shared.url, data=document())
    assert response.elapsed.total_seconds() >= 600 * SCALE


@pytest.mark.slow
def test_an_answer_waits_for_its_delay(client: httpx.Client) -> None:
    """A delayed message is taken at once and answered after the delay."""
    with Simulator(time_scale=1) as simulator:
        simulator.script(Behaviour(delay=0.05), Behaviour(delay=3600))
        response = client.post(simulator.url, data=document())
        assert response.elapsed.total_seconds() >= 0.05
        with pytest.raises(httpx.ReadTimeout):
            client.post(simulator.url, data=document(), timeout=0.2)
        eventually(lambda: simulator.billed == 2)


def test_a_request_that_does_not_come_whole_is_none(
    shared: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that breaks off is neither counted nor billed."""
    requests = shared.requests
    url = httpx.URL(shared.url)

    async def half_a_request() -> None:
        async with await anyio.connect_tcp(url.host, url.port or 0) as stream:
            head = f"POST {url.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nxml="
            await stream.send(head.encode())

    anyio.run(half_a_request)
    with httpx.Client(verify=client_context(), trust_env=False) as client:
        client.post(shared.url, data=document())
    assert shared.requests == requests + 1
    assert errors_of_the_server(caplog) == []


@pytest.mark.slow
def test_concurrent_messages_are_counted_exactly() -> None:
    """Of 100 concurrent posts each is logged and billed once."""
    numbers = [f"1555{number:07d}" for number in range(100)]

    async def post_all(url: str) -> list[str]:
        ids = list[str]()

        async def post(client: httpx.AsyncClient, to: str) -> None:
            ids.append(answered(await client.post(url, data=document(to)))["TRACKINGID"])

        limits = httpx.Limits(max_connections=None)
        async with (
            httpx.AsyncClient(
                limits=limits, timeout=30, verify=client_context(), trust_env=False
            ) as client,
            anyio.create_task_group() as posts,
        ):
            for to in numbers:
                posts.start_soon(post, client, to)
        return ids

    with Simulator(behaviours={}) as simulator:
        ids = anyio.run(post_all, simulator.url)
        assert (simulator.billed, simulator.requests) == (100, 100)
        assert sorted(message.to for message in simulator.messages) == numbers
        assert sorted(ids) == sorted(message.tracking_id or "" for message in simulator.messages)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_simulator_serves_either_event_loop(endpoint: Endpoint, backend: str) -> None:
    """A simulator can be used by `async with` in asyncio and trio."""

    async def main() -> None:
        receiver = endpoint.receiver()
        async with (
            Simulator(postback_url=receiver.url, time_scale=SCALE) as simulator,
            httpx.AsyncClient(verify=client_context(), trust_env=False) as client,
        ):
            response = await client.post(simulator.url, data=document())
            await anyio.to_thread.run_sync(simulator.wait_for_postbacks)
        assert answered(response)["STATUS"] == "Success"
        assert simulator.billed == 1
        assert len(receiver.bodies) == 2

    anyio.run(main, backend=backend)


@pytest.mark.slow
def test_a_simulator_stops_while_requests_hang_and_postbacks_are_pending(
    endpoint: Endpoint, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Stopping ends hanging requests, drops pending postbacks and leaves no thread."""
    before = set(threading.enumerate())
    with Simulator(postback_url=endpoint.receiver().url, time_scale=10) as simulator:
        simulator.script(Behaviour(postbacks_first=True), Behaviour(delay=3600))
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout):
                client.post(simulator.url, data=document("15551232004"), timeout=0.2)
        eventually(lambda: simulator.billed == 3)
        with pytest.raises(TimeoutError, match="pending"):
            simulator.wait_for_postbacks(timeout=0)
    assert set(threading.enumerate()) <= before  # one of another test may have ended
    assert errors_of_the_server(caplog) == []
    simulator.wait_for_postbacks(timeout=0)


def test_a_hanging_client_sees_the_simulator_stop() -> None:
    """A hanging request is cut off when the simulator stops."""
    errors = list[str]()
    simulator = Simulator()
    simulator.start()
    url = simulator.url

    def hang() -> None:
        try:
            httpx.post(
                url,
                data=document("15551232004"),
                timeout=30,
                verify=client_context(),
                trust_env=False,
            )
        except httpx.ReadError as error:
            errors.append(type(error).__name__)

    thread = threading.Thread(target=hang)
    thread.start()
    eventually(lambda: simulator.messages)
    simulator.stop()
    thread.join(5)
    assert errors == ["ReadError"]


@pytest.mark.slow
def test_a_simulator_can_be_entered_again(endpoint: Endpoint, client: httpx.Client) -> None:
    """A simulator can be started again, and keeps its log."""
    receiver = endpoint.receiver()
    simulator = Simulator(postback_url=receiver.url, time_scale=SCALE)
    for _ in range(2):
        with simulator:
            client.post(simulator.url, data=document())
            simulator.wait_for_postbacks()
    assert simulator.billed == 2
    assert len(receiver.bodies) == 4


@pytest.mark.slow
def test_tracking_ids_of_two_simulators_do_not_meet(client: httpx.Client) -> None:
    """Two simulators give different tracking ids, even with equal random seeds."""
    before = random.getstate()
    random.seed(1)
    one = Simulator()
    random.seed(1)
    other = Simulator()
    random.setstate(before)
    for simulator in (one, other):
        with simulator:
            client.post(simulator.url, data=document())
    assert one.messages[0].tracking_id != other.messages[0].tracking_id


def test_an_address_in_use_is_raised_where_it_is_started(shared: Simulator) -> None:
    """A port in use raises OSError at the start."""
    port = httpx.URL(shared.url).port
    with pytest.raises(OSError, match=str(port)), Simulator(port=port or 0):
        pass


def test_the_account_can_change_while_it_runs(client: httpx.Client) -> None:
    """A changed account applies from the next message on."""
    with Simulator(account=Account(api_keys=["k"])) as simulator:
        assert answered(client.post(simulator.url, data=document(API_KEY="k")))["TRACKINGID"]
        simulator.account = attrs.evolve(simulator.account, billing_hold=True)
        response = client.post(simulator.url, data=document(API_KEY="k"))
        assert answered(response)["ERRORCODE"] == "E713"
        assert simulator.billed == 1


def test_a_script_is_followed_over_http(shared: Simulator, client: httpx.Client) -> None:
    """Scripted behaviours come first, and then the numbers decide again."""
    shared.script(refusal("E120"), Behaviour(answer=Answer.UNAVAILABLE, taken=False))
    responses = [client.post(shared.url, data=document()) for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 503, 200]
    assert answered(responses[0])["ERRORCODE"] == "E120"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("digits", "codes"),
    [
        ("4888", ["N201", "N202"]),
        ("1001", ["N201", "E202"]),
        ("1002", ["N201", "E202"]),
        ("1003", ["N201", "E202"]),
        ("1004", ["N201"]),
        ("1005", []),
        ("1006", ["N201", "N202", "N202"]),
        ("1007", ["N202", "N201"]),
        ("1008", ["N201", "N202"]),
        ("1009", ["E201"]),
        ("1010", ["N201", "N201"]),
        ("2001", []),
        ("2002", ["N201", "N202"]),
        ("2004", ["N201", "N202"]),
        ("2006", ["N201", "N202"]),
        ("2013", ["N201", "N202"]),
        ("0713", []),
    ],
)
def test_postbacks_follow_a_message_that_was_taken(
    endpoint: Endpoint, flat: Simulator, client: httpx.Client, digits: str, codes: list[str]
) -> None:
    """The postbacks of a message come as its row in the table says."""
    receiver = endpoint.receiver()
    flat.postback_url = receiver.url
    requests = flat.requests
    with contextlib.suppress(httpx.TransportError):
        client.post(flat.url, data=document(f"1555123{digits}"), timeout=0.5)
    eventually(lambda: flat.requests == requests + 1)
    flat.wait_for_postbacks()
    assert receiver.codes == codes


def test_postbacks_can_come_before_the_answer(endpoint: Endpoint, client: httpx.Client) -> None:
    """For 1008 both postbacks come before the HTTP answer."""
    receiver = endpoint.receiver()
    with Simulator(postback_url=receiver.url) as simulator:
        client.post(simulator.url, data=document("15551231008"))
        assert len(receiver.bodies) == 2


def test_postbacks_can_come_before_no_answer(client: httpx.Client) -> None:
    """Without a postback URL, 1008 is answered at once."""
    with Simulator(time_scale=3600) as simulator:
        client.post(simulator.url, data=document("15551231008"))
        assert simulator.postbacks == ()


def test_a_postback_is_repeated_until_it_is_answered_with_200(
    endpoint: Endpoint, client: httpx.Client
) -> None:
    """A receiver that fails twice gets the same bytes three times."""
    receiver = endpoint.receiver(500, 204)
    with Simulator(postback_url=receiver.url, time_scale=SCALE) as simulator:
        client.post(simulator.url, data=document("15551231004"))
        simulator.wait_for_postbacks()
        attempts = simulator.postbacks
    assert [(attempt.attempt, attempt.status) for attempt in attempts] == [
        *((1, 500), (2, 204), (3, 200)),
    ]
    assert {attempt.url for attempt in attempts} == {receiver.url}
    assert [attempt.body for attempt in attempts] == receiver.bodies
    assert len(set(receiver.bodies)) == 1


@pytest.mark.slow
def test_a_postback_is_given_up_in_the_end(endpoint: Endpoint, client: httpx.Client) -> None:
    """A postback is given up after five repetitions."""
    receiver = endpoint.receiver(*[500] * 100)
    with Simulator(postback_url=receiver.url, time_scale=SCALE) as simulator:
        client.post(simulator.url, data=document("15551231004"))
        simulator.wait_for_postbacks()
    assert len(receiver.bodies) == 6


@pytest.mark.slow
def test_a_receiver_that_is_not_there_is_logged(client: httpx.Client) -> None:
    """An attempt without an answer is logged with its error and no status."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with Simulator(postback_url=url, time_scale=SCALE) as simulator:
        client.post(simulator.url, data=document("15551231004"))
        simulator.wait_for_postbacks()
        attempts = simulator.postbacks
    assert [attempt.status for attempt in attempts] == [None] * 6
    assert {attempt.error for attempt in attempts} == {
        "no connection: ConnectionRefusedError: Connection refused"
    }


@pytest.mark.slow
def test_a_receiver_that_does_not_answer_in_time_is_asked_again(client: httpx.Client) -> None:
    """A receiver that does not answer in time gets the postback again."""
    proceed = threading.Event()

    async def late(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await anyio.to_thread.run_sync(proceed.wait)
            await Response()(scope, receive, send)

    with (
        ServerThread(late) as server,
        Simulator(postback_url=server.url, postback_timeout=0.05, time_scale=SCALE) as simulator,
    ):
        client.post(simulator.url, data=document("15551231004"))
        eventually(lambda: simulator.postbacks)
        proceed.set()
        simulator.wait_for_postbacks()
        first, *_, last = simulator.postbacks
    assert first.error == "no answer within 0.05 seconds"
    assert last.status == 200


def test_the_postback_url_can_change_while_it_runs(
    endpoint: Endpoint, client: httpx.Client
) -> None:
    """A changed postback URL gets pending postbacks; None stops new ones."""
    first, second = endpoint.receiver(*[500] * 100), endpoint.receiver()
    with Simulator(postback_url=first.url, time_scale=SCALE) as simulator:
        client.post(simulator.url, data=document("15551231004"))
        eventually(lambda: first.bodies)
        simulator.postback_url = second.url
        simulator.wait_for_postbacks()
        simulator.postback_url = None
        client.post(simulator.url, data=document("15551231004"))
        simulator.wait_for_postbacks(timeout=0)
        assert simulator.postback_url is None
    assert len(second.bodies) == 1


@pytest.mark.slow
def test_postbacks_are_bare_xml_or_a_form_field(endpoint: Endpoint, client: httpx.Client) -> None:
    """Postbacks come as bare XML or in the form field `xml`."""
    bare, wrapped = endpoint.receiver(), endpoint.receiver()
    for receiver, as_form_field in ((bare, False), (wrapped, True)):
        with Simulator(
            postback_url=receiver.url, postbacks_as_form_field=as_form_field, time_scale=SCALE
        ) as simulator:
            client.post(simulator.url, data=document("15551231004"))
            simulator.wait_for_postbacks()
    assert bare.bodies[0].startswith(b"<NOTIFICATION")
    assert bare.content_types == ["text/xml; charset=utf-8"]
    assert wrapped.bodies[0].startswith(b"xml=%3CNOTIFICATION")
    assert wrapped.content_types == ["application/x-www-form-urlencoded"]


@pytest.mark.slow
def test_postbacks_can_be_bundled(endpoint: Endpoint, client: httpx.Client) -> None:
    """Pending postbacks of several messages come in one POSTBACK."""
    receiver = endpoint.receiver()
    with Simulator(
        postback_url=receiver.url, bundle_postbacks=True, time_scale=0.005
    ) as simulator:
        for _ in range(5):
            client.post(simulator.url, data=document())
        simulator.wait_for_postbacks()
    notifications = [
        notification
        for body in receiver.bodies
        for notification in safe_xml.parse(body)[1]["NOTIFICATION"]
    ]
    assert len(notifications) == 10
    assert len(receiver.bodies) < 10


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"time_scale": -1}, "time_scale"),
        ({"bundle_postbacks": True, "postback_form": PostbackForm.FLAT}, "bundled"),
        ({"postback_url": "localhost:8000/postback"}, "no HTTP address"),
        ({"postback_url": ""}, "no HTTP address"),
        ({"postback_url": "http:///postback"}, "no HTTP address"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: Any, complaint: str) -> None:
    """A setting that cannot work is a ValueError at construction."""
    with pytest.raises(ValueError, match=complaint):
        Simulator(**settings)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["uvicorn", "starlette.applications"])
def test_without_the_extra_only_the_simulator_is_missing(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """Without the extra the package imports, and Simulator() names it."""
    monkeypatch.setitem(sys.modules, module, None)
    for loaded in ("skycore_async.simulator.asgi_thread", "skycore_async.simulator.app"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)
    with pytest.raises(ImportError, match=r"pip install 'skycore-async\[server\]'"):
        Simulator()
