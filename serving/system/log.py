"""The log on standard error, written by a thread of its own: whoever does not read it stops nobody."""

from __future__ import annotations

import logging
import logging.handlers
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
MOST = 10_000
"""Lines that wait to be written; more are dropped."""
LAST_S = 1.0
"""For the last lines, when the process ends."""
WORKER = "worker"
"""Logger of the lines that a worker wrote: they are passed on as they are."""


class Dropping(logging.handlers.QueueHandler):
    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            return


class Quiet(logging.StreamHandler):  # type: ignore[type-arg]
    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage() if record.name == WORKER else super().format(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Standard error is gone: there is nowhere to say so."""


@contextmanager
def to_stderr() -> Iterator[None]:
    """Everything from INFO on, while the block runs."""
    lines: queue.Queue[logging.LogRecord] = queue.Queue(MOST)
    stream = Quiet()
    stream.setFormatter(logging.Formatter(FORMAT))
    sender = Dropping(lines)
    sender.setFormatter(logging.Formatter("%(message)s"))  # the rest is added where it is written
    logging.basicConfig(level=logging.INFO, handlers=[sender])
    logging.handlers.QueueListener(lines, stream).start()  # a daemon thread: it is not waited for for ever
    try:
        yield
    finally:
        ends = time.monotonic() + LAST_S
        while lines.unfinished_tasks and time.monotonic() < ends:
            time.sleep(0.01)
