#!/usr/bin/env bash
# httpcore 1.0.9: who is cancelled while TLS is agreed on leaves the connection open.
#
# A caller's own timeout may end a request of httpx's while its connection is in the TLS
# handshake.  httpcore closes the socket there after an error, and not after a cancellation: the
# server sees an open connection, for which nobody is left, until the garbage collector comes by
# it or the program ends, also after the client was closed.  A timeout of httpx's own closes it.
#
# Seen: httpx 0.28.1, httpcore 1.0.9, anyio 4.16.0 on Python 3.11, over asyncio and over trio.
# The collector is off for the moment of looking; httpx's own timeout is shown beside it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/pip" install --quiet httpx==0.28.1 httpcore==1.0.9 anyio==4.16.0 trio==0.33.0

cat >"$work/handshake.py" <<'PYTHON'
import gc
import socket
import warnings

import anyio
import httpx

warnings.simplefilter("ignore", ResourceWarning)
gc.disable()


async def look(by: str) -> str:
    """Return what a server sees that answers no handshake, once its client is ended."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/"
        own = 0.3 if by == "timeout of httpx" else None
        async with httpx.AsyncClient(trust_env=False, timeout=own) as client:
            with anyio.move_on_after(0.3 if own is None else 60):
                try:
                    await client.get(url)
                except httpx.TimeoutException:
                    pass
            connection, _ = listening.accept()
        with connection:
            connection.settimeout(1)
            try:
                while connection.recv(65536):
                    pass  # the client's first words
            except TimeoutError:
                return "open, after its client was closed as well"
            except ConnectionResetError:
                pass
            return "closed"


for backend in ("asyncio", "trio"):
    for by in ("timeout of httpx", "cancellation"):
        print(f"{backend}, {by}: {anyio.run(look, by, backend=backend)}")
PYTHON

"$work/environment/bin/python" "$work/handshake.py" | tee "$work/seen"
diff "$work/seen" - <<'EXPECTED'
asyncio, timeout of httpx: closed
asyncio, cancellation: open, after its client was closed as well
trio, timeout of httpx: closed
trio, cancellation: open, after its client was closed as well
EXPECTED
echo "as it was seen"
