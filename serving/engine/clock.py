"""Time as the engine sees it; an argument of it, so that tests need not wait."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """The system's. Idle time is counted in monotonic seconds: setting the date starts and ends nothing."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        """Unix seconds, only to be shown."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
