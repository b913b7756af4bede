"""What an engine was doing in the last minutes: its states, one after the other, as they were heard of.

Kept with the page's server, so that a reload and a second browser see the same. Knows nothing of how it is shown.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from ui.servers.state import News, State, Unknown

Look = State | Literal["idle", "unknown"]
"""A worker that serves is `idle` while its seconds are counted down."""
KEPT = 1000
"""Ten minutes of a server that is asked, and waits, each second."""
PAUSE_S = 1.0
"""A shorter wait between two requests is no idling: under traffic the past would be nothing but such waits."""


@dataclass(frozen=True)
class Band:
    """One state; it lasted until the next one began."""

    look: Look
    began: float
    """Seconds of the monotonic clock: what lengths are computed from."""
    at: float
    """Unix seconds: what a person is told."""


class Past:
    """Not safe from several threads: whoever owns it locks."""

    def __init__(self) -> None:
        self._bands: deque[Band] = deque(maxlen=KEPT)

    @property
    def bands(self) -> list[Band]:
        """The oldest first; the last one goes on."""
        return list(self._bands)

    def note(self, news: News, monotonic: float, unix: float) -> None:
        look = look_of(news)
        if self._bands and self._bands[-1].look == look:
            return
        if look == "serving" and self._paused(monotonic):
            self._bands.pop()
            return
        self._bands.append(Band(look, monotonic, unix))

    def _paused(self, monotonic: float) -> bool:
        if len(self._bands) < 2:
            return False
        before, last = self._bands[-2], self._bands[-1]
        return before.look == "serving" and last.look == "idle" and monotonic - last.began < PAUSE_S


def look_of(news: News) -> Look:
    if isinstance(news, Unknown):
        return "unknown"
    return "idle" if news.look == "serving" and news.seconds_left is not None else news.look
