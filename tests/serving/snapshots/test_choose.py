"""Which backend is chosen, and why not the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serving.settings import Settings
from serving.snapshots.base import SnapshotBackend, WorkerSpec
from serving.snapshots.choose import UnsupportedBackend, choose_backend
from serving.snapshots.criu.backend import CriuBackend
from serving.snapshots.fork import ForkBackend
from tests.support import criu
from tests.support.scripted_engine import NAME


def spec_of(folder: Path, **settings: object) -> WorkerSpec:
    return WorkerSpec(NAME, "scripted-1", Settings(data=folder, criu=criu.tool() or "", **settings))  # type: ignore[arg-type]


def test_choice(tmp_path: Path) -> None:
    async def main() -> None:
        spec = spec_of(tmp_path, cores=1)
        gpu = WorkerSpec(NAME, "scripted-1", Settings(data=tmp_path), cpu=False)
        candidates: list[SnapshotBackend] = [
            CriuBackend(Settings(data=tmp_path, criu="/nowhere/criu"), tmp_path),
            ForkBackend(),
        ]
        nowhere = WorkerSpec(NAME, "scripted-1", Settings(data=tmp_path, criu="/nowhere/criu"))
        choice = await choose_backend("auto", nowhere, candidates)
        assert choice.name == "fork" and "/nowhere/criu is not installed" in choice.refused["criu"]
        assert (await choose_backend("plain", spec, candidates)).backend is None
        with pytest.raises(UnsupportedBackend, match=r"--snapshot criu cannot be used here.*--snapshot auto"):
            await choose_backend("criu", nowhere, candidates)
        left = await choose_backend("auto", gpu, candidates)
        assert left.name == "plain" and set(left.refused) == {"criu", "fork"}

    asyncio.run(main())
