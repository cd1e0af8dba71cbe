"""What a look at an idle connection's socket tells."""

from __future__ import annotations

import socket

from skycore_async.transports.readable import is_readable


def test_a_socket_is_readable_once_something_came_or_it_ended() -> None:
    """Bytes that nobody asked for, the other side's end and our own are seen without reading."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            assert not is_readable(ours.fileno())
            theirs.send(b"HTTP/1.1 408")
            assert is_readable(ours.fileno())
            ours.recv(100)
            assert not is_readable(ours.fileno())
        assert is_readable(ours.fileno())
    assert is_readable(ours.fileno())
