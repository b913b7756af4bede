from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.errors import NotFoundError
from serving.library.backup import Backup, list_copies
from serving.library.database import LibraryError
from serving.library.library import Library
from tests.support.libraries import LINES, add, at, made, new
from tests.support.scripted import unit
from tests.support.volumes import Container, OnlyWriter


@pytest.fixture(autouse=True)
def no_links(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Modal Volume has none."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    yield


class Numbers:
    """Claims as a cloud's dictionary holds them: for all processes."""

    def __init__(self) -> None:
        self.taken = 0

    def take_number(self, above: int) -> int:
        self.taken = max(above, self.taken) + 1
        return self.taken

    def is_superseded(self, number: int) -> bool:
        return self.taken > number


def ids(library: Library) -> set[str]:
    return {page_id for (page_id,) in library.database.connection.execute("SELECT id FROM pages")}


def test_what_was_acknowledged_is_there_in_the_next_container(tmp_path: Path) -> None:
    first = Container(tmp_path, "a")
    kept = [add(first.library, new("a.pdf", page)) for page in (1, 2, 3)]
    assert first.library.delete_pages(at(first.library), [kept[0]]) == [kept[0]]
    second = Container(tmp_path, "b")  # the first one was killed: nobody closed it
    assert ids(second.library) == set(kept[1:])
    hit = second.library.ranking.search(at(second.library), unit("a.pdf 2", 64), 1, "f1")[0]
    assert hit.page.id == kept[1] and second.library.catalogue.read_lines(kept[1]) == LINES
    assert second.library.pictures.locate_picture(kept[1]).read_bytes() == b"jpeg"
    assert not second.library.pictures.locate_picture(kept[0]).exists()
    assert second.library.delete_file(at(second.library), "sha of a.pdf") == kept[1:]
    assert ids(Container(tmp_path, "c").library) == set()


def test_a_copy_is_one_whole_file(tmp_path: Path) -> None:
    container = Container(tmp_path, "a")
    add(container.library, new())
    names = sorted(path.name for path in container.volume.committed.iterdir())
    assert names == ["library-00000001.db", "pages"]
    assert [path.name for path in (tmp_path / "a" / "disk").iterdir() if "copy" in path.name] == []


def test_pages_added_at_once_share_copies(tmp_path: Path) -> None:
    container = Container(tmp_path, "a")
    slow = container.volume.commit

    def commit() -> None:
        time.sleep(0.1)
        slow()

    container.backup._commit = commit
    made(container.library)
    threads = [threading.Thread(target=add, args=(container.library, new("a.pdf", page))) for page in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids(Container(tmp_path, "b").library)) == 16
    assert container.volume.commits <= 8


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "it is full. Delete"),
        (OSError(errno.ENOENT, "No such file"), "not there any more"),
        (RuntimeError("volume vo-1 not found"), "volume vo-1 not found"),
    ],
)
def test_what_could_not_be_kept_is_not_acknowledged(tmp_path: Path, failure: Exception, told: str) -> None:
    container = Container(tmp_path, "a")
    first = add(container.library, new("a.png"))
    container.library.ranking.search(at(container.library), unit("q", 64), 3, "f1")
    container.fail(failure)
    with pytest.raises(LibraryError, match=told):
        add(container.library, new("b.png"))
    assert (
        ids(container.library) == {first}
        and container.library.catalogue.find_pages(at(container.library), "sha of b.png") == {}
    )
    assert [
        hit.page.id for hit in container.library.ranking.search(at(container.library), unit("b.png 1", 64), 9, "f1")
    ] == [first]
    with pytest.raises(LibraryError, match=told):
        container.library.delete_pages(at(container.library), [first])
    assert ids(Container(tmp_path, "b").library) == {first}
    container.fail(None)
    again = add(container.library, new("b.png"))
    assert ids(Container(tmp_path, "c").library) == {again}  # and the deletion, which was tried again with it


def test_a_twin_is_acknowledged_only_if_it_is_kept(tmp_path: Path) -> None:
    container = Container(tmp_path, "a")
    entered, gate = threading.Event(), threading.Event()

    def stuck() -> None:
        entered.set()
        gate.wait(10)
        raise OSError(errno.ENOSPC, "full")

    container.backup._commit = stuck
    failures: list[str] = []

    def adding() -> None:
        try:
            add(container.library, new())
        except LibraryError as error:
            failures.append(error.message)

    threads = [threading.Thread(target=adding) for _ in range(2)]
    for thread in threads:
        thread.start()
        assert entered.wait(10)
    gate.set()
    for thread in threads:
        thread.join()
    assert len(failures) == 2 and ids(container.library) == set()


def test_a_page_that_a_twin_saw_kept_stays(tmp_path: Path) -> None:
    """The first copy fails and the second, which has the page too, does not: both may be told that it is kept."""
    container = Container(tmp_path, "a")
    entered, gate = threading.Event(), threading.Event()
    outcomes: list[str] = []

    def once() -> None:
        if not entered.is_set():
            entered.set()
            gate.wait(10)
            raise OSError(errno.ENOSPC, "full")
        container.volume.commit()

    def adding() -> None:
        try:
            outcomes.append(add(container.library, new()))
        except LibraryError:
            outcomes.append("failed")

    container.backup._commit = once
    first = threading.Thread(target=adding)
    first.start()
    assert entered.wait(10)
    second = threading.Thread(target=adding)
    second.start()
    time.sleep(0.1)  # it waits for the next copy now; if not yet, it is one after another
    gate.set()
    first.join()
    second.join()
    acknowledged = {outcome for outcome in outcomes if outcome != "failed"}
    assert ids(container.library) == acknowledged <= ids(Container(tmp_path, "b").library)


def test_half_written_copies_are_never_taken(tmp_path: Path) -> None:
    container = Container(tmp_path, "a")
    page = add(container.library, new())
    (container.volume.committed / "library-00000009.db.1a2b3c4d.part").write_bytes(b"half")
    second = Container(tmp_path, "b")
    assert ids(second.library) == {page}
    assert [path.name for path in second.volume.mount.iterdir() if path.suffix == ".part"] == []


@pytest.mark.parametrize("damage", ["truncated", "empty", "scrambled"])
def test_damaged_copies_replace_nothing(tmp_path: Path, damage: str) -> None:
    container = Container(tmp_path, "a")
    for page in range(1, 9):
        add(container.library, new("a.pdf", page))
    newest = container.volume.committed / "library-00000001.db"
    good = newest.read_bytes()
    middle = len(good) // 2
    scrambled = good[:4096] + os.urandom(middle) + good[4096 + middle :]
    newest.write_bytes({"truncated": good[:middle], "empty": b"", "scrambled": scrambled}[damage])
    before = newest.read_bytes()
    disk = tmp_path / "b" / "disk"
    disk.mkdir(parents=True)
    (disk / "library.db").write_bytes(good)
    with pytest.raises(LibraryError, match="damaged"):
        Container(tmp_path, "b")
    assert newest.read_bytes() == before and (disk / "library.db").read_bytes() == good
    newest.write_bytes(good)
    assert len(ids(Container(tmp_path, "b").library)) == 8


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    container = Container(tmp_path, "a")
    add(container.library, new())
    path = container.volume.committed / "library-00000001.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.commit()
    db.close()
    with pytest.raises(LibraryError, match="newer release"):
        Container(tmp_path, "b")


def test_a_damaged_database_is_not_kept(tmp_path: Path) -> None:
    container = Container(tmp_path, "a")
    for page in range(1, 9):
        add(container.library, new("a.pdf", page))
    container.library.close()
    path = tmp_path / "a" / "disk" / "library.db"
    data = path.read_bytes()
    path.write_bytes(data[:8192] + os.urandom(len(data) - 8192))
    before = (container.volume.committed / "library-00000001.db").read_bytes()
    with pytest.raises(LibraryError):
        container.backup.back_up(path)
    assert (container.volume.committed / "library-00000001.db").read_bytes() == before


def test_old_container_neither_overwrites_nor_acknowledges(tmp_path: Path) -> None:
    """A new release has started while the old one still answers: both write, and the new one's pages stay."""
    claims = Numbers()
    old = Container(tmp_path, "old", claims)
    first = add(old.library, new("a.png"))
    fresh = Container(tmp_path, "new", claims)
    second = add(fresh.library, new("b.png"))
    with pytest.raises(LibraryError, match="taken over"):
        add(old.library, new("c.png"))
    third = add(fresh.library, new("d.png"))
    assert ids(Container(tmp_path, "next", claims).library) == {first, second, third}


def test_claim_taken_during_a_commit_is_noticed(tmp_path: Path) -> None:
    claims = Numbers()
    old = Container(tmp_path, "old", claims)
    real = old.volume.commit

    def commit() -> None:
        claims.take_number(0)  # the new one starts here: it may have looked before this commit
        real()

    old.backup._commit = commit
    with pytest.raises(LibraryError, match="taken over"):
        add(old.library, new())


def test_two_copies_stay(tmp_path: Path) -> None:
    for name in "abcd":
        container = Container(tmp_path, name)
        add(container.library, new(f"{name}.png"))
    assert sorted(list_copies(container.volume.mount)) == [3, 4]


def test_volume_that_is_gone_is_told_at_the_start(tmp_path: Path) -> None:
    def gone() -> None:
        raise RuntimeError("volume vo-1 was deleted")

    with pytest.raises(LibraryError, match="cannot be read from the volume: volume vo-1 was deleted"):
        Library(tmp_path / "disk", Backup(tmp_path / "mount", lambda: None, gone, OnlyWriter()))


INGEST = """
import os, sys
from pathlib import Path
from serving.library.library import Library
from tests.support.volumes import Container
from tests.support.libraries import made, new
del os.link
container = Container(Path(sys.argv[1]), sys.argv[2])
start = int(sys.argv[3])
for page in range(start, start + 100_000):
    given = new("a.pdf", page, picture=b"p" * 5_000)
    stored = container.library.add_page(made(container.library), given, fingerprint="f1", model="m")
    print(page, stored.id, flush=True)
"""


@pytest.mark.soak
def test_kills_lose_no_acknowledged_page(tmp_path: Path) -> None:
    """kill -9 in the middle of an ingest; the next container has a new disk, and only what was committed."""
    chance = random.Random(7)
    acknowledged: dict[int, str] = {}
    for number in range(6):
        command = [sys.executable, "-c", INGEST, str(tmp_path), f"c{number}", str(number * 100_000 + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            first = child.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.3))
            child.send_signal(signal.SIGKILL)
            lines = [first, *child.stdout.read().split("\n")]
        pairs = (line.strip().partition(" ") for line in lines)
        acknowledged |= {int(page): page_id for page, _, page_id in pairs if len(page_id) == 16}
    assert len(acknowledged) >= 6
    library = Container(tmp_path, "last").library
    for page, page_id in acknowledged.items():
        assert library.catalogue.read_page(page_id).page == page
        assert (
            library.pictures.locate_picture(page_id).read_bytes() == b"p" * 5_000
            and library.pictures.locate_thumbnail(page_id).is_file()
        )
    with pytest.raises(NotFoundError):
        library.catalogue.read_page("0123456789abcdef")
