"""The template that is forked."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import psutil
import pytest

from serving.settings import Settings
from serving.snapshots.base import SnapshotFailed, WorkerSpec
from serving.snapshots.fork import ForkBackend
from tests.support.restored_workers import quiet


class Threaded:
    """An embedder that leaves a thread behind, as an HTTP client or a tokenizer may."""

    def __init__(self, settings: Settings) -> None:
        self.fingerprint = "threaded"
        self.settings = settings

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner(), name)

    def _inner(self) -> object:
        from tests.support.scripted_engine import ScriptedEmbedder

        return ScriptedEmbedder(self.settings)

    def warm_up(self) -> None:
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def test_template_with_threads_is_refused(tmp_path: Path) -> None:
    """Its children would hang on a lock that a thread held which they have not."""

    async def main() -> None:
        spec = WorkerSpec("tests.serving.snapshots.test_fork:Threaded", "threaded", Settings(data=tmp_path))
        with pytest.raises(SnapshotFailed, match="threads that no fork would keep"):
            await ForkBackend().create(spec, quiet)

    me = psutil.Process()
    others = me.children()
    asyncio.run(main())
    assert set(me.children()) <= set(others), "the template has ended; workers of other tests' servers come and go"
