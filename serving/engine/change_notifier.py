"""That something changed, for whoever wants to hear of it; what there is to tell is read elsewhere."""

from __future__ import annotations

import asyncio


class ChangeNotifier:
    """`version` counts the changes, so that none is missed between reading and listening."""

    def __init__(self) -> None:
        self.version = 0
        self._listeners: set[asyncio.Event] = set()

    def notify(self) -> None:
        self.version += 1
        for listener in self._listeners:
            listener.set()

    async def wait_after(self, seen: int) -> int:
        """The version, as soon as it is not `seen`."""
        listener = asyncio.Event()
        self._listeners.add(listener)
        try:
            while self.version == seen:
                listener.clear()
                await listener.wait()
        finally:
            self._listeners.discard(listener)
        return self.version
