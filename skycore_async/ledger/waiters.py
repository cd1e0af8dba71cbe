"""Those who wait for a change of a key or a tracking id."""

from __future__ import annotations

from collections.abc import Iterable

import anyio


class Waiters:
    """Events by the names that they wait for; each is set when its name changes."""

    def __init__(self) -> None:
        self._events: dict[str, list[anyio.Event]] = {}

    def wait(self, name: str) -> _Wait:
        """Return a context manager whose event is set when `name` changes while it is open."""
        return _Wait(self._events, name)

    def notify(self, names: Iterable[str]) -> None:
        """Wake those who wait for one of these names."""
        if self._events:
            for name in names:
                for event in self._events.get(name, ()):
                    event.set()

    def close(self) -> None:
        """Wake everyone: the ledger is closed, and their next call raises that."""
        self.notify(tuple(self._events))


class _Wait:
    def __init__(self, events: dict[str, list[anyio.Event]], name: str) -> None:
        self._events = events
        self._name = name
        self._event = anyio.Event()

    def __enter__(self) -> anyio.Event:
        self._events.setdefault(self._name, []).append(self._event)
        return self._event

    def __exit__(self, *_error: object) -> None:
        waiting = self._events[self._name]
        waiting.remove(self._event)
        if not waiting:
            del self._events[self._name]
