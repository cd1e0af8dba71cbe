"""`skycore listen`: postbacks into a ledger, and a line for each."""

from __future__ import annotations

import errno
import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import psycopg
import pytest
from click.testing import CliRunner, Result

from skycore_async import SMS, SkycoreClient, SQLiteLedger, Summary, parse_postback
from skycore_async.cli.actions.listen import _NotificationPrinter
from skycore_async.cli.app import skycore
from skycore_async.cli.ui.output import Exit
from skycore_async.cli.ui.signals import UntilSignal
from skycore_async.ledger.postgres.ledger import PostgresLedger
from skycore_async.simulator import API_KEY, SHORT_CODE, Simulator
from tests.support.cli_program import program, told
from tests.support.fault_server import client_context
from tests.support.ledger_owner import owner

INBOUND = """<NOTIFICATION ID="7"><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE><BODY>
<FROM>15551234888</FROM><TO>60856</TO><TEXT>my secret words, from 5551234888</TEXT></BODY>
</NOTIFICATION>"""
RECEIPT = """<NOTIFICATION ID="8"><ORIGIN>SMS_MT</ORIGIN><CODE>N201</CODE><BODY>
<TO>15551234888</TO><TRACKINGID>SMS_1</TRACKINGID><STATUS PROTOCOL="2" STATUS="514"/>
<STATUSDETAILS>5551234888 is not a subscriber</STATUSDETAILS></BODY></NOTIFICATION>"""


def listening(
    *arguments: str, **environment: str
) -> AbstractContextManager[subprocess.Popen[str]]:
    """Run `listen` at any port."""
    return program("listen", "--port", "0", *arguments, **environment)


def post(url: str, body: str) -> int:
    """Post a body, and return the status of the answer."""
    return httpx.post(
        url, content=body.encode(), verify=client_context(), trust_env=False
    ).status_code


def opened(place: str) -> SQLiteLedger | PostgresLedger:
    """Return the ledger in a file or database, to be opened."""
    return PostgresLedger(place) if "://" in place else SQLiteLedger(place)


def summary(place: str) -> Summary:
    """Return the summary of a ledger that no other process has open."""

    async def ask() -> Summary:
        async with opened(place) as ledger:
            return await ledger.summary()

    return anyio.run(ask)


def listen(*arguments: object) -> Result:
    """Run the command in this process, for mistakes that end it."""
    return CliRunner().invoke(skycore, ["listen", *map(str, arguments)])


async def send_two(url: str, place: str) -> None:
    """Send one message that is delivered, and one whose answer is lost."""
    messages = [SMS(to=f"1555123{last}", text="Hello", key=last) for last in ("4888", "2002")]
    async with (
        opened(place) as ledger,
        SkycoreClient(api_key=API_KEY, from_=SHORT_CODE, base_url=url, ledger=ledger) as client,
        client.send_many(messages) as outcomes,
    ):
        async for _ in outcomes:
            pass


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "database"])
def test_postbacks_are_recorded_and_printed(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Postbacks are recorded and printed, settle doubts, and SIGTERM ends with 0."""
    is_file = kind == "file"
    place = str(tmp_path / "promo.db") if is_file else request.getfixturevalue("dsn")
    with Simulator() as simulator:
        # Sent while nobody listens; the postbacks wait for the address.
        simulator.postback_url = "http://127.0.0.1:9/"
        anyio.run(send_two, simulator.url, place)
        with listening("--ledger", place, "--json") as process:
            simulator.postback_url = told(process)["url"]
            lines = [told(process) for _ in range(4)]
            simulator.wait_for_postbacks()
            process.send_signal(signal.SIGTERM)
            rest, err = process.communicate(timeout=10)
    assert (process.returncode, rest, err) == (0, "", "")
    assert sorted((line["kind"], line["number"], line["state"]) for line in lines) == [
        ("receipt", "*******2002", "delivered"),
        ("receipt", "*******4888", "delivered"),
        ("sent", "*******2002", "sent"),
        ("sent", "*******4888", "sent"),
    ]
    assert summary(place).states == {"delivered": 2}


@pytest.mark.slow
def test_people_read_a_line_for_each(tmp_path: Path) -> None:
    """Each notification is a line with masked number, and Ctrl-C ends with 0."""
    path = tmp_path / "promo.db"
    with listening("--ledger", str(path), NO_COLOR="1") as process:
        assert process.stderr is not None
        introduction, named = process.stderr.readline(), process.stderr.readline()
        url = introduction.split()[2]
        assert [post(url, INBOUND), post(url, "junk")] == [200, 400]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    by_way = f"by way of {path}-inbox while another command has it open"
    assert introduction == f"Postbacks to {url} go to {path}, {by_way}. Ctrl-C ends it.\n"
    assert out.split() == [
        "inbound",
        "*******4888",
        *["my", "secret", "words,", "from", "******4888"],
    ]
    assert re.fullmatch(r"Who opts out is on the list \S+opt-outs\.db\.\n", named)
    assert err == "\nNotifications: 1.\n"


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
def test_numbers_are_shown_where_that_is_asked_for(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--show-numbers shows numbers everywhere."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

    def polls(_: UntilSignal) -> Iterator[None]:
        assert [post(f"http://127.0.0.1:{port}/postback", body) for body in (INBOUND, RECEIPT)]
        yield

    monkeypatch.setattr(UntilSignal, "polls", polls)
    options = ["--json"] if as_json else []
    done = listen("--ledger", tmp_path / "p.db", "--port", port, "--show-numbers", *options)
    assert done.exit_code == 0
    if not as_json:
        assert "15551234888" in done.stdout.splitlines()[0]
        assert done.stdout.splitlines()[0].endswith("  my secret words, from 5551234888")
        assert done.stdout.splitlines()[1].endswith("recipient: 5551234888 is not a subscriber")
        return
    text, receipt = map(json.loads, done.stdout.splitlines()[1:])
    assert (text["number"], text["text"]) == ("15551234888", "my secret words, from 5551234888")
    assert (receipt["detail"], receipt["text"]) == ("5551234888 is not a subscriber", None)


@pytest.mark.slow
@pytest.mark.parametrize("is_first", [True, False])
def test_another_command_has_the_ledger_meanwhile(is_first: bool, tmp_path: Path) -> None:
    """Another command that has the ledger open gets postbacks within a second."""
    path = str(tmp_path / "promo.db")

    async def receive() -> None:
        async with SQLiteLedger(path) if not is_first else nullcontext() as before:
            with listening("--ledger", path, "--json") as process:
                introduction = await anyio.to_thread.run_sync(told, process)
                assert introduction["inbox"] == f"{path}-inbox"
                assert (introduction["holder"] is None) is is_first
                async with nullcontext(before) if before else SQLiteLedger(path) as ledger:
                    answer = await anyio.to_thread.run_sync(post, introduction["url"], RECEIPT)
                    assert answer == 200
                    with anyio.fail_after(5):
                        while not (await ledger.summary()).unplaced:  # noqa: ASYNC110
                            await anyio.sleep(0.02)
                process.send_signal(signal.SIGTERM)
                await anyio.to_thread.run_sync(process.wait)

    anyio.run(receive)
    assert summary(path).unplaced == 1


@pytest.mark.slow
def test_the_place_of_the_postbacks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command says whether postbacks go into the ledger or into its inbox."""
    monkeypatch.setattr(UntilSignal, "polls", lambda _: iter(()))
    path = tmp_path / "promo.db"
    with owner(path) as process:
        done = listen("--ledger", path, "--port", 0)
    assert done.exit_code == 0
    assert f" go to {path}-inbox, from where " in done.stderr
    assert f"process {process.pid}, which has {path} open, takes them in" in done.stderr


@pytest.mark.slow
def test_the_secret_of_the_environment_is_asked_for_and_not_shown(tmp_path: Path) -> None:
    """With a secret, other URLs get 404, and the secret is not shown."""
    path = tmp_path / "promo.db"
    environment = {"SKYCORE_POSTBACK_SECRET": "a-long-word"}
    with program(
        "listen", "--port", "0", "--ledger", str(path), "--json", **environment
    ) as process:
        url = told(process)["url"]
        assert url.endswith("/postback/$SKYCORE_POSTBACK_SECRET")
        base = url.rpartition("/")[0]
        assert [post(base, INBOUND), post(f"{base}/a-long-word", INBOUND)] == [404, 200]
        assert told(process)["kind"] == "inbound"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert "a-long-word" not in out + err


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
def test_a_line_says_why_a_message_failed(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed receipt's line has its tracking id, state and reason."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

    def polls(_: UntilSignal) -> Iterator[None]:
        assert post(f"http://127.0.0.1:{port}/postback", RECEIPT) == 200
        yield

    monkeypatch.setattr(UntilSignal, "polls", polls)
    options = ["--json"] if as_json else []
    done = listen("--ledger", tmp_path / "promo.db", "--port", port, *options)
    assert done.exit_code == 0
    if as_json:
        told = json.loads(done.stdout.splitlines()[1])
        assert (told["reason"], told["detail"]) == ("recipient", "******4888 is not a subscriber")
        return
    assert done.stdout.split() == [
        *("receipt", "SMS_1", "*******4888", "failed", "recipient:"),
        *("******4888", "is", "not", "a", "subscriber"),
    ]


@pytest.mark.parametrize(
    ("error", "is_read"),
    [(BrokenPipeError(), False), (SystemExit(1), False), (OSError(errno.ENOSPC, "full"), True)],
)
def test_nobody_reading_is_no_reason_to_post_again(error: BaseException, is_read: bool) -> None:
    """A closed pipe ends the command after the notification is recorded.

    A full disk for the output does not end it, since the ledger may be elsewhere.
    """

    def show(_: object) -> None:
        raise error

    printer = _NotificationPrinter(show, None)
    printer(*parse_postback(INBOUND))
    assert (printer.print_waiting(), printer.count) == (is_read, 1)


def test_a_terminal_that_is_stopped_holds_up_no_postback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped terminal holds up no postback, and the number of unprinted ones is told."""
    monkeypatch.setattr("skycore_async.cli.actions.listen._MOST", 2)
    shown: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

    def show(notification: object) -> None:
        if not shown:  # as where Ctrl-S stopped it, and Ctrl-Q comes after these
            assert post(f"http://127.0.0.1:{port}/postback", bundle("b", 5)) == 200
        shown.append(notification)

    def polls(_: UntilSignal) -> Iterator[None]:
        assert post(f"http://127.0.0.1:{port}/postback", RECEIPT) == 200
        yield

    monkeypatch.setattr(UntilSignal, "polls", polls)
    monkeypatch.setattr("skycore_async.cli.actions.listen._as_line", lambda _: show)
    done = listen("--ledger", tmp_path / "promo.db", "--port", port)
    assert (done.exit_code, len(shown)) == (0, 3)
    told = done.stderr.splitlines()
    assert told[-3:] == ["3 notifications more came, and are recorded.", "", "Notifications: 6."]
    assert summary(str(tmp_path / "promo.db")).unplaced == 6


# Into a database.


def bundle(name: str, count: int = 20, *, backwards: bool = False) -> str:
    """Return receipts of many messages in one bundle."""
    receipts = [
        RECEIPT.replace("SMS_1", f"{name}_{n}").replace('"8"', f'"{n}"') for n in range(count)
    ]
    return f"<POSTBACK>{''.join(reversed(receipts) if backwards else receipts)}</POSTBACK>"


@pytest.mark.slow
def test_any_number_may_listen_into_a_database(dsn: str) -> None:
    """Two listeners on one database store and show everything once."""
    with (
        listening("--ledger", dsn, "--json") as one,
        listening("--ledger", dsn, "--json") as other,
        ThreadPoolExecutor(2) as pool,
    ):
        both = one, other
        urls = [told(process)["url"] for process in both]
        for name in "abcde":
            assert list(pool.map(post, urls, [bundle(name)] * 2)) == [200, 200]
        # Here each may have what the other waits for, and the database has to choose.
        crossed = [bundle("f"), bundle("f", backwards=True)]
        assert list(pool.map(post, urls, crossed)) == [200, 200]
        shown = [{told(process)["tracking_id"] for _ in range(6 * 20)} for process in both]
        for process in both:
            process.send_signal(signal.SIGTERM)
        ends = [process.communicate(timeout=10) for process in both]
    assert ([process.returncode for process in both], ends) == ([0, 0], [("", "")] * 2)
    assert shown == [{f"{name}_{n}" for name in "abcdef" for n in range(20)}] * 2
    assert summary(dsn).unplaced == 6 * 20


@pytest.mark.slow
def test_a_postback_answered_with_200_survives_a_killed_receiver(dsn: str) -> None:
    """A postback answered with 200 is in the database after the listener is killed."""
    with listening("--ledger", dsn, "--json") as one, listening("--ledger", dsn) as other:
        url = told(one)["url"]
        assert other.stderr is not None
        second_url = other.stderr.readline().split()[2]
        assert post(url, bundle("a")) == 200
        one.kill()
        assert summary(dsn).unplaced == 20
        assert post(second_url, bundle("a")) == 200
        assert summary(dsn).unplaced == 20


def test_listening_outlives_a_lost_connection_to_the_database(dsn: str) -> None:
    """A postback after a cut database connection is recorded."""
    with (
        listening("--ledger", dsn, "--json") as process,
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        url = told(process)["url"]
        cut = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'skycore-async'"
        ).fetchall()
        assert [bool(is_cut) for (is_cut,) in cut] == [True]
        assert post(url, bundle("a")) == 200
    assert summary(dsn).unplaced == 20


def test_a_database_is_named_without_its_dsn(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is named without its DSN."""
    monkeypatch.setattr(UntilSignal, "polls", lambda _: iter(()))
    done = listen("--ledger", dsn, "--port", 0)
    assert done.exit_code == 0
    assert " go to PostgreSQL database postgres at " in done.stderr
    assert dsn not in done.output


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("postgresql://me:s3cret@/orders?host=NOWHERE", "PostgreSQL database orders at "),
        ("host=NOWHERE dbname=orders password=s3cret", "PostgreSQL database orders at "),
        ("postgresql://me:s3cret@/orders?nope=1", "not a PostgreSQL connection string"),
        ("postgress://me:s3cret@db/orders", "not a PostgreSQL connection string"),
        (f"host={300 * 'x'} password=s3cret nope=1", "not a PostgreSQL connection string"),
        ("", "name the ledger"),
        ("NOWHERE", "is a directory, and no ledger"),
    ],
)
def test_an_unavailable_ledger_is_reported(named: str, said: str, tmp_path: Path) -> None:
    """A ledger that cannot be opened is a one-line error without password."""
    done = listen("--ledger", named.replace("NOWHERE", str(tmp_path)), "--port", 0)
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("skycore: ")
    assert said in line
    assert "s3cret" not in line
    assert list(tmp_path.iterdir()) == []


def test_where_to_record_is_never_taken_from_elsewhere(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`listen` needs --ledger, even with SKYCORE_DSN."""
    monkeypatch.setattr(UntilSignal, "polls", lambda _: iter(()))
    monkeypatch.setenv("SKYCORE_DSN", dsn)
    done = listen("--port", 0)
    assert (done.exit_code, "--ledger" in done.stderr) == (Exit.USAGE, True)


def test_its_help_has_an_example_with_a_database() -> None:
    """The help has an example for each kind of ledger."""
    help_ = listen("--help").output
    assert "skycore listen --ledger promo.db\n" in help_
    assert "skycore listen --ledger postgresql://" in help_


# What ends it at once.


@pytest.mark.slow
def test_an_address_that_others_reach_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listening for others without a secret gives a warning."""
    monkeypatch.setattr(UntilSignal, "polls", lambda _: iter(()))
    path = tmp_path / "promo.db"
    open_to_all = ("--ledger", path, "--host", "0.0.0.0", "--port", 0)  # noqa: S104
    assert "Anyone" in listen(*open_to_all).stderr
    assert "Anyone" in listen(*open_to_all, "--json").stderr
    assert "Anyone" not in listen("--ledger", path, "--port", 0).stderr


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    """A file that is no ledger is refused and unchanged."""
    file = tmp_path / "recipients.csv"
    file.write_text("to;name\n" * 100)
    done = listen("--ledger", file, "--port", 0)
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")
    assert f"skycore: {file} is no ledger" in done.stderr
    assert file.read_text() == "to;name\n" * 100


def test_a_ledger_that_is_taken_meanwhile_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that cannot be opened at the server's start is a one-line error."""
    monkeypatch.setattr("skycore_async.cli.actions.listen._check_ledger", lambda _: None)
    file = tmp_path / "recipients.csv"
    file.write_text("to;name\n" * 100)
    done = listen("--ledger", file, "--port", 0)
    assert done.exit_code == Exit.USAGE
    assert f"skycore: {file}: the application failed to start" in done.stderr


def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    """A port in use is a one-line error with advice."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = listen("--ledger", tmp_path / "promo.db", "--port", port)
    assert done.exit_code == Exit.USAGE
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use; " in done.stderr
    assert done.stderr.endswith("; choose another with --host or --port\n")


@pytest.mark.parametrize("host", ["no..host", "\udcff"])
def test_an_unknown_host_is_reported(tmp_path: Path, host: str) -> None:
    """A bad host name is a one-line error."""
    done = listen("--ledger", tmp_path / "promo.db", "--port", 0, "--host", host)
    assert done.exit_code == Exit.USAGE
    assert done.stderr.startswith("skycore: cannot listen on ")
    assert len(done.stderr.splitlines()) == 1


def test_a_bad_secret_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad secret is refused by its variable's name."""
    monkeypatch.setenv("SKYCORE_POSTBACK_SECRET", "/")
    done = listen("--ledger", tmp_path / "promo.db", "--port", 0)
    assert done.exit_code == Exit.USAGE
    assert done.stderr.startswith("skycore: SKYCORE_POSTBACK_SECRET: ")


@pytest.mark.parametrize("secret", ["", " "])
def test_a_secret_that_is_empty_does_not_open_the_door(
    secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty secret is refused."""
    monkeypatch.setattr(UntilSignal, "polls", lambda _: iter(()))
    monkeypatch.setenv("SKYCORE_POSTBACK_SECRET", secret)
    done = listen("--ledger", tmp_path / "promo.db", "--port", 0)
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")
    assert "SKYCORE_POSTBACK_SECRET is empty" in done.stderr
