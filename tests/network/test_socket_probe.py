"""What a look at an idle connection's socket tells."""

from __future__ import annotations

import socket

from skycore_async.transports.socket_probe import Readiness


def test_a_socket_is_readable_once_something_came_or_it_ended() -> None:
    """Bytes that nobody asked for, the other side's end and our own are seen without reading."""
    ours, theirs = socket.socketpair()
    readiness = Readiness(ours)
    with ours:
        with theirs:
            assert not readiness.is_readable()
            theirs.send(b"HTTP/1.1 408")
            assert readiness.is_readable()
            ours.recv(100)
            assert not readiness.is_readable()
        assert readiness.is_readable()
    assert readiness.is_readable()


def test_a_socket_that_is_closed_from_the_first_is_at_its_end() -> None:
    """One that was lost before anybody looked at it is no error."""
    ours, theirs = socket.socketpair()
    theirs.close()
    ours.close()
    assert Readiness(ours).is_readable()
