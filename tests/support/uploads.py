"""Uploads, and jobs that take them into a library."""

from __future__ import annotations

from pathlib import Path

from tests.support.libraries import made
from ui.access.uploads import Upload
from ui.core.jobs import IngestJob
from ui.core.service import Service


def upload(folder: Path, name: str, data: bytes) -> Upload:
    path = folder / f"{abs(hash((name, data)))}"
    path.write_bytes(data)
    return Upload(path, name)


def run(service: Service, *uploads: Upload) -> IngestJob:
    job = service.ingestor.start(made(service.library), uploads)
    assert job.finished.wait(30)
    return job
