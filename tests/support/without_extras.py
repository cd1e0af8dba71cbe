"""The package without any extra: core and client work, and the rest names its extra.

A script and no test module, because it runs where only the required packages
are installed.  `test_without_extras.py` runs it with the extras hidden.
"""

from __future__ import annotations

import http.server
import importlib
import threading

import anyio

import skycore_async
from skycore_async import cli

ANSWER = (
    b"<RESPONSE><STATUS>Success</STATUS><TRACKINGID>SMS_12345</TRACKINGID>"
    b"<TO>15551234888</TO></RESPONSE>"
)
NEEDS = {
    "skycore_async.ledger.postgres.ledger": "postgres",
    "skycore_async.limits.postgres": "postgres",
    "skycore_async.protocol.national_numbers": "numbers",
    "skycore_async.protocol.time_zones": "numbers",
    "skycore_async.simulator.asgi_thread": "server",
    "skycore_async.telemetry": "otel",
}


PUBLIC = {
    "NationalNumbers": "numbers",
    "PostgresLedger": "postgres",
    "PostgresLimiter": "postgres",
    "Telemetry": "otel",
}


class Skycore(http.server.BaseHTTPRequestHandler):
    """Answers every request with the same Success."""

    def do_POST(self) -> None:
        """Read the request whole and accept it."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Log nothing."""


async def send(base_url: str) -> str | None:
    """Send one message and return its tracking id."""
    async with skycore_async.SkycoreClient(
        api_key="a key", from_="60856", base_url=base_url
    ) as client:
        return (await client.send_sms(to="15551234888", text="Hello")).tracking_id


def names_extra(action: str, extra: str, error: BaseException) -> None:
    """Assert that an error names the `pip install` that cures it."""
    assert f"pip install 'skycore-async[{extra}]'" in str(error), f"{action}: {error}"


def main() -> None:
    """Send, parse, and use what needs an extra."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Skycore) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert anyio.run(send, f"http://127.0.0.1:{server.server_port}/") == "SMS_12345"
        server.shutdown()
    (notification,) = skycore_async.parse_postback(
        "<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N201</CODE></POSTBACK>"
    )
    assert isinstance(notification, skycore_async.SentNotification)
    found: dict[str, object] = {}
    exec("from skycore_async import *", found)  # noqa: S102 - not allowed in a function
    assert {"SkycoreClient", "SQLiteLedger", "parse_postback"} <= found.keys()
    assert not found.keys() & PUBLIC.keys()
    assert dir(skycore_async)
    for name, extra in PUBLIC.items():
        try:
            getattr(skycore_async, name)
        except ImportError as error:
            names_extra(name, extra, error)
        else:
            raise AssertionError(f"{name} was imported without its extra")
    for module, extra in NEEDS.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            names_extra(module, extra, error)
        else:
            raise AssertionError(f"{module} was imported without its extra")
    try:
        cli.main()
    except SystemExit as error:
        names_extra("skycore", "cli", error)
    print("without extras: passed")


if __name__ == "__main__":
    main()
