from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.client import EmbeddingClient
from serving.library import Library
from serving.settings import Settings
from tests.conftest import ScriptedWorker
from tests.files import encoded, huge_png, pdf, picture
from tests.test_app import until
from ui.ingest import Job, Upload
from ui.service import Service


@pytest.fixture
def service(scripted: ScriptedWorker, limits: Settings, tmp_path: Path) -> Iterator[Service]:
    service = Service(EmbeddingClient(scripted.url, deadline_s=20), Library(tmp_path / "library"), limits)
    yield service
    scripted.embedder.gate.set()
    service.close()


def upload(folder: Path, name: str, data: bytes) -> Upload:
    path = folder / f"{abs(hash((name, data)))}"
    path.write_bytes(data)
    return Upload(path, name)


def run(service: Service, *uploads: Upload) -> Job:
    job = service.ingestor.start("c", uploads)
    assert job.finished.wait(30)
    return job


def test_pages_are_added_and_bad_files_are_skipped_with_a_reason(service: Service, tmp_path: Path) -> None:
    whole = encoded(picture((800, 600), "words"), "JPEG")
    job = run(
        service,
        upload(tmp_path, "three.pdf", pdf([["Some words on the first page"], ["and on the second page too"], []])),
        upload(tmp_path, "photo.jpg", whole),
        upload(tmp_path, "cut.jpg", whole[: len(whole) // 2]),
        upload(tmp_path, "text.png", b"only text"),
        upload(tmp_path, "bomb.png", huge_png()),
        upload(tmp_path, "locked.pdf", pdf([["secret"]], password="pw")),
        upload(tmp_path, "broken.pdf", b"%PDF-1.4 nothing"),
        upload(tmp_path, "empty.png", b""),
        Upload(tmp_path / "no-longer-there", "gone.png"),
    )
    assert job.state == "done" and job.total == job.done == 5
    added = sorted((page.file, page.page) for page in job.added)
    assert added == [("photo.jpg", 1), ("three.pdf", 1), ("three.pdf", 2), ("three.pdf", 3)]
    reasons = {item.file: item.reason for item in job.skipped}
    assert set(reasons) == {"cut.jpg", "text.png", "bomb.png", "locked.pdf", "broken.pdf", "empty.png", "gone.png"}
    assert "password" in reasons["locked.pdf"] and "megapixels" in reasons["bomb.png"]
    assert "damaged" in reasons["cut.jpg"] and "empty" in reasons["empty.png"]
    assert service.library.collection("c").pages == 4


def test_same_file_again_is_skipped_and_missing_pages_are_filled_in(service: Service, tmp_path: Path) -> None:
    file = upload(tmp_path, "a.pdf", pdf([[f"Words of page number {n}"] for n in range(4)]))
    first = run(service, file, upload(tmp_path, "twin.pdf", file.path.read_bytes()))
    assert len(first.added) == 4 and [item.file for item in first.skipped] == ["twin.pdf"]
    assert "already here as a.pdf" in first.skipped[0].reason
    service.delete("c", [page.id for page in first.added if page.page in (2, 3)])
    again = run(service, file)
    assert sorted(page.page for page in again.added) == [2, 3] and "2 of its 4 pages" in again.skipped[0].reason
    assert again.done == again.total == 4


def test_cancel_keeps_what_is_done(service: Service, scripted: ScriptedWorker, tmp_path: Path) -> None:
    scripted.embedder.seconds = 0.05
    job = service.ingestor.start("c", [upload(tmp_path, "a.pdf", pdf([[f"Words of page {n}"] for n in range(150)]))])
    until(lambda: len(job.added) >= 3)
    assert service.ingestor.active("c") is job and job.seconds_left is not None
    service.ingestor.cancel("c")
    assert job.finished.wait(20) and job.state == "cancelled"
    assert 3 <= len(job.added) < 60 and service.library.collection("c").pages == len(job.added)
    assert service.ingestor.active("c") is None


def test_failing_worker_ends_the_job_with_its_reason(
    service: Service, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    scripted.embedder.nan = True
    job = run(
        service, upload(tmp_path, "a.png", encoded(picture())), upload(tmp_path, "b.png", encoded(picture((50, 50))))
    )
    assert job.state == "failed" and "not finite" in job.error and service.library.collection("c").pages == 0
    scripted.embedder.nan = False
    assert run(service, upload(tmp_path, "a.png", encoded(picture()))).state == "done"


def test_one_unreadable_page_does_not_end_the_job(service: Service, tmp_path: Path) -> None:
    pages = [["Perfectly fine words here"], ["This one is unreadable for the model"], ["And fine words again"]]
    job = run(service, upload(tmp_path, "a.pdf", pdf(pages)))
    assert job.state == "done" and sorted(page.page for page in job.added) == [1, 3]
    assert job.skipped[0].file == "a.pdf, page 2"


def test_jobs_wait_for_each_other(service: Service, scripted: ScriptedWorker, tmp_path: Path) -> None:
    scripted.embedder.gate.clear()
    first = service.ingestor.start("c", [upload(tmp_path, "a.png", encoded(picture()))])
    second = service.ingestor.start("d", [upload(tmp_path, "b.png", encoded(picture((9, 9))))])
    until(lambda: first.state == "running")
    assert second.state == "waiting" and second.seconds == 0
    scripted.embedder.gate.set()
    assert second.finished.wait(10) and (first.state, second.state) == ("done", "done")


def test_close_in_the_middle_ends_soon(service: Service, scripted: ScriptedWorker, tmp_path: Path) -> None:
    scripted.embedder.seconds = 0.05
    job = service.ingestor.start("c", [upload(tmp_path, "a.pdf", pdf([[f"Words of page {n}"] for n in range(100)]))])
    until(lambda: len(job.added) >= 2)
    service.ingestor.close()
    assert job.finished.is_set() and job.state == "cancelled"
