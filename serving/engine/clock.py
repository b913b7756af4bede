"""The engine's clock, which is passed in so that tests need not wait."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """Reads the system clock. Idle time is in monotonic seconds, so that setting the date starts and ends nothing."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        """Return Unix seconds, for display only."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
