"""Requests to workers that came back from a snapshot."""

from __future__ import annotations

import httpx2

from serving.snapshots.worker_handle import WorkerHandle


def quiet(phase: str, milliseconds: float | None) -> None: ...


async def ask(handle: WorkerHandle, text: str = "total due") -> list[float]:
    assert handle.socket is not None
    async with httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=str(handle.socket))) as client:
        answer = await client.post("http://localhost/embed", json={"texts": [text]}, timeout=20)
    found: list[float] = answer.json()["embeddings"][0]
    return found
