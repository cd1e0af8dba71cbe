"""One side of a comparison of receivers, as a program: it serves the build on PYTHONPATH.

`python -P benchmarks/receiver_side.py PATH COUNT` sends COUNT messages over a transport that
answers at once, into a new ledger at PATH, and then serves a `PostbackReceiver` with it under
uvicorn.  It prints its port, and then, for each line of its standard input, the seconds of CPU
that it has taken; it ends when its standard input ends.

Rule: it uses only names that both builds have, and no other module of the benchmarks.
"""

from __future__ import annotations

import gc
import itertools
import socket
import sys
import threading
import time

import anyio
import uvicorn

from skycore_async import (
    SMS,
    PostbackReceiver,
    Request,
    Response,
    SkycoreClient,
    SQLiteLedger,
)

KEY = "Y6r74u6Br4hAVgrolveksjEiiu8yJX"  # the example of the provider's page


class _AcceptingTransport:
    """A transport that takes every message, and numbers them."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    async def send(self, request: Request, *, timeout: float) -> Response:
        answer = (
            "<RESPONSE><STATUS>Success</STATUS>"
            f"<TRACKINGID>SMS_{next(self._numbers)}</TRACKINGID></RESPONSE>"
        )
        return Response(status=200, headers={}, body=answer.encode())

    async def aclose(self) -> None:
        pass


async def _fill(path: str, count: int) -> None:
    async with (
        SQLiteLedger(path) as ledger,
        SkycoreClient(api_key=KEY, transport=_AcceptingTransport(), ledger=ledger) as client,
        client.send_many(
            SMS(to=f"1555{n:07}", text="Hello Jerry", from_="60856", key=f"order-{n}")
            for n in range(count)
        ) as outcomes,
    ):
        async for _ in outcomes:
            pass


def _serve(path: str) -> None:
    app = PostbackReceiver(ledger=SQLiteLedger(path))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as where uvicorn makes it
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))

    def tell() -> None:
        for _ in sys.stdin:
            print(time.process_time(), flush=True)
        server.should_exit = True

    threading.Thread(target=tell, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    server.run(sockets=[listener])


if __name__ == "__main__":
    anyio.run(_fill, sys.argv[1], int(sys.argv[2]))
    gc.collect()  # as in `side.py`
    _serve(sys.argv[1])
