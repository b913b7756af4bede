"""Many clients at once against one server: requests a second, and how long each took.

Clients are threads of a few processes, so that this interpreter is not what is measured. Bodies are made before; a
client sends the next one as soon as it has its answer.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import multiprocessing
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image, ImageDraw

from bench.results.stats import percentile

PROCESSES = 4
LEAD_S = 1.0
"""Seconds until all clients are at work; answers before are not counted."""
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class LoadTarget:
    """A route of a server, and what is sent to it."""

    url: str
    path: str
    bodies: Path
    """A folder of request bodies, sent in turn."""


Answer = tuple[float, str]
"""Milliseconds, and the Server-Timing header."""


@dataclass(frozen=True)
class LoadResult:
    """The answers to a number of clients."""

    clients: int
    seconds: float
    milliseconds: list[float]
    failures: list[str]
    server_timings: list[str]
    """The header of each answer, in the order of `milliseconds`; empty where a server sends none."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.milliseconds) / self.seconds

    def as_json(self) -> dict[str, Any]:
        figures: dict[str, Any] = {
            "clients": self.clients, "seconds": round(self.seconds, 2), "n": len(self.milliseconds),
            "per_s": round(self.rate, 1), "failures": len(self.failures), "first_failures": self.failures[:3],
        }  # fmt: skip
        if self.milliseconds:
            for name, q in (("p50_ms", 50), ("p95_ms", 95), ("max_ms", 100)):
                figures[name] = round(percentile(self.milliseconds, q), 1)
        return figures


BARRIERS: list[Barrier] = []
"""Of a process that sends requests: what it waits at until all are ready."""


def run_clients(target: LoadTarget, clients: int, seconds: float, gap_s: float = 0.0) -> LoadResult:
    """Send requests for some seconds. `gap_s`: the pause of each client between an answer and its next request."""
    processes = min(PROCESSES, clients)
    shares = [clients // processes + (n < clients % processes) for n in range(processes)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, keep_barrier, (context.Barrier(processes),)) as pool:
        jobs = [(target, share, seconds, gap_s, 1000 * n) for n, share in enumerate(shares)]
        results = pool.starmap(drive_clients, jobs, chunksize=1)
    answers = [answer for part in results for answer in part[0]]
    failures = [reason for part in results for reason in part[1]]
    return LoadResult(clients, seconds, [took for took, _ in answers], failures, [timing for _, timing in answers])


def keep_barrier(barrier: Barrier) -> None:
    """Keep what can only be handed over when a process starts."""
    BARRIERS.append(barrier)


def drive_clients(
    target: LoadTarget, clients: int, seconds: float, gap_s: float, seed: int
) -> tuple[list[Answer], list[str]]:
    """Run the clients of one process, once all processes are ready, and return their answers and failures."""
    bodies = [path.read_bytes() for path in sorted(target.bodies.iterdir())]
    took: list[Answer] = []
    failures: list[str] = []
    BARRIERS[-1].wait()
    counted = time.perf_counter() + LEAD_S
    ends = counted + seconds

    def client(number: int) -> None:
        where = urlsplit(target.url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=TIMEOUT_S)
        turn = seed + number * 7
        while (began := time.perf_counter()) < ends:
            reason, timing = post_body(connection, target.path, bodies[turn % len(bodies)])
            ended = time.perf_counter()
            turn += 1
            if counted <= ended < ends and reason:
                failures.append(reason)
            elif counted <= ended < ends:
                took.append(((ended - began) * 1000, timing))
            time.sleep(gap_s)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    return took, failures


def post_body(connection: http.client.HTTPConnection, path: str, body: bytes) -> tuple[str, str]:
    """Send one body; return why there was no answer, empty if there was one, and the Server-Timing."""
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        time.sleep(0.1)
        return f"{type(error).__name__}: {error}", ""
    reason = "" if answer.status == 200 else f"{answer.status} {content[:200].decode('utf-8', 'replace')}"
    return reason, answer.getheader("Server-Timing", "")


def draw_jpegs(count: int) -> list[bytes]:
    """Return pages of 1240 x 1754 pixels full of small text, 0.5 MB each, as a scanner makes them of A4 at 150 dpi."""
    pages = []
    for seed in range(count):
        letters = random.Random(seed)
        page = Image.new("RGB", (1240, 1754), "white")
        draw = ImageDraw.Draw(page)
        for y in range(40, 1700, 24):
            draw.text((60, y), "".join(letters.choice("abcdefgh ijkl mnop qrst") for _ in range(150)), fill="black")
        buffer = io.BytesIO()
        page.save(buffer, "JPEG", quality=85)
        pages.append(buffer.getvalue())
    return pages


def write_bodies(folder: Path, bodies: Sequence[object]) -> Path:
    """Write one file a body, and return the folder."""
    folder.mkdir(parents=True)
    for number, body in enumerate(bodies):
        (folder / f"{number:04}.json").write_text(json.dumps(body))
    return folder


def build_chat_body(jpeg: bytes, model: str) -> dict[str, Any]:
    """Return a page as vLLM's own server has to be asked for the same vector: two `<bos>`, and the trained prompt."""
    image = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()}}
    content = [image, {"type": "text", "text": "Describe this image"}]
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "add_special_tokens": True,
        "encoding_format": "base64",
    }
