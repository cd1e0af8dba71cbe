"""Whether an idle connection's socket has something to read, or has ended."""

from __future__ import annotations

import socket

from skycore_async.transports.socket_probe import Readiness


def test_a_socket_is_readable_once_something_came_or_it_ended() -> None:
    """A socket is readable once bytes came, or either side closed it."""
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
    """A socket closed before the first look counts as ended, without an error."""
    ours, theirs = socket.socketpair()
    theirs.close()
    ours.close()
    assert Readiness(ours).is_readable()
