"""Leases of jobs and their files, in a database that several machines share. What pages do with them is in tests/ui."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.library import job_leases
from serving.library.job_leases import JobLeases
from serving.library.jobs import JobFile, JobRow, SkipRow
from serving.library.library import Library
from tests.support.libraries import made
from tests.support.postgres import PostgresServer
from tests.support.stores import LibraryOpener


@pytest.fixture
def machines(postgres: PostgresServer, tmp_path: Path) -> Iterator[tuple[Library, Library]]:
    opener = LibraryOpener(postgres)
    one = opener.open(tmp_path / "one")
    yield one, opener.open_beside(tmp_path / "two", tmp_path / "one")
    opener.close()


def leases_of(library: Library) -> JobLeases:
    assert library.jobs.leases is not None
    return library.jobs.leases


def create(library: Library, number: int, *contents: Path) -> str:
    files = tuple(JobFile(path.name, path.name) for path in contents)
    row = JobRow(f"{number:032d}", made(library), "", "local", "waiting", "", 0, float(number), 0, 0, files)
    library.jobs.create(row, contents)
    return row.id


def end_leases(library: Library) -> None:
    with library.database.transaction() as db:
        db.execute("UPDATE job_leases SET ends = '-infinity'")


def test_the_embedded_library_has_no_leases(tmp_path: Path) -> None:
    library = Library(tmp_path)
    assert library.jobs.leases is None
    library.close()


def test_who_came_from_the_same_snapshot_is_another_holder(machines: tuple[Library, Library]) -> None:
    """Its memory is the same until it opens the library, and so is the time that it thinks it began."""
    one, _ = machines
    create(one, 1)
    version = one.changes.version("")
    one.close()
    one.open()
    assert leases_of(one).renew() == {} and leases_of(one).claim(4) == 0
    assert one.changes.version("") != version


def test_who_makes_a_job_holds_it_until_the_lease_ends(machines: tuple[Library, Library]) -> None:
    one, two = machines
    job = create(one, 1)
    assert leases_of(one).renew() == {job: "waiting"} and leases_of(two).renew() == {}
    assert leases_of(two).claim(4) == 0
    leases_of(one).release()
    one.jobs.set_state(job, "paused")
    assert leases_of(two).claim(4) == 1 and leases_of(two).renew() == {job: "paused"}
    assert leases_of(one).renew() == {} and leases_of(one).claim(4) == 0
    one.jobs.end(job, "done", "", 0, [])
    assert two.jobs.list_all()[0].state == "paused", "its end is not for who has lost it to tell"
    two.jobs.end(job, "done", "", 0, [])
    assert one.jobs.list_all()[0].state == "done" and leases_of(two).renew() == {}


def test_a_lease_that_has_ended_and_nobody_took_is_renewed(machines: tuple[Library, Library]) -> None:
    """As after the database was gone for longer than a lease."""
    one, two = machines
    job = create(one, 1)
    end_leases(one)
    assert leases_of(one).renew() == {job: "waiting"} and leases_of(two).claim(4) == 0


def test_two_that_claim_at_once_share_and_wait_for_nobody(machines: tuple[Library, Library]) -> None:
    one, two = machines
    jobs = {create(one, number) for number in range(6)}
    end_leases(one)
    with one.database.transaction() as db:
        assert db.execute(job_leases.CLAIM, [4, "another machine", 20.0]).rowcount == 4
        assert leases_of(two).claim(4) == 2
    assert len(leases_of(two).renew()) == 2 and leases_of(two).renew().keys() < jobs


def test_renewing_waits_for_no_job_that_is_being_deleted(machines: tuple[Library, Library]) -> None:
    one, two = machines
    first, second = create(one, 1), create(one, 2)
    with two.database.transaction() as db:
        db.execute("DELETE FROM jobs WHERE id = ?", [first])
        assert leases_of(one).renew() == {second: "waiting"}


def test_files_are_kept_whole_until_the_job_ends(
    machines: tuple[Library, Library], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_leases, "PART_BYTES", 10)
    one, two = machines
    contents = [b"", b"exactly 10", b"a file of several pieces, \0 and all"]
    paths = [tmp_path / f"{number}.bin" for number in range(3)]
    for path, data in zip(paths, contents, strict=True):
        path.write_bytes(data)
    job = create(one, 1, *paths, tmp_path / "gone.bin")
    assert leases_of(two).measure_files() == {job: sum(map(len, contents))}
    written = [tmp_path / "there" / f"{number}" for number in range(4)]
    (tmp_path / "there").mkdir()
    written[1].write_bytes(b"is there already")
    leases_of(two).write_files(job, written)
    assert [path.read_bytes() for path in written[:3]] == [contents[0], b"is there already", contents[2]]
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["0", "1", "2"]
    one.jobs.end(job, "done", "", 9e9, [SkipRow(2, "2.bin", 0, "no", False)], {2})
    assert leases_of(two).measure_files() == {job: len(contents[2])}
    two.jobs.stop_keeping(job)
    assert leases_of(one).measure_files() == {}


def test_a_file_that_is_dropped_while_it_is_written_is_not_there(
    machines: tuple[Library, Library], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_leases, "PART_BYTES", 10)
    one, two = machines
    (tmp_path / "a.bin").write_bytes(b"a file of several pieces")
    job = create(one, 1, tmp_path / "a.bin")
    fetch = two.database.fetch_one

    def fetch_and_drop(*given: Any) -> Any:
        found = fetch(*given)
        one.jobs.stop_keeping(job)
        return found

    monkeypatch.setattr(two.database, "fetch_one", fetch_and_drop)
    (tmp_path / "there").mkdir()
    leases_of(two).write_files(job, [tmp_path / "there" / "0"])
    assert not list((tmp_path / "there").iterdir())


def test_heads_tell_what_has_changed(machines: tuple[Library, Library]) -> None:
    one, two = machines
    job = create(one, 1)
    (head,) = leases_of(two).list_heads()
    one.jobs.add_skip(job, SkipRow(0, "a", 0, "no", False))
    (after,) = leases_of(two).list_heads()
    assert (head.id, head.skips, after.skips) == (job, 0, 1) and head != after


def test_a_file_that_cannot_be_read_makes_no_job(machines: tuple[Library, Library], tmp_path: Path) -> None:
    one, _ = machines
    unreadable = Unreadable(tmp_path / "a.bin")
    (tmp_path / "a.bin").write_bytes(b"data")
    with pytest.raises(OSError, match="worn out"):
        create(one, 1, unreadable)
    assert one.jobs.list_all() == [] and leases_of(one).renew() == {}


class Unreadable(type(Path())):  # type: ignore[misc]
    def open(self, *given: object, **named: object) -> object:
        raise OSError(5, "the disk is worn out")
