"""The log on standard error, written by a thread of its own: a reader that stops reading blocks nothing."""

from __future__ import annotations

import logging
import logging.handlers
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
MAX_WAITING_LINES = 10_000
"""More waiting lines than this are dropped."""
DRAIN_S = 1.0
"""Time for writing the last lines when the process ends."""
WORKER_LOGGER = "worker"
"""Logger of the lines that a worker wrote: they are passed on unchanged."""


class DroppingQueueHandler(logging.handlers.QueueHandler):
    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            return


class QuietStreamHandler(logging.StreamHandler):  # type: ignore[type-arg]
    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage() if record.name == WORKER_LOGGER else super().format(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing: without standard error an error cannot be reported."""


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Log everything from INFO on to standard error while the block runs."""
    lines: queue.Queue[logging.LogRecord] = queue.Queue(MAX_WAITING_LINES)
    stream = QuietStreamHandler()
    stream.setFormatter(logging.Formatter(FORMAT))
    sender = DroppingQueueHandler(lines)
    sender.setFormatter(logging.Formatter("%(message)s"))  # QuietStreamHandler adds the rest
    logging.basicConfig(level=logging.INFO, handlers=[sender])
    logging.handlers.QueueListener(
        lines, stream
    ).start()  # a daemon thread, so that the end of the process does not wait for it
    try:
        yield
    finally:
        ends = time.monotonic() + DRAIN_S
        while lines.unfinished_tasks and time.monotonic() < ends:
            time.sleep(0.01)
