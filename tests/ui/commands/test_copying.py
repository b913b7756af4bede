"""`dormouse copy`: real files from a data folder to a real server and back, also when it is stopped or killed."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from serving.errors import BadValueError
from serving.library.copying import BATCH_PAGES
from serving.library.jobs import JobRow
from serving.library.library import Library
from serving.library.records import CollectionKey
from serving.settings import Settings
from serving.system.files import hash_file
from tests.support.commands import Dormouse, end, start, write_files
from tests.support.files import encoded, pdf, picture
from tests.support.libraries import at, made, new
from tests.support.postgres import PostgresServer
from tests.support.repository import ROOT
from tests.support.stores import list_pictures
from tests.support.waiting import until
from ui.commands.copying import find_places

SECRET = "pa55word"


@pytest.fixture
def copy(capsys: pytest.CaptureFixture[str]) -> Dormouse:
    """The command without options that say where collections are."""
    return Dormouse(capsys, ())


@pytest.fixture
def schema(postgres: PostgresServer) -> str:
    return postgres.create_schema()


@pytest.fixture
def address(postgres: PostgresServer, schema: str) -> str:
    return postgres.address(schema)


def fill(data: Path, pages: int) -> CollectionKey:
    """Add pages to the collection `c` of a data folder, and return its key."""
    library = Library(data)
    for first in range(1, pages + 1, 50):
        batch = [new("a.pdf", n, picture=b"p" * 50_000) for n in range(first, min(first + 50, pages + 1))]
        library.add_pages(made(library), batch, fingerprint="f1", model="m")
    key = at(library)
    library.close()
    return key


def read_pages(library: Library) -> dict[str, int]:
    """Return ids and numbers of the pages of `c`, each with its picture."""
    pages = library.catalogue.read_pages(library.catalogue.list_page_ids(at(library)))
    assert list_pictures(library) == set(pages)
    return {page_id: page.page for page_id, page in pages.items()}


def search(dormouse: Dormouse, *place: object) -> list[dict[str, Any]]:
    found = dormouse("search", "swimming", "--collection", "c", "--json", *place)
    assert found.code == 0, found.err
    return found.select("hit")


def test_out_and_back_the_same_search_finds_the_same(
    dormouse: Dormouse, copy: Dormouse, address: str, data: Path, embedder_url: str, tmp_path: Path
) -> None:
    files = {"m.pdf": pdf([["coffee"], ["swimming"], ["trains"]]), "b.png": encoded(picture(text="b"))}
    dormouse("add", write_files(tmp_path / "in", files), "--collection", "c")
    hits, listed = search(dormouse), dormouse("list", "--json").select("collection")
    out = copy("copy", "--from", data, "--to", address, "--json")
    assert (out.code, out.err) == (0, "")
    expected = {
        "copied": 4,
        "known": 0,
        "skipped": 0,
        "collections": 1,
        "pages": 4,
        "jobs_left": 0,
        "originals_left": 2,
    }
    assert out.summary.items() >= expected.items()
    assert out.select("collection") == [{**listed[0], "copied": 4}]
    dormouse.options = ("--worker", embedder_url, "--store", address, "--data", str(tmp_path / "own"))
    there = search(dormouse)
    assert [hit | {"score": 0} for hit in there] == [hit | {"score": 0} for hit in hits] and len(hits) == 4
    assert [hit["score"] for hit in there] == pytest.approx([hit["score"] for hit in hits], abs=1e-3)
    told = copy("copy", "--from", address, "--to", tmp_path / "back", "--collection", "c")
    assert told.code == 0 and "c: 4 pages, 4 copied\n4 pages of 1 collection copied from the store to" in told.out
    dormouse.options = ("--worker", embedder_url, "--data", str(tmp_path / "back"))
    assert search(dormouse) == hits
    again = copy("copy", "--from", data, "--to", tmp_path / "back")
    assert again.code == 0 and "0 pages of 1 collection copied" in again.out and "(4 there already)" in again.out


def test_what_a_store_does_not_keep_is_told(copy: Dormouse, data: Path, tmp_path: Path, address: str) -> None:
    key = fill(data, 1)
    (tmp_path / "b.txt").write_bytes(b"x")
    library = Library(data)
    page = new("b.txt", sha256=hash_file(tmp_path / "b.txt"), original=tmp_path / "b.txt")
    library.add_page(key, page, fingerprint="f1", model="m")
    library.jobs.create(JobRow("1" * 32, key, "", "local", "waiting", "", 0, 1.0, 0, 0))
    library.close()
    told = copy("copy", "--from", data, "--to", address)
    assert told.code == 0 and "not copied: 1 original file, which a store does not keep" in told.out
    assert "not copied: 1 unfinished job. Let a page end" in told.out
    back = copy("copy", "--from", data, "--to", tmp_path / "back")
    assert back.code == 0 and "original" not in back.out


def test_pages_that_are_left_out_are_told(copy: Dormouse, data: Path, tmp_path: Path) -> None:
    fill(data, 3)
    next((data / "pages").glob("*.jpg")).unlink()
    told = copy("copy", "--from", data, "--to", tmp_path / "to", "--json")
    assert (told.code, told.summary["copied"], told.summary["skipped"]) == (3, 2, 1)
    assert told.select("skipped")[0].items() >= {"file": "a.pdf", "reason": "its picture is missing"}.items()


def test_mistakes_are_told_and_leave_nothing(copy: Dormouse, data: Path, tmp_path: Path, monkeypatch: Any) -> None:
    fill(data, 1)
    to = tmp_path / "to"
    for words, told in (
        (("--from", tmp_path / "none", "--to", to), "there are no collections in"),
        (("--from", data, "--to", to, "--collection", "x"), "there is no collection 'x'"),
        (("--from", data, "--to", data / ".." / "data"), "are the same place"),
        (("--from", "store", "--to", to), "DORMOUSE_STORE is not set"),
        (("--from", data, "--to", f"mysql://u:{SECRET}@h/d"), "a store is an address like"),
        (("--from", data, "--to", f"u:{SECRET}@h/d"), "a store is an address like"),
        (("--from", data, "--to", f"host=h password={SECRET}"), "a store is an address like"),
    ):
        found = copy("copy", *words)
        assert (found.code, found.out) == (1, "") and told in found.err and found.err.count("\n") == 1
        assert SECRET not in found.err
    for words in (("--from", data), (data, f"postgresql://u:{SECRET}@h/d", "--from", data, "--to", to)):
        found = copy("copy", *words)
        assert found.code == 2 and SECRET not in found.err
    monkeypatch.setenv("DORMOUSE_READ_ONLY", "1")
    assert "may only be read" in copy("copy", "--from", data, "--to", to).err
    library = Library(to)
    assert library.catalogue.list_collections() == [] and {path.name for path in tmp_path.iterdir()} == {"data", "to"}
    library.close()


def test_a_folder_that_somebody_uses_is_told_of(copy: Dormouse, data: Path, tmp_path: Path, address: str) -> None:
    fill(data, 1)
    library = Library(data)
    for words in (("--from", data, "--to", address), ("--from", address, "--to", data)):
        if words[1] == address:
            Library(tmp_path / "own", address=address).close()
        found = copy("copy", *words)
        assert found.code == 1 and "another program is using the collections in" in found.err
        assert "stop it as long as this takes" in found.err
    library.close()


def test_another_collection_of_the_name_is_told_before_anything(copy: Dormouse, data: Path, tmp_path: Path) -> None:
    fill(data, 1)
    fill(tmp_path / "to", 1)
    found = copy("copy", "--from", data, "--to", tmp_path / "to", "--json")
    assert found.code == 1 and "has another collection of the name 'c'" in found.err and found.summary["copied"] == 0


def test_a_destination_of_a_newer_release_is_left_as_it_is(
    copy: Dormouse, data: Path, tmp_path: Path, postgres: PostgresServer, schema: str, address: str
) -> None:
    fill(data, 1)
    Library(tmp_path / "to").close()
    Library(tmp_path / "own", address=address).close()
    with closing(sqlite3.connect(tmp_path / "to" / "library.db")) as db:
        db.execute("PRAGMA user_version = 99")
    postgres.run(f"UPDATE {schema}.library_schema SET version = 99")  # noqa: S608
    for place in (tmp_path / "to", address):
        found = copy("copy", "--from", data, "--to", place)
        assert (found.code, found.out) == (1, "") and "newer release (schema 99): update Dormouse" in found.err
    assert count_pages(postgres, schema) == 0


# Passwords


def test_the_password_is_used_and_not_told(
    copy: Dormouse, postgres: PostgresServer, schema: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(data, 1)
    user = f"keeper_{schema}"
    postgres.run(f"CREATE ROLE {user} LOGIN PASSWORD '{SECRET}'")
    postgres.run(f"GRANT ALL ON SCHEMA {schema} TO {user}")
    place = f"127.0.0.1:{postgres.port}/postgres?options=-csearch_path%3D{schema}%2Cpublic"
    for address, code in ((f"postgresql://{user}:no{SECRET}@{place}", 1), (f"postgresql://{user}:{SECRET}@{place}", 0)):
        for options in ((), ("--json", "--verbose")):
            found = copy("copy", "--from", data, "--to", address, *options)
            assert found.code == code and SECRET not in found.out + found.err
            assert code == 0 or "password authentication failed" in found.err
    monkeypatch.setenv("DORMOUSE_STORE", address)
    found = copy("copy", "--from", data, "--to", "store")
    assert found.code == 0 and "copied from" in found.out and SECRET not in found.out
    assert "same place" in copy("copy", "--from", "store", "--to", address).err


def test_an_address_is_not_seen_in_the_list_of_processes(data: Path) -> None:
    fill(data, 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"postgresql://u:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/d"
        process = start("copy", "--from", data, "--to", address)
        silent.settimeout(60)
        with silent.accept()[0]:
            seen = Path(f"/proc/{process.pid}/cmdline").read_text()
            process.send_signal(signal.SIGINT)
            ended = end(process)
    assert SECRET not in seen and f"--to\0{'x' * len(address)}\0" in seen
    assert ended.code == 130 and "stopped: 0 pages" in ended.err and SECRET not in ended.err + ended.out


def test_which_store_has_the_pictures_of_the_settings() -> None:
    settings = Settings(store="postgresql://h/one", pictures="/pictures")
    other = "postgresql://h/other"
    assert [place.pictures for place in find_places("data", other, settings)] == [None, Path("/pictures")]
    assert [place.pictures for place in find_places("store", other, settings)] == [Path("/pictures"), None]
    assert [place.pictures for place in find_places(other, "postgresql://h/third", settings)] == [None, None]
    assert "//" not in repr(find_places("store", other, settings))
    with pytest.raises(BadValueError, match="same place"):
        find_places("store", "postgresql://h/one", settings)
    assert find_places("./store", "./store2", settings)[0].address == ""


# Progress, Ctrl-C and kill -9


def count_pages(postgres: PostgresServer, schema: str) -> int:
    if not postgres.run(f"SELECT 1 FROM pg_tables WHERE schemaname = '{schema}' AND tablename = 'vectors'"):  # noqa: S608
        return 0
    return int(str(postgres.run(f"SELECT count(*) FROM {schema}.vectors")[0][0]))  # noqa: S608


@pytest.fixture
def slow(postgres: PostgresServer, schema: str, address: str, tmp_path: Path) -> Iterator[None]:
    """Each page that comes to the schema takes 5 ms there, so that the middle of a copy can be met."""
    Library(tmp_path / "first", address=address).close()
    postgres.run(
        f"CREATE FUNCTION {schema}.wait() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$"
    )
    postgres.run(f"CREATE TRIGGER slow BEFORE INSERT ON {schema}.vectors FOR EACH ROW EXECUTE FUNCTION {schema}.wait()")
    yield
    postgres.run(f"DROP TRIGGER slow ON {schema}.vectors")


def test_ctrl_c_stops_between_commits_and_the_same_command_goes_on(
    slow: None, copy: Dormouse, data: Path, postgres: PostgresServer, schema: str, address: str, tmp_path: Path
) -> None:
    fill(data, 160)
    process = start("copy", "--from", data, "--to", address, "--json")
    until(lambda: count_pages(postgres, schema) > 0, 60)
    process.send_signal(signal.SIGINT)
    ended = end(process)
    found = count_pages(postgres, schema)
    assert ended.code == 130 and 0 < found < 160 and found % 32 == 0
    assert ended.summary["copied"] == found
    assert f"stopped: {found} pages were copied before that and stay; the same command goes on" in ended.err
    rest = copy("copy", "--from", data, "--to", address, "--json")
    assert (rest.code, rest.summary["copied"], rest.summary["known"]) == (0, 160 - found, found)
    check_equal(data, address, tmp_path)


def check_equal(data: Path, address: str, tmp_path: Path) -> None:
    here, there = Library(data), Library(tmp_path / "own", address=address)
    assert read_pages(there) == read_pages(here)
    here.close()
    there.close()


def test_progress_is_drawn_on_a_terminal(slow: None, data: Path, address: str) -> None:
    fill(data, 70)
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "ui", "copy", "--from", str(data), "--to", address]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, timeout=60, cwd=ROOT, env=environment)
    os.close(follower)
    drawn = os.read(leader, 100_000).decode()
    os.close(leader)
    assert done.returncode == 0 and done.stdout.startswith(b"c: 70 pages, 70 copied\n")
    assert "copying" in drawn and "/70 pages, " in drawn and " pages/s, 0:0" in drawn and " left" in drawn


@pytest.mark.soak
@pytest.mark.parametrize("back", [False, True], ids=["folder to store", "store to folder"])
def test_kills_lose_no_page_and_make_none_twice(
    back: bool, copy: Dormouse, data: Path, postgres: PostgresServer, schema: str, address: str, tmp_path: Path
) -> None:
    """kill -9 of the real command in the middle, six times: no page is lost meanwhile, and the last run ends it."""
    chance, target, pages = random.Random(6), tmp_path / "back", 1_200
    fill(data, pages)
    places: tuple[object, object] = (data, address)
    if back:
        assert copy("copy", "--from", data, "--to", address).code == 0
        places = (address, target)

    def count_files() -> int:
        return len(list((target / "pages").glob("*.webp")))

    def count_committed() -> int:
        return read_row_count(target) if back else count_pages(postgres, schema)

    found = 0
    for kill in range(6):
        # The first kill may come before any page is committed, the others come after one more is.
        count_now = count_files if back and not kill else count_committed
        process = start("copy", "--from", places[0], "--to", places[1], "--json")
        until(lambda found=found, count_now=count_now: count_now() > found, 60)
        time.sleep(chance.uniform(0.0, 0.2))
        process.kill()
        assert end(process).code == -signal.SIGKILL
        before, found = found, count_rows(target) if back else count_pages(postgres, schema)
        assert before <= found < pages
        assert not back or found in (0, count_files())  # what had no row was swept, unless there was no row at all
    rest = copy("copy", "--from", places[0], "--to", places[1], "--json")
    assert rest.code == 0 and found > 0
    copied, known = rest.summary["copied"], rest.summary["known"]
    # A server that was told to commit before the kill may have done so after its pages were counted.
    assert copied + known == pages and known - found in ((0,) if back else (0, BATCH_PAGES))
    if back:
        check_equal(target, address, tmp_path)
    check_equal(data, address, tmp_path)


def read_row_count(data: Path) -> int:
    """Pages in a folder that another process fills: opening its library would sweep what that is about to write."""
    try:
        with closing(sqlite3.connect(f"file:{data / 'library.db'}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT count(*) FROM pages").fetchone()[0])
    except sqlite3.OperationalError:  # not made yet
        return 0


def count_rows(data: Path) -> int:
    if not (data / "library.db").exists():
        return 0
    library = Library(data)
    try:
        return int(library.database.fetch_one("SELECT count(*) FROM pages")[0])
    finally:
        library.close()


def test_what_json_tells_is_one_object_a_line(copy: Dormouse, data: Path, tmp_path: Path) -> None:
    fill(data, 2)
    told = copy("copy", "--from", data, "--to", tmp_path / "to", "--json")
    assert [json.loads(line)["type"] for line in told.out.splitlines()] == ["collection", "summary"]
