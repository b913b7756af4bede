"""Requests that wait for a worker, in the order in which they came. Knows nothing of when they are let in."""

from __future__ import annotations

import asyncio

from serving.errors import NotReadyError
from serving.starter import Life

Turn = asyncio.Future[Life]
"""Done when its request may go on."""


class Waiting:
    def __init__(self) -> None:
        self._turns: dict[Turn, float] = {}

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def since(self) -> float | None:
        """When the first of them came, in monotonic seconds."""
        return next(iter(self._turns.values()), None)

    def join(self, began: float) -> Turn:
        turn: Turn = asyncio.get_running_loop().create_future()
        self._turns[turn] = began
        return turn

    def leave(self, turn: Turn) -> None:
        """Its request goes on, or has given up."""
        self._turns.pop(turn, None)

    def let_in(self, life: Life, most: int) -> None:
        """As many as the worker may have at once."""
        while self._turns and life.in_flight < most:
            turn = next(iter(self._turns))
            self.leave(turn)
            if not turn.done():  # it may have been cancelled, and not yet have left
                life.in_flight += 1
                turn.set_result(life)

    def refuse(self, error: NotReadyError) -> None:
        for turn in list(self._turns):
            self.leave(turn)
            if not turn.done():
                turn.set_exception(error)
