#!/usr/bin/env bash
# twilio 9.13.0: the same `max_retries` sends a message once over the synchronous HTTP client
# and again and again over the asynchronous one.
#
# `TwilioHttpClient(max_retries=3)` gives the number to urllib3's adapter, which repeats what
# could not connect and nothing that may have been read.  `AsyncTwilioHttpClient(max_retries=3)`
# gives it to aiohttp_retry, which repeats every method, POST included, after any status of 500
# and above.  Sending an SMS is such a POST, and one that a gateway answers with 503 may have
# been taken behind it: who moves from one client to the other and keeps the setting may pay
# three times.  An answer that is lost with its connection is repeated by neither.
#
# Seen: twilio 9.13.0, aiohttp 3.14.5, aiohttp-retry 2.9.1, requests 2.34.2 on Python 3.11.
# Over TLS, as the synchronous client repeats nothing at all over plain HTTP.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/pip" install --quiet twilio==9.13.0 aiohttp==3.14.5 \
    aiohttp-retry==2.9.1 requests==2.34.2 trustme==1.2.1

cat >"$work/lost_answers.py" <<'PYTHON'
import asyncio
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import trustme

authority = trustme.CA()
authority.cert_pem.write_to_path("authority.pem")
os.environ["SSL_CERT_FILE"] = os.environ["REQUESTS_CA_BUNDLE"] = "authority.pem"

import aiohttp  # noqa: E402 - it reads the certificates as it is imported
import requests  # noqa: E402
from twilio.http.async_http_client import AsyncTwilioHttpClient  # noqa: E402
from twilio.http.http_client import TwilioHttpClient  # noqa: E402

MESSAGE = {"To": "+15551234888", "From": "+15550000000", "Body": "Hello"}


@contextmanager
def service(status: int | None) -> Iterator[tuple[str, list[str]]]:
    """Serve `status`, or no answer where it is None; gives the address and what was asked."""
    asked: list[str] = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.path)
            if status is not None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_port}/Messages.json", asked
        server.shutdown()


def over_sync(status: int | None, **settings: int) -> int:
    with service(status) as (url, asked):
        try:
            TwilioHttpClient(**settings).request("POST", url, data=MESSAGE)
        except requests.ConnectionError:
            pass
        return len(asked)


async def over_async(status: int | None, **settings: int) -> int:
    with service(status) as (url, asked):
        async with AsyncTwilioHttpClient(**settings) as client:
            try:
                await client.request("POST", url, data=MESSAGE)
            except aiohttp.ClientError:
                pass
        return len(asked)


for case, status in (("no answer", None), ("status 503", 503)):
    for settings in ({}, {"max_retries": 3}):
        sync, over_asyncio = over_sync(status, **settings), asyncio.run(over_async(status, **settings))
        print(f"{case}, {settings or 'no settings'}: sync {sync}, async {over_asyncio}")
PYTHON

(cd "$work" && environment/bin/python lost_answers.py) | tee "$work/seen"
diff "$work/seen" - <<'EXPECTED'
no answer, no settings: sync 1, async 1
no answer, {'max_retries': 3}: sync 1, async 1
status 503, no settings: sync 1, async 1
status 503, {'max_retries': 3}: sync 1, async 3
EXPECTED
echo "as it was seen"
