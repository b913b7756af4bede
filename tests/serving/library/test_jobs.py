"""The rows of jobs: what is kept with which page, and what goes with what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from serving.library.backup import Backup
from serving.library.catalogue import CollectionGoneError
from serving.library.database import LibraryError
from serving.library.jobs import AddedPage, JobFile, JobPage, JobRow, SkipRow
from serving.library.library import Library
from tests.support.libraries import UNKNOWN, made, new
from tests.support.stores import LibraryOpener
from tests.support.volumes import OnlyWriter, Volume


def make_job(library: Library, number: int = 1) -> JobRow:
    files = (JobFile("folder/000000", "a.pdf"), JobFile("/elsewhere/b.png", "b.png"))
    again = (SkipRow(0, "a.pdf, page 2", 0, "", False, True),)
    key = made(library)
    return JobRow(f"{number:032d}", key, "", "local", "waiting", "", 0, float(number), 0, 0, files, again)


def add(library: Library, job: JobRow, page: int = 1, seconds: float = 1.5) -> str:
    by = JobPage(job.id, seconds)
    return library.add_page(job.collection, new("a.pdf", page, lines=()), fingerprint="f1", model="m", job=by).id


def test_a_job_is_read_as_it_was_written_also_by_the_next_process(store: LibraryOpener, tmp_path: Path) -> None:
    library = store.open(tmp_path)
    second, first = make_job(library, 2), make_job(library, 1)
    library.jobs.create(second)
    library.jobs.create(first)
    library.jobs.set_state(first.id, "paused")
    library.jobs.set_total(first.id, 7)
    page = add(library, first)
    skip = SkipRow(0, "a.pdf, page 3", 3, "it cannot be read", False)
    library.jobs.add_skip(first.id, skip)
    library.close()
    with_rows = store.open(tmp_path)
    pages = (AddedPage("sha of a.pdf", 1, page, True, 1.5),)
    wanted = replace(first, state="paused", total=7, skips=(*first.skips, skip), pages=pages)
    assert with_rows.jobs.list_all() == [wanted, second], "in the order in which they were asked for"
    with_rows.close()


def test_the_end_replaces_what_was_skipped_and_is_not_changed_by_who_comes_late(library: Library) -> None:
    job = make_job(library)
    library.jobs.create(job)
    library.jobs.add_skip(job.id, SkipRow(0, "a.pdf, page 3", 3, "no", False))
    skips = [SkipRow(0, "a.pdf, page 3", 3, "no", False), SkipRow(1, "b.png", 0, "already here", True)]
    library.jobs.end(job.id, "done", "", 9e9, skips)
    library.jobs.set_state(job.id, "paused")
    (row,) = library.jobs.list_all()
    assert (row.state, row.keep_until, row.skips) == ("done", 9e9, (*job.skips, *skips)) and row.ended
    library.jobs.stop_keeping(job.id)
    assert library.jobs.list_all()[0].keep_until == 0
    library.jobs.delete([job.id])
    assert library.jobs.list_all() == []


def test_a_page_that_is_deleted_stays_dealt_with(library: Library) -> None:
    job = make_job(library)
    library.jobs.create(job)
    library.delete_pages(job.collection, [add(library, job)])
    assert [page.page for page in library.jobs.list_all()[0].pages] == [1]


def test_jobs_go_with_their_collection_and_are_not_missed(library: Library) -> None:
    job = make_job(library)
    library.jobs.create(job)
    add(library, job)
    library.delete_collection(job.collection)
    assert library.jobs.list_all() == []
    library.jobs.add_skip(job.id, SkipRow(0, "a.pdf", 0, "no", False))
    library.jobs.end(job.id, "failed", "the collection was deleted", 0, [SkipRow(0, "a.pdf", 0, "no", False)])
    left = "SELECT job FROM job_files UNION SELECT job FROM job_pages UNION SELECT job FROM job_skips"
    assert library.database.fetch_all(left) == []
    with pytest.raises(CollectionGoneError):
        library.jobs.create(replace(job, collection=UNKNOWN))


def test_a_page_that_was_not_backed_up_is_no_page_of_the_job(tmp_path: Path) -> None:
    volume = Volume(tmp_path / "store", tmp_path / "mount")
    library = Library(tmp_path / "disk", Backup(volume.mount, volume.commit, volume.reload, OnlyWriter()))
    job = make_job(library)
    library.jobs.create(job)
    add(library, job)
    volume.failure = OSError(28, "No space left on device")
    with pytest.raises(LibraryError, match="it is full"):
        add(library, job, 2)
    volume.failure = None
    assert [page.page for page in library.jobs.list_all()[0].pages] == [1]
    commits = volume.commits
    library.jobs.end(job.id, "done", "", 0, [])
    assert volume.commits == commits + 1, "the next container must not begin it again"
    library.close()
