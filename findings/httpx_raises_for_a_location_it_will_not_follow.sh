#!/usr/bin/env bash
# httpx 0.28.1: an answer is lost to an exception because of where it redirects to, although
# redirects are not followed, and the exception is no httpx.HTTPError.
#
# With `follow_redirects=False`, which is the default, httpx still makes the request that would
# follow, for `response.next_request`.  Where Location is a valid address of something that is
# no web page, such as `sms:` or `mailto:`, making it raises httpx.InvalidURL, and status and
# body of the answer, which had come whole, are gone.  InvalidURL is what httpx raises for a
# mistaken URL of the caller's as well, before anything is sent: who takes it for proof that
# nothing was sent, and tries again, sends a POST a second time.
#
# Seen: httpx 0.28.1 on Python 3.11.  The server has one request and its answer was written;
# `except httpx.HTTPError` around the request does not catch what is raised.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/pip" install --quiet httpx==0.28.1 httpcore==1.0.9

cat >"$work/redirected.py" <<'PYTHON'
import asyncio

import httpx

ANSWER = b"HTTP/1.1 303 See Other\r\nLocation: %s\r\nContent-Length: 4\r\n\r\ndone"


async def ask(location: bytes) -> str:
    """Return what the caller gets of an answer with this Location."""
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.write(ANSWER % location)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, httpx.AsyncClient(trust_env=False) as client:
        try:
            response = await client.post(f"http://127.0.0.1:{port}/", follow_redirects=False)
            came = f"{response.status_code} {response.text}"
        except httpx.HTTPError as error:
            came = f"HTTPError {type(error).__name__}"
        except httpx.InvalidURL as error:
            came = f"{type(error).__name__}, no HTTPError"
    return f"{location.decode()}: asked {asked}, {came}"


for location in (b"/elsewhere", b"sms:+15551234888", b"mailto:someone@example.com"):
    print(asyncio.run(ask(location)))
PYTHON

"$work/environment/bin/python" "$work/redirected.py" | tee "$work/seen"
diff "$work/seen" - <<'EXPECTED'
/elsewhere: asked 1, 303 done
sms:+15551234888: asked 1, InvalidURL, no HTTPError
mailto:someone@example.com: asked 1, InvalidURL, no HTTPError
EXPECTED
echo "as it was seen"
