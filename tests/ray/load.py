"""Load on a server from several threads: by our client, which tries again, or by one that does not."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import requests

from serving.client import EmbeddingClient


@dataclass
class Seen:
    """What the clients saw."""

    boots: Counter[str] = field(default_factory=Counter)
    """Answers by the boot id of the worker."""
    vectors: set[bytes] = field(default_factory=set)
    retries: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def answers(self) -> int:
        return self.boots.total()


@contextmanager
def load(url: str, key: str, threads: int, *, raw: bool = False) -> Iterator[Seen]:
    """Ask one question again and again. `raw`: each request once, on a connection of its own."""
    seen, stop, lock = Seen(), threading.Event(), threading.Lock()

    def ask_by_client() -> None:
        client = EmbeddingClient(url, key, deadline_s=90)
        while not stop.is_set():
            try:
                found = client.embed_queries(["total due"])
            except Exception as error:
                with lock:
                    seen.failures.append(repr(error))
                continue
            with lock:
                seen.boots[found.boot_id] += 1
                seen.vectors.add(found.vectors.tobytes())
                seen.retries += found.retries

    def ask_once() -> None:
        headers = {"Authorization": f"Bearer {key}"}
        while not stop.is_set():
            try:
                found = requests.post(url + "/embed", json={"texts": ["total due"]}, headers=headers, timeout=90)
                failure = "" if found.ok else f"{found.status_code} {found.text}"
            except requests.RequestException as error:
                failure = repr(error)
            with lock:
                if failure:
                    seen.failures.append(failure)
                else:
                    seen.boots[found.headers["X-Boot-Id"]] += 1

    running = [threading.Thread(target=ask_once if raw else ask_by_client) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in running:
            thread.join(100)
