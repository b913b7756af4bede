"""What is told of the changes of collections, by whichever process they are made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from serving.library.changes import Changes
from serving.library.jobs import JobRow, SkipRow
from serving.library.library import Library
from serving.library.records import ABSENT, CollectionKey
from tests.support.libraries import add, made, new
from tests.support.stores import LibraryOpener
from tests.support.waiting import until


def test_a_version_is_another_one_after_each_change_and_who_follows_is_woken() -> None:
    changes, woken = Changes(), []
    with changes.follow("a", lambda: woken.append("a")), changes.follow(None, lambda: woken.append("any")):
        first, other = changes.version("a"), changes.version("b")
        changes.note("a")
        assert changes.version("a") != first and changes.version("b") == other and sorted(woken) == ["a", "any"]
        woken.clear()
        changes.note("b")
        assert woken == ["any"]
        woken.clear()
        before = [changes.version(key) for key in ("", "a", "b")]
        changes.note("")
        assert sorted(woken) == ["a", "any"]
        assert all(changes.version(key) != was for key, was in zip(("", "a", "b"), before, strict=True))
    woken.clear()
    changes.note("a")
    assert woken == [] and Changes().version("a") != changes.version("a"), "another process begins with other versions"


CHANGES: dict[str, Callable[[Library, CollectionKey, str], object]] = {
    "a page is added": lambda library, key, page: library.add_page(key, new("b.png"), fingerprint="f1", model="m"),
    "a page is deleted": lambda library, key, page: library.delete_pages(key, [page]),
    "a page is moved away": lambda library, key, page: library.move_pages(key, [page], made(library, "d")),
    "a page is moved here": lambda library, key, page: library.move_pages(
        made(library, "d"), [add(library, new("e.png"), "d")], key
    ),
    "a file is renamed": lambda library, key, page: library.rename_files(key, {"sha of a.png": "z.png"}),
    "it is renamed": lambda library, key, page: library.rename_collection(key, "e"),
    "it is deleted": lambda library, key, page: library.delete_collection(key),
    "there is a new one": lambda library, key, page: library.create_collection("new"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_told_where_it_is_made_and_elsewhere(store: LibraryOpener, tmp_path: Path, name: str) -> None:
    library = store.open(tmp_path / "a")
    page, key = add(library, new("a.png")), made(library)
    libraries = [library]
    if store.server is not None:
        libraries.append(store.open_beside(tmp_path / "b", tmp_path / "a"))
        heard: list[str] = []
        for one in libraries:
            first = one.changes.version(ABSENT)
            one.follow_others()
            until(lambda one=one, first=first: one.changes.version(ABSENT) != first, 30)  # type: ignore[misc]
        libraries[1].database.follow(heard.append)
    before = [one.changes.version(key) for one in libraries]
    CHANGES[name](library, key, page)
    for one, was in zip(libraries, before, strict=True):
        until(lambda one=one, was=was: one.changes.version(key) != was, 10)  # type: ignore[misc]


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_what_becomes_of_a_job_is_told_by_the_database(store: LibraryOpener, tmp_path: Path) -> None:
    library = store.open(tmp_path)
    key, heard = made(library), list[str]()
    library.database.follow(heard.append)
    until(lambda: heard == [""], 30)
    job = "1" * 32
    skip = SkipRow(0, "a.pdf", 0, "no", False)
    for change in (
        lambda: library.jobs.create(JobRow(job, key, "", "local", "waiting", "", 0, 1.0, 0, 0)),
        lambda: library.jobs.set_total(job, 3),
        lambda: library.jobs.set_state(job, "paused"),
        lambda: library.jobs.add_skip(job, skip),
        lambda: library.jobs.end(job, "done", "", 0, [skip]),
        lambda: library.jobs.delete([job]),
    ):
        heard.clear()
        change()
        until(lambda: bool(heard), 10)
        assert set(heard) == {key}


@pytest.mark.soak
@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_who_follows_hears_again_after_the_server_was_gone(store: LibraryOpener, tmp_path: Path) -> None:
    assert store.server is not None
    library = store.open(tmp_path)
    key, heard = made(library), list[str]()
    library.database.follow(heard.append)
    until(lambda: heard == [""], 30)
    store.server.kill()
    store.server.start()
    until(lambda: heard == ["", ""], 30)
    add(library, new("a.png"))
    until(lambda: heard[2:] == [key] * len(heard[2:]) and len(heard) > 2, 10)
