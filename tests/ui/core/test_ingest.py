"""Jobs that take uploads into a library: what is added, what is skipped, and how a job ends."""

from __future__ import annotations

import errno
import logging
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from serving.client import EmbeddingClient
from serving.documents import archives
from serving.errors import NotReadyError
from serving.library.database import LibraryError
from serving.library.library import Library
from serving.library.records import ABSENT, StoredPage
from serving.settings import Settings
from tests.support.files import encoded, huge_png, pdf, picture
from tests.support.hostile_pdfs import AMPLE, NESTED, hostile_pdf
from tests.support.hostile_pictures import endless_jpeg
from tests.support.libraries import at, held, made
from tests.support.servers import ScriptedWorker, make_settings
from tests.support.stores import list_pictures
from tests.support.uploads import run, upload
from tests.support.waiting import until
from tests.support.zips import zipped
from ui.access.uploads import Upload
from ui.core.service import Service
from ui.servers.target import Target, Targets


def test_pages_are_added_and_bad_files_are_skipped_with_a_reason(service: Service, tmp_path: Path) -> None:
    whole = encoded(picture((800, 600), "words"), "JPEG")
    job = run(
        service,
        upload(tmp_path, "three.pdf", pdf([["Some words on the first page"], ["and on the second page too"], []])),
        upload(tmp_path, "photo.jpg", whole),
        upload(tmp_path, "cut.jpg", whole[: len(whole) // 2]),
        upload(tmp_path, "text.png", b"only text"),
        upload(tmp_path, "bomb.png", huge_png(15_000)),
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
    assert service.library.catalogue.find_collection("c").pages == 4


def test_zips_and_folders_become_their_files(service: Service, tmp_path: Path, settings: Settings) -> None:
    document, photo = pdf([["Some words on it"], ["and more of them"]]), encoded(picture((80, 60)), "JPEG")
    inner = zipped({"a.png": encoded(picture())})
    job = run(
        service,
        upload(tmp_path, "2026.zip", zipped({"may/manual.pdf": document, "june/photo.jpg": photo, "inner.zip": inner})),
        upload(tmp_path, "photo again.jpg", photo),
        upload(tmp_path, "broken.zip", b"PK\x03\x04 and no more"),
        upload(tmp_path, ".DS_Store", b"clutter of a folder"),
    )
    assert job.state == "done" and job.total == job.done == 4
    added = sorted((page.file, page.page) for page in job.added)
    assert added == [("2026.zip/june/photo.jpg", 1), ("2026.zip/may/manual.pdf", 1), ("2026.zip/may/manual.pdf", 2)]
    reasons = {item.file: item.reason for item in job.skipped}
    assert set(reasons) == {"2026.zip/inner.zip", "photo again.jpg", "broken.zip"}
    assert "zip inside a zip" in reasons["2026.zip/inner.zip"] and "already here as" in reasons["photo again.jpg"]
    assert list((settings.data / "unpacked").iterdir()) == []


def test_disk_full_while_unpacking_is_told(
    service: Service, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    job = run(
        service,
        upload(tmp_path, "a.zip", zipped({"a.png": encoded(picture())})),
        upload(tmp_path, "b.png", encoded(picture((50, 50)))),
    )
    assert [item.reason for item in job.skipped] == ["it could not be unpacked: No space left on device"]
    assert [page.file for page in job.added] == ["b.png"] and list((settings.data / "unpacked").iterdir()) == []


def test_same_file_again_is_skipped_and_missing_pages_are_filled_in(service: Service, tmp_path: Path) -> None:
    file = upload(tmp_path, "a.pdf", pdf([[f"Words of page number {n}"] for n in range(4)]))
    first = run(service, file, upload(tmp_path, "twin.pdf", file.path.read_bytes()))
    assert len(first.added) == 4 and [item.file for item in first.skipped] == ["twin.pdf"]
    assert "already here as a.pdf" in first.skipped[0].reason
    service.delete_pages(at(service.library), [page.id for page in first.added if page.page in (2, 3)])
    again = run(service, file)
    assert sorted(page.page for page in again.added) == [2, 3] and "2 of its 4 pages" in again.skipped[0].reason
    assert again.done == again.total == 4


def test_cancel_keeps_what_is_done(service: Service, scripted: ScriptedWorker, tmp_path: Path) -> None:
    scripted.embedder.seconds = 0.05
    job = service.ingestor.start(
        made(service.library), [upload(tmp_path, "a.pdf", pdf([[f"Words of page {n}"] for n in range(150)]))]
    )
    until(lambda: len(job.added) >= 3)
    assert service.ingestor.active_job(at(service.library)) is job
    until(lambda: job.seconds_left is not None)
    service.ingestor.cancel(at(service.library))
    assert job.finished.wait(20) and job.state == "cancelled"
    assert 3 <= len(job.added) < 100 and service.library.catalogue.find_collection("c").pages == len(job.added)
    assert service.ingestor.active_job(at(service.library)) is None


def test_faults_of_a_page_are_skipped_and_faults_of_all_end_the_job(
    service: Service, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    scripted.embedder.nan = True
    job = run(
        service, upload(tmp_path, "a.png", encoded(picture())), upload(tmp_path, "b.png", encoded(picture((50, 50))))
    )
    assert job.state == "done" and len(job.skipped) == 2 and "not finite" in job.skipped[0].reason
    scripted.embedder.nan = False
    scripted.embedder.fingerprint = "scripted-2"
    run(service, upload(tmp_path, "c.png", encoded(picture((60, 60)))))
    scripted.embedder.fingerprint = "scripted-1"
    other = run(service, upload(tmp_path, "d.png", encoded(picture((70, 70)))))
    assert other.state == "failed" and "another embedder" in other.error
    scripted.embedder.fingerprint = "scripted-2"
    assert run(service, upload(tmp_path, "a.png", encoded(picture()))).state == "done"


def test_one_unreadable_page_does_not_end_the_job(service: Service, tmp_path: Path) -> None:
    pages = [["Perfectly fine words here"], ["This one is unreadable for the model"], ["And fine words again"]]
    job = run(service, upload(tmp_path, "a.pdf", pdf(pages)))
    assert job.state == "done" and sorted(page.page for page in job.added) == [1, 3]
    assert job.skipped[0].file == "a.pdf, page 2"


def test_a_slow_pdf_keeps_nobody_waiting_and_is_cancelled_soon(service: Service, tmp_path: Path) -> None:
    slow = service.ingestor.start(
        made(service.library), [upload(tmp_path, "slow.pdf", hostile_pdf(*[NESTED] * 4, "Some words"))]
    )
    until(lambda: slow.total == 5)
    others = [
        service.ingestor.start(made(service.library, "d"), [upload(tmp_path, "photo.jpg", encoded(picture(), "JPEG"))]),
        service.ingestor.start(
            made(service.library, "e"), [upload(tmp_path, "words.pdf", pdf([["Some words on a page"]]))]
        ),
    ]
    for job in others:
        assert job.finished.wait(20) and job.state == "done" and len(job.added) == 1
    assert not slow.finished.is_set()
    service.ingestor.cancel(at(service.library))
    assert slow.finished.wait(10) and slow.state == "cancelled" and not slow.added and not slow.skipped


def test_pages_keep_their_order_behind_one_that_cannot_be_drawn(scripted: ScriptedWorker, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, cores=2, parser_timeout_s=5, parser_memory_bytes=AMPLE)
    targets = Targets([Target(EmbeddingClient(scripted.url, deadline_s=20), "scripted")])
    with closing(Service(targets, Library(tmp_path / "library"), settings)) as service:
        words = [f"These are the words of page {n}" for n in (1, 3, 4, 5)]
        pictures = upload(tmp_path, "b.jpg", endless_jpeg()), upload(tmp_path, "c.png", encoded(picture()))
        job = run(service, upload(tmp_path, "a.pdf", hostile_pdf(words[0], NESTED, *words[1:])), *pictures)
    assert job.state == "done" and sorted(page.page for page in job.added) == [1, 1, 3, 4, 5]
    assert sorted((item.file, item.reason) for item in job.skipped) == [  # both are read at once: either may end first
        ("a.pdf, page 2", "page 2 cannot be drawn: it took longer than 5 s"),
        ("b.jpg", "this picture cannot be read: it took longer than 5 s"),
    ]


def test_close_stops_jobs_that_wait_too(service: Service, scripted: ScriptedWorker, tmp_path: Path) -> None:
    scripted.embedder.gate.clear()
    running = service.ingestor.start(made(service.library), [upload(tmp_path, "a.png", encoded(picture()))])
    until(lambda: bool(scripted.embedder.calls))
    waiting = service.ingestor.start(made(service.library), [upload(tmp_path, "b.png", encoded(picture((9, 9))))])
    service.ingestor.pause(waiting)
    closing = threading.Thread(target=service.ingestor.close)
    closing.start()
    scripted.embedder.gate.set()
    assert running.finished.wait(20) and waiting.finished.wait(20) and waiting.state == "stopped"
    closing.join(20)
    with pytest.raises(NotReadyError, match="stopping"):
        service.ingestor.start(ABSENT, [])


def test_damaged_file_among_good_ones(service: Service, tmp_path: Path) -> None:
    frames = [picture(colour=colour) for colour in ("red", "green")]
    tiff = bytearray(encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]))
    for start in range(len(tiff) - 150, len(tiff), 7):
        tiff[start] ^= 0xFF
    good = [upload(tmp_path, f"{n}.png", encoded(picture((40 + n, 40)))) for n in range(2)]
    job = run(service, good[0], upload(tmp_path, "bad.tif", bytes(tiff)), good[1])
    assert job.state == "done" and {page.file for page in job.added} >= {"0.png", "1.png"}


def test_close_in_the_middle_ends_soon(service: Service, scripted: ScriptedWorker, tmp_path: Path) -> None:
    scripted.embedder.seconds = 0.05
    job = service.ingestor.start(
        made(service.library), [upload(tmp_path, "a.pdf", pdf([[f"Words of page {n}"] for n in range(100)]))]
    )
    until(lambda: len(job.added) >= 2)
    service.ingestor.close()
    assert job.finished.is_set() and job.state == "stopped"


@pytest.mark.parametrize("how", ["disk full", "held by another program"])
@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_database_that_takes_nothing_ends_the_job_and_keeps_what_is_there(
    service: Service, scripted: ScriptedWorker, tmp_path: Path, how: str
) -> None:
    first = run(service, upload(tmp_path, "a.png", encoded(picture())))
    library, more = service.library, [upload(tmp_path, f"{n}.png", encoded(picture((60 + n, 40)))) for n in range(40)]
    library.database.connection.execute("PRAGMA busy_timeout = 50")
    scripted.embedder.gate.clear()
    calls = len(scripted.embedder.calls)
    job = service.ingestor.start(made(library), more)
    until(lambda: len(scripted.embedder.calls) > calls)
    with ExitStack() as stack:
        if how == "disk full":
            pages = library.database.connection.execute("PRAGMA page_count").fetchone()[0]
            library.database.connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        else:
            stack.enter_context(held(library.folder / "library.db"))
            with pytest.raises(LibraryError, match="another program holds"):
                service.ingestor.start(made(library), more)
        scripted.embedder.gate.set()
        assert job.finished.wait(30)
    assert job.state == "failed" and ("disk is full" in job.error or "another program holds" in job.error)
    kept = {page.id for page in (*first.added, *job.added)}
    assert {path.name.partition(".")[0] for path in library.pictures.folder.iterdir()} == kept
    library.database.connection.execute("PRAGMA max_page_count = 1000000")
    again = service.ingestor.retry(job)
    assert again.finished.wait(30) and again.state == "done"
    assert library.catalogue.find_collection("c").pages == 41


# A collection that is deleted, renamed or emptied while pages are added to it


def of_many_pages(folder: Path, pages: int = 20) -> Upload:
    return upload(folder, "long.pdf", pdf([[f"Words of page number {n}"] for n in range(pages)]))


@pytest.mark.parametrize("how", ["page", "library"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_collection_that_is_deleted_during_its_upload_stays_deleted(
    service: Service, scripted: ScriptedWorker, tmp_path: Path, how: str, empty: bool
) -> None:
    """By a view of the page or its API; by whatever else has the library; and a job that still waits for its turn."""
    if not empty:
        run(service, upload(tmp_path, "a.png", encoded(picture())))
    key = made(service.library)
    scripted.embedder.gate.clear()
    calls = len(scripted.embedder.calls)
    job = service.ingestor.start(key, [of_many_pages(tmp_path)])
    waiting = service.ingestor.start(key, [upload(tmp_path, "b.png", encoded(picture((9, 9))))])
    until(lambda: len(scripted.embedder.calls) > calls)
    delete = service.library.delete_collection if how == "library" else service.delete_collection
    assert delete(key) == (0 if empty else 1)
    scripted.embedder.gate.set()
    for each in (job, waiting):
        assert each.finished.wait(30)
        assert (each.state, each.error, each.added) == ("failed", "the collection was deleted", [])
    assert len(scripted.embedder.calls) <= calls + 9, "pages were embedded for nobody"
    assert service.library.catalogue.list_collections() == [] and list_pictures(service.library) == set()
    assert service.library.database.fetch_all("SELECT count(*) FROM pages") == [(0,)]
    assert run(service, upload(tmp_path, "a.png", encoded(picture()))).state == "done", "one of its name is another one"


def test_a_collection_that_is_deleted_as_its_upload_ends_is_told(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, real = made(service.library), service.library.add_page

    def add_and_delete(*given: Any, **named: Any) -> StoredPage:
        stored = real(*given, **named)
        service.delete_collection(key)
        return stored

    monkeypatch.setattr(service.library, "add_page", add_and_delete)
    job = service.ingestor.start(key, [upload(tmp_path, "a.png", encoded(picture()))])
    assert job.finished.wait(30)
    assert (job.state, job.error, job.added) == ("failed", "the collection was deleted", [])
    assert list_pictures(service.library) == set()


def test_an_upload_goes_on_into_its_own_collection_under_another_name(
    service: Service, scripted: ScriptedWorker, tmp_path: Path
) -> None:
    """Renamed, its pages moved away, and a new collection of the old name made: all while it runs."""
    first = run(service, upload(tmp_path, "a.png", encoded(picture())))
    library, key = service.library, made(service.library)
    scripted.embedder.gate.clear()
    calls = len(scripted.embedder.calls)
    job = service.ingestor.start(key, [of_many_pages(tmp_path)])
    until(lambda: len(scripted.embedder.calls) > calls)
    assert library.rename_collection(key, "renamed").key == key
    other = library.create_collection("c").key
    assert library.move_pages(key, [page.id for page in first.added], other) == [page.id for page in first.added]
    scripted.embedder.gate.set()
    assert job.finished.wait(30) and job.state == "done"
    found = [(each.key, each.name, each.pages) for each in library.catalogue.list_collections()]
    assert found == [(other, "c", 1), (key, "renamed", 20)]


# Faults of our own


def test_an_error_without_a_number_keeps_its_words(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As Pillow raises them."""

    def broken(*_: object) -> bytes:
        raise OSError("encoder error -2 when writing image file")

    monkeypatch.setattr("ui.core.page_source.encode_thumbnail", broken)
    job = run(service, upload(tmp_path, "a.png", encoded(picture())))
    assert [item.reason for item in job.skipped] == ["it could not be read: encoder error -2 when writing image file"]
    assert "broken" in caplog.text


@pytest.mark.parametrize("where", ["encode_thumbnail", "hash_file", "TemporaryDirectory"])
def test_what_nobody_expected_is_in_the_log_with_its_traceback(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise ZeroDivisionError("a detail of ours")

    with monkeypatch.context() as patch:
        patch.setattr(f"ui.core.page_source.{where}", broken)
        job = run(service, upload(tmp_path, "a.png", encoded(picture())))
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None and record.exc_info[0] is ZeroDivisionError and "broken" in caplog.text
    told = [job.error] if where == "TemporaryDirectory" else [item.reason for item in job.skipped]
    assert told == ["something went wrong here that was not foreseen; the log of this page says more"]
    assert job.state == ("failed" if where == "TemporaryDirectory" else "done") and job.added == []
    assert run(service, upload(tmp_path, "a.png", encoded(picture()))).added, "the next one is not the worse for it"


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)  # a server has no files of pages
def test_the_files_of_pages_are_kept_members_of_zips_too(service: Service, tmp_path: Path, settings: Settings) -> None:
    document, photo = pdf([["Some words on it"], ["and more of them"]]), encoded(picture((80, 60)), "JPEG")
    inside = upload(tmp_path, "papers.zip", zipped({"a/words.pdf": document, "photo.jpg": photo}))
    job = run(service, inside, upload(tmp_path, "again.pdf", document), upload(tmp_path, "none.png", b"only text"))
    kinds = sorted((page.file, page.page, page.original) for page in job.added)
    words = "papers.zip/a/words.pdf"
    assert kinds == [(words, 1, "pdf"), (words, 2, "pdf"), ("papers.zip/photo.jpg", 1, "file")]
    for page in job.added:
        found = service.library.find_original(page.id)
        assert found is not None and found[1].read_bytes() == (document if page.original == "pdf" else photo)
    assert len(list(service.library.originals.folder.iterdir())) == 2
    service.delete_collection(job.collection)
    assert list(service.library.originals.folder.iterdir()) == []


def test_no_file_is_kept_where_that_is_off(scripted: ScriptedWorker, tmp_path: Path) -> None:
    targets = Targets([Target(EmbeddingClient(scripted.url, deadline_s=20), "scripted")])
    settings = make_settings(tmp_path / "data", keep_originals=False)
    with closing(Service(targets, Library(tmp_path / "library"), settings)) as service:
        (page,) = run(service, upload(tmp_path, "a.png", encoded(picture()))).added
        assert page.original == "" and service.library.find_original(page.id) is None
        assert not service.library.originals.folder.exists()
