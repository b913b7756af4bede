"""The log on standard error, written by a thread of its own: whoever does not read it stops nobody."""

from __future__ import annotations

import logging
import logging.handlers
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
MAX_WAITING_LINES = 10_000
"""Lines that wait to be written; more are dropped."""
DRAIN_S = 1.0
"""For the last lines, when the process ends."""
WORKER_LOGGER = "worker"
"""Logger of the lines that a worker wrote: they are passed on as they are."""


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
        """Standard error is gone: there is nowhere to say so."""


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Everything from INFO on, while the block runs."""
    lines: queue.Queue[logging.LogRecord] = queue.Queue(MAX_WAITING_LINES)
    stream = QuietStreamHandler()
    stream.setFormatter(logging.Formatter(FORMAT))
    sender = DroppingQueueHandler(lines)
    sender.setFormatter(logging.Formatter("%(message)s"))  # the rest is added where it is written
    logging.basicConfig(level=logging.INFO, handlers=[sender])
    logging.handlers.QueueListener(lines, stream).start()  # a daemon thread: it is not waited for for ever
    try:
        yield
    finally:
        ends = time.monotonic() + DRAIN_S
        while lines.unfinished_tasks and time.monotonic() < ends:
            time.sleep(0.01)
