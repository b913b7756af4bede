"""Wakes listeners when something has changed; they read the new state themselves."""

from __future__ import annotations

import asyncio


class ChangeNotifier:
    """Counts changes in `version`, so that none is missed between reading and waiting."""

    def __init__(self) -> None:
        self.version = 0
        self._listeners: set[asyncio.Event] = set()

    def notify(self) -> None:
        self.version += 1
        for listener in self._listeners:
            listener.set()

    async def wait_after(self, seen: int) -> int:
        """Return the version as soon as it differs from `seen`."""
        listener = asyncio.Event()
        self._listeners.add(listener)
        try:
            while self.version == seen:
                listener.clear()
                await listener.wait()
        finally:
            self._listeners.discard(listener)
        return self.version
