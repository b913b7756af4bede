"""The log on standard error, written by a thread of its own: a reader that stops reading blocks nothing."""

from __future__ import annotations

import logging
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
MAX_WAITING_TEXTS = 10_000
DRAIN_S = 1.0
"""Time for writing the last lines at the end."""
WORKER_LOGGER = "worker"
"""Logger of the lines that a worker wrote: they are passed on unchanged."""


class StderrWriter(threading.Thread):
    """A stream whose texts reach standard error one after the other; the oldest are dropped where too many wait."""

    def __init__(self) -> None:
        super().__init__(name="standard error", daemon=True)
        self._texts: queue.Queue[str | None] = queue.Queue(MAX_WAITING_TEXTS)
        self.start()

    def write(self, text: str | None) -> None:
        """Add a text; None ends the thread."""
        while True:
            with suppress(queue.Full):
                return self._texts.put_nowait(text)
            with suppress(queue.Empty):
                self._texts.get_nowait()

    def flush(self) -> None: ...

    def close(self) -> None:
        self.write(None)
        self.join(DRAIN_S)

    def run(self) -> None:
        while (text := self._texts.get()) is not None:
            with suppress(OSError, ValueError, AttributeError):  # broken, closed, none from the start
                sys.stderr.write(text)


class LineFormatter(logging.Formatter):
    """Formats our own records, and leaves a worker's lines as they are."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage() if record.name == WORKER_LOGGER else super().format(record)


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Log everything from INFO on to standard error while the block runs."""
    writer = StderrWriter()
    handler = logging.StreamHandler(writer)
    handler.setFormatter(LineFormatter(FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        yield
    finally:
        writer.close()
