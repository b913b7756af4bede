"""A library on a real PostgreSQL that is killed, cut off, older, newer, somebody else's or used by many at once."""

from __future__ import annotations

import logging
import os
import random
import secrets
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import trustme

from serving.documents.page import Line
from serving.errors import BadValueError, ReadOnlyError
from serving.library import postgres_database
from serving.library.catalogue import CollectionGoneError, FingerprintError
from serving.library.database import (
    TRIES,
    LibraryError,
    RolledBackError,
    StoreUnavailableError,
    redo_rolled_back,
)
from serving.library.jobs import JobRow
from serving.library.library import Library
from serving.library.postgres_database import check_versions, read_address
from serving.library.postgres_schema import MIGRATION_LOCK, SCHEMA
from serving.library.records import CollectionKey
from serving.library.removal import IMPORT_S
from serving.library.rows import IMPORTING
from serving.settings import Settings
from tests.support.cutting_proxy import CuttingProxy
from tests.support.libraries import LINES, add, at, made, new
from tests.support.postgres import PostgresServer
from tests.support.scripted import unit
from tests.support.stores import LibraryOpener, list_pictures
from tests.support.tls_door import TlsDoor
from tests.support.waiting import until


@pytest.fixture
def opener(postgres: PostgresServer) -> Iterator[LibraryOpener]:
    opener = LibraryOpener(postgres)
    yield opener
    opener.close()


@pytest.fixture
def library(opener: LibraryOpener, tmp_path: Path) -> Library:
    return opener.open(tmp_path / "a")


@pytest.fixture
def other(opener: LibraryOpener, library: Library, tmp_path: Path) -> Library:
    """The same library on another machine."""
    return opener.open_beside(tmp_path / "b", tmp_path / "a")


def search(library: Library, text: str = "a.pdf 1", count: int = 9) -> list[str]:
    return [hit.page.id for hit in library.ranking.search(at(library), unit(text, 64), count, "f1")]


# Addresses and passwords


@pytest.mark.parametrize(
    "address",
    [
        "mysql://u:pa55word@h/d",
        "postgresql://u:pa55word%zz@h/d",
        "postgresql://u:pa55word@h/d?no_such=1",
        "pa55word",
        "postgresql://u:a@pa55word@h/d",
        "postgresql://u:1/pa55word@h/d",
        "postgresql://pa55word:1/2@h/d",
    ],
)
def test_what_is_no_address_is_refused_without_its_text(address: str) -> None:
    with pytest.raises(BadValueError, match="postgresql://") as refused:
        read_address(address)
    assert "pa55word" not in refused.value.message and refused.value.__cause__ is None


def test_the_address_decides_over_the_defaults() -> None:
    assert "connect_timeout=5" in read_address("postgresql://h/d")
    given = read_address("postgresql://h/d?connect_timeout=9&sslmode=verify-full&application_name=mine")
    assert "connect_timeout=9" in given and "sslmode=verify-full" in given and "application_name=mine" in given


def test_no_password_is_told(postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither by a server that refuses it, nor by one that is not there, nor by anything that shows the settings."""
    secret = "pa55word"
    with caplog.at_level(logging.DEBUG):
        for host in (f"127.0.0.1:{postgres.port}", "127.0.0.1:1", f"127.0.0.1:{postgres.port},127.0.0.1:1"):
            address = f"postgresql://postgres:{secret}@{host}/postgres"
            with pytest.raises(StoreUnavailableError, match="cannot be opened") as refused:
                Library(tmp_path, address=address)
            assert secret not in repr(refused.value.__dict__) + str(refused.value.body())
    settings = Settings(store=address)
    assert secret not in f"{settings!r} {settings} {settings.model_dump()} {settings.known_at_launch()}"
    assert secret not in caplog.text
    Library(tmp_path).close()  # the folder was given back


def test_a_password_and_sslmode_are_used(postgres: PostgresServer, tmp_path: Path) -> None:
    schema = postgres.create_schema()
    postgres.run("CREATE ROLE keeper LOGIN PASSWORD 'pa55 w@rd'")
    postgres.run(f"GRANT ALL ON SCHEMA {schema} TO keeper")
    place = f"keeper:pa55%20w%40rd@127.0.0.1:{postgres.port}/postgres?options=-csearch_path%3D{schema}%2Cpublic"
    for mode in ("require", "verify-full&sslrootcert=system"):
        with pytest.raises(StoreUnavailableError, match="server does not support SSL") as refused:
            Library(tmp_path, address=f"postgresql://{place}&sslmode={mode}")
        assert "pa55" not in refused.value.message and "w@rd" not in refused.value.message
    library = Library(tmp_path, address=f"postgresql://{place}")
    page = add(library, new("a.pdf"))
    assert search(library) == [page]
    library.close()


def test_tls_is_as_the_address_wants_it(postgres: PostgresServer, tmp_path: Path) -> None:
    """A certificate of the right root and name passes, others are refused, and no password is told."""
    schema, root, other = postgres.create_schema(), trustme.CA(), trustme.CA()
    postgres.run("CREATE ROLE guest LOGIN PASSWORD 'pa55word'")
    postgres.run(f"GRANT ALL ON SCHEMA {schema} TO guest")
    for name, authority in (("right.pem", root), ("wrong.pem", other)):
        authority.cert_pem.write_to_path(tmp_path / name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    root.issue_cert("localhost").configure_cert(context)
    with closing(TlsDoor(postgres.port, context)) as door:
        place = f"{door.port}/postgres?options=-csearch_path%3D{schema}%2Cpublic&sslrootcert={tmp_path}"
        for host, mode, told in (
            ("localhost", "wrong.pem&sslmode=verify-full", "certificate verify failed"),
            ("127.0.0.1", "right.pem&sslmode=verify-full", "does not match host name"),
        ):
            with pytest.raises(StoreUnavailableError, match=told) as refused:
                Library(tmp_path / "data", address=f"postgresql://guest:pa55word@{host}:{place}/{mode}")
            assert "pa55word" not in refused.value.message
        library = Library(
            tmp_path / "data", address=f"postgresql://guest:pa55word@localhost:{place}/right.pem&sslmode=verify-full"
        )
        page = add(library, new("a.pdf"))
        assert search(library) == [page]
        library.close()
        assert door.passed


# Servers and schemas


@pytest.mark.parametrize(
    ("server", "pgvector", "encoding", "words"),
    [
        (14, "0.8.0", "UTF8", "PostgreSQL 14: a store needs 15"),
        (15, "0.6.2", "UTF8", "pgvector 0.6.2, a store needs 0.7"),
        (15, "0.10.0", "LATIN1", "LATIN1"),
    ],
)
def test_what_is_too_old_is_refused(server: int, pgvector: str, encoding: str, words: str) -> None:
    check_versions(15, "0.7.0", "UTF8")
    check_versions(18, "1.0", "UTF8")
    with pytest.raises(LibraryError, match=words):
        check_versions(server, pgvector, encoding)


def test_a_database_without_pgvector_gets_it_or_is_refused(own: PostgresServer, tmp_path: Path) -> None:
    own.run("CREATE ROLE guest LOGIN")
    own.run("CREATE DATABASE bare")
    with pytest.raises(LibraryError, match="CREATE EXTENSION vector"):
        Library(tmp_path, address=own.address(user="guest", database="bare"))
    assert own.run("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", "bare") == [(0,)]
    Library(tmp_path, address=own.address(database="bare")).close()
    own.run("UPDATE pg_extension SET extversion = '0.6.2' WHERE extname = 'vector'", "bare")
    with pytest.raises(LibraryError, match=r"pgvector 0\.6\.2"):
        Library(tmp_path, address=own.address(database="bare"))


def test_a_newer_schema_is_left_as_it_is(library: Library, opener: LibraryOpener, tmp_path: Path) -> None:
    page = add(library, new("a.pdf"))
    with library.database.transaction() as db:
        db.execute("UPDATE library_schema SET version = 99")
    with pytest.raises(LibraryError, match="newer release"):
        opener.open_beside(tmp_path / "b", tmp_path / "a")
    assert library.database.fetch_all("SELECT version FROM library_schema") == [(99,)] and search(library) == [page]


def test_two_migrations_at_once_are_one(opener: LibraryOpener, postgres: PostgresServer, tmp_path: Path) -> None:
    """Both wait for somebody who has the lock; then one makes the tables, and the other finds them."""
    first = tmp_path / "0"
    opener.locate(first)
    with psycopg.connect(postgres.address()) as holder, ThreadPoolExecutor(4) as pool:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
        opening = [pool.submit(opener.open_beside, tmp_path / f"{number}", first) for number in range(4)]
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        until(lambda: postgres.run(waiting) == [(4,)], 30)
        holder.rollback()
        libraries = [one.result(30) for one in opening]
    page = add(libraries[0], new("a.pdf"))
    assert [search(library) for library in libraries] == [[page]] * 4


def test_a_server_killed_in_the_middle_of_a_migration_leaves_no_table(
    own: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setitem(postgres_database.MIGRATIONS, 0, f"{SCHEMA} SELECT pg_sleep(60);")
        opening = pool.submit(Library, tmp_path, address=own.address())
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        until(lambda: own.run(sleeping) == [(1,)], 30)
        own.kill()
        with pytest.raises(StoreUnavailableError):
            opening.result(30)
    own.start()
    assert own.run("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    library = Library(tmp_path, address=own.address())
    assert search(library) == [] and search_after_adding(library)
    library.close()


def search_after_adding(library: Library) -> bool:
    page = add(library, new("a.pdf"))
    return search(library) == [page]


# A server that goes


def test_a_server_that_is_gone_is_told_and_comes_back_by_itself(
    own: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_database, "GONE_S", 1.0)
    library = Library(tmp_path, address=own.address())
    page = add(library, new("a.pdf"))
    key = at(library)
    own.kill()
    calls: list[Callable[[], object]] = [
        lambda: library.ranking.search(key, unit("q", 64), 3, "f1"),
        lambda: library.catalogue.list_files(key),
        lambda: library.pictures.read_picture(page),
        lambda: library.add_page(key, new("b.pdf"), fingerprint="f1", model="m"),
        lambda: library.delete_pages(key, [page]),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailableError, match="works again by itself") as gone:
            call()
        assert gone.value.status == 503 and gone.value.headers() == {"Retry-After": "5"}
    own.start()
    assert search(library) == [page] and library.pictures.read_picture(page) == b"jpeg"
    library.close()


def test_connections_that_were_cut_are_replaced(library: Library, postgres: PostgresServer) -> None:
    page = add(library, new("a.pdf"))
    for _ in range(3):
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dormouse-tests'"
        postgres.run(f"{cut} AND pid != pg_backend_pid()")
        assert search(library) == [page]


@pytest.fixture
def proxied(postgres: PostgresServer, tmp_path: Path) -> Iterator[tuple[Library, CuttingProxy]]:
    """A library behind a proxy. The schema's owner has a password, as on a port all users have."""
    schema, role = postgres.create_schema(), f"proxied_{secrets.token_hex(4)}"
    postgres.run(f"CREATE ROLE {role} LOGIN PASSWORD 'pa55word'")
    postgres.run(f"GRANT ALL ON SCHEMA {schema} TO {role}")
    with closing(CuttingProxy(postgres.port)) as proxy:
        place = f"{role}:pa55word@127.0.0.1:{proxy.port}/postgres?options=-csearch_path%3D{schema}%2Cpublic"
        with closing(Library(tmp_path / "proxied", address=f"postgresql://{place}")) as library:
            yield library, proxy


def test_a_proxy_that_cuts_a_search_is_told_and_the_next_one_works(
    proxied: tuple[Library, CuttingProxy], postgres: PostgresServer
) -> None:
    library, proxy = proxied
    page = add(library, new("a.pdf"))
    (schema,) = library.database.fetch_one("SELECT current_schema()")
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'dormouse'"
    with psycopg.connect(postgres.address(schema)) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("LOCK TABLE pages IN ACCESS EXCLUSIVE MODE")
        searching = pool.submit(search, library)
        until(lambda: postgres.run(waiting), 30)
        proxy.cut()
        with pytest.raises(StoreUnavailableError, match="works again by itself"):
            searching.result(30)
        holder.rollback()
    assert search(library) == [page]


def test_a_page_whose_acknowledgement_was_lost_is_there_once(proxied: tuple[Library, CuttingProxy]) -> None:
    """The server has committed it, and a proxy drops the answer: whoever adds tries again."""
    library, proxy = proxied
    key = made(library)
    with ThreadPoolExecutor(1) as pool:
        proxy.last_word = b"COMMIT\0"  # not that of READ COMMITTED
        adding = pool.submit(library.add_page, key, new("a.pdf"), fingerprint="f1", model="m")
        assert proxy.lost.wait(30)
        proxy.last_word = b""
        proxy.cut()
        with pytest.raises(StoreUnavailableError):
            adding.result(30)
    (there,) = library.catalogue.list_page_ids(key)
    assert library.add_page(key, new("a.pdf"), fingerprint="f1", model="m").id == there
    assert library.catalogue.list_page_ids(key) == [there] and list_pictures(library) == {there}


def test_who_is_undone_for_another_one_tries_again_by_itself(
    library: Library, opener: LibraryOpener, tmp_path: Path
) -> None:
    """Two wait for each other: the server undoes the library's transaction, which is done again once it may be."""
    key, to = made(library), made(library, "elsewhere")
    one, two = (library.add_page(key, new("a.pdf", n), fingerprint="f1", model="m").id for n in (1, 2))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    assert opener.server is not None
    with psycopg.connect(opener.locate(tmp_path / "a")) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SET deadlock_timeout = '60s'")  # the library's server process finds out first
        other.execute("UPDATE pages SET file = 'theirs' WHERE id = %s", [two])
        moving = pool.submit(library.move_pages, key, [one, two], to)
        until(lambda: opener.server is not None and opener.server.run(waiting) == [(1,)], 30)
        other.execute("UPDATE pages SET file = 'theirs' WHERE id = %s", [one])
        other.commit()
        assert moving.result(30) == [one, two]
    pages = library.catalogue.read_pages([one, two])
    assert set(library.catalogue.list_page_ids(to)) == {one, two}
    assert {page.file for page in pages.values()} == {"theirs"}


def test_a_page_that_another_machine_adds_to_the_target_stays_where_it_is(library: Library, other: Library) -> None:
    key, to = made(library), made(library, "elsewhere")
    page = library.add_page(key, new("a.pdf"), fingerprint="f1", model="m").id
    inserted, go_on, insert = threading.Event(), threading.Event(), other.pictures.insert_page

    def insert_slowly(*given: Any) -> None:
        insert(*given)
        inserted.set()
        go_on.wait(30)

    other.pictures.insert_page = insert_slowly  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as pool:
        adding = pool.submit(other.add_page, to, new("a.pdf"), fingerprint="f1", model="m")
        assert inserted.wait(30)
        moving = pool.submit(library.move_pages, key, [page], to)
        time.sleep(0.2)
        go_on.set()
        assert moving.result(30) == [] and adding.result(30).id != page
    assert library.catalogue.list_page_ids(key) == [page]


def test_renames_and_deletions_wait_for_nobody_that_waits_for_them(library: Library, other: Library) -> None:
    """Whoever changes a collection's name or key holds it for itself from the beginning."""
    keys = [made(library, f"c{n}") for n in range(3)]
    with ThreadPoolExecutor(8) as pool:
        renames = [
            pool.submit(one.rename_collection, key, f"{key[-4:]} {number}")
            for number in range(10)
            for one in (library, other)
            for key in keys
        ]
        adding = [
            pool.submit(library.add_page, key, new("a.pdf", number), fingerprint="f1", model="m")
            for number in (1, 2, 3)
            for key in keys
        ]
        for each in (*renames, *adding):
            with suppress(BadValueError):  # both have asked for the same name
                each.result(60)
    assert all(len(library.catalogue.list_page_ids(key)) == 3 for key in keys)


def test_a_page_that_somebody_deletes_at_once_is_no_failure(
    library: Library, other: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = made(library)
    there = other.add_page(key, new("a.pdf"), fingerprint="f1", model="m").id
    back_up = library._back_up_pages

    def back_up_late(*given: Any) -> None:
        other.delete_pages(key, [there])
        back_up(*given)

    monkeypatch.setattr(library, "_back_up_pages", back_up_late)
    assert library.add_page(key, new("a.pdf"), fingerprint="f1", model="m").id == there


def test_who_is_undone_again_and_again_is_told(library: Library) -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        with library.database.transaction():
            raise psycopg.errors.SerializationFailure("could not serialize access")

    with pytest.raises(LibraryError, match="somebody else changes the same pages: try again") as told:
        redo_rolled_back(fail)()
    assert told.value.code == "locked" and len(calls) == TRIES and not isinstance(told.value, RolledBackError)


def test_kills_in_the_middle_of_an_ingest_lose_no_acknowledged_page(own: PostgresServer, tmp_path: Path) -> None:
    """Whoever adds tries again after an error, as its answer may have been lost: no page is there twice."""
    library, chance = Library(tmp_path, address=own.address()), random.Random(5)
    key, stop = made(library), threading.Event()
    acknowledged: dict[int, str] = {}
    failures: list[StoreUnavailableError] = []

    def ingest(start: int) -> None:
        number = start
        while not stop.is_set():
            page = new("a.pdf", number, picture=b"p" * 50_000)
            try:
                stored = library.add_page(key, page, fingerprint="f1", model="m")
            except StoreUnavailableError as error:
                failures.append(error)
                continue
            acknowledged[number] = stored.id
            number += 4

    with ThreadPoolExecutor(4) as pool:
        adding = [pool.submit(ingest, number) for number in range(1, 5)]
        for _ in range(4):
            before = len(acknowledged)
            until(lambda before=before: len(acknowledged) > before + 8, 60)
            time.sleep(chance.uniform(0, 0.05))
            own.kill()
            own.start()
        stop.set()
        for one in adding:
            one.result(60)
    assert failures
    pages = library.catalogue.read_pages(library.catalogue.list_page_ids(key))
    assert {number: page_id for number, page_id in acknowledged.items() if page_id not in pages} == {}
    assert len({page.page for page in pages.values()}) == len(pages) == library.catalogue.read_collection(key).pages
    assert list_pictures(library) == set(pages)
    for number, page_id in acknowledged.items():
        assert pages[page_id].page == number and library.pictures.read_picture(page_id) == b"p" * 50_000
    assert library.catalogue.read_lines(acknowledged[1]) == LINES
    assert search(library, "a.pdf 5", 1) == [acknowledged[5]]
    library.close()


def test_a_kill_in_the_middle_of_searches_is_told_and_they_go_on(own: PostgresServer, tmp_path: Path) -> None:
    library = Library(tmp_path, address=own.address())
    pages = [add(library, new("a.pdf", number)) for number in range(1, 60)]
    stop, failures, found = threading.Event(), list[StoreUnavailableError](), list[str]()

    def look() -> None:
        while not stop.is_set():
            try:
                found.extend(search(library, "a.pdf 7", 1))
            except StoreUnavailableError as error:
                failures.append(error)

    with ThreadPoolExecutor(6) as pool:
        looking = [pool.submit(look) for _ in range(6)]
        for _ in range(3):
            seen = len(found)
            until(lambda seen=seen: len(found) > seen + 20, 60)
            own.kill()
            own.start()
        seen = len(found)
        until(lambda: len(found) > seen + 20, 60)
        stop.set()
        for one in looking:
            one.result(60)
    assert failures and set(found) == {pages[6]}
    library.close()


def test_two_hundred_searches_wait_for_a_connection_and_not_forever(
    postgres: PostgresServer, opener: LibraryOpener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has locked the pages: who has a connection waits for them, and who has none is told."""
    monkeypatch.setattr(postgres_database, "CONNECTIONS", 4)
    monkeypatch.setattr(postgres_database, "GONE_S", 1.0)
    monkeypatch.setattr(postgres_database, "WAIT_S", 2.0)
    library = opener.open(tmp_path)
    page = add(library, new("a.pdf"))
    key = at(library)
    with psycopg.connect(opener.locate(tmp_path)) as holder, ThreadPoolExecutor(200) as pool:
        holder.execute("LOCK TABLE pages IN ACCESS EXCLUSIVE MODE")
        searching = [pool.submit(library.ranking.search, key, unit("a.pdf 1", 64), 3, "f1") for _ in range(200)]
        until(lambda: sum(one.done() for one in searching) == 196, 60)
        holder.rollback()
        faults = [error for one in searching if (error := one.exception(60)) is not None]
        answers = [one.result() for one in searching if one.exception() is None]
    assert len(faults) == 196 and {type(error) for error in faults} == {StoreUnavailableError}
    assert {error.message for error in faults if isinstance(error, LibraryError)} == {postgres_database.BUSY}
    assert [[hit.page.id for hit in hits] for hits in answers] == [[page]] * 4
    assert search(library) == [page]


def test_a_disk_of_the_server_that_is_full_is_told_and_nothing_is_half_there(
    own: PostgresServer, small_disk: Path, tmp_path: Path
) -> None:
    address = own.address().replace("options=", "options=-cdefault_tablespace%3Dsmall%20")
    library, pages, number = Library(tmp_path, address=address), list[str](), 0
    with pytest.raises(LibraryError, match="is full: make room") as full:
        for number in range(1, 60):
            pages.append(add(library, new("a.pdf", number, picture=os.urandom(1_000_000))))
    assert full.value.code == "disk_full" and len(pages) > 5
    assert library.catalogue.read_collection(at(library)).pages == len(pages) and list_pictures(library) == set(pages)
    assert search(library, f"a.pdf {len(pages)}", 1) == [pages[-1]]
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = add(library, new("a.pdf", number, picture=os.urandom(1_000_000)))
    assert search(library, f"a.pdf {number}", 1) == [again]
    library.close()


# Users and machines


def test_who_may_only_read_searches_and_changes_nothing(
    library: Library, opener: LibraryOpener, postgres: PostgresServer, tmp_path: Path
) -> None:
    page = add(library, new("a.pdf"))
    address = postgres.create_reader(opener.schemas[tmp_path / "a"])
    reader = Library(tmp_path / "reader", address=address)
    key = at(reader)
    assert reader.read_only and search(reader) == [page] and reader.pictures.read_picture(page) == b"jpeg"
    job = JobRow("1" * 32, key, "", "local", "waiting", "", 0, 1.0, 0, 0)
    changes: list[Callable[[], object]] = [
        lambda: add(reader, new("b.pdf")),
        lambda: reader.delete_pages(key, [page]),
        lambda: reader.delete_collection(key),
        lambda: reader.create_collection("d"),
        lambda: reader.rename_files(key, {"sha of a.pdf": "x"}),
        lambda: reader.jobs.create(job),
    ]
    for read_only in (True, False):  # what the server refuses is told in the same way
        reader.read_only = read_only
        for change in changes:
            with pytest.raises(ReadOnlyError) as refused:
                change()
            assert refused.value.status == 403
    reader.close()
    assert search(library) == [page]


def test_a_server_that_only_follows_another_is_read_only(postgres: PostgresServer, tmp_path: Path) -> None:
    address = postgres.address(postgres.create_schema())
    Library(tmp_path, address=address).close()
    following = Library(
        tmp_path, address=address.replace("options=", "options=-cdefault_transaction_read_only%3Don%20")
    )
    assert following.read_only and following.catalogue.list_collections() == []
    following.close()


def test_what_one_machine_changes_the_other_sees(library: Library, other: Library) -> None:
    pages = [add(library, new("a.pdf", number)) for number in (1, 2)]
    key = at(library)
    assert search(other) == pages
    assert other.delete_pages(key, [pages[1]]) == [pages[1]] and search(library) == pages[:1]
    other.rename_collection(key, "d")
    assert library.catalogue.read_collection(key).name == "d"
    library.delete_collection(key)
    for call in (
        lambda: other.ranking.search(key, unit("q", 64), 3, "f1"),
        lambda: other.add_page(key, new("b.pdf"), fingerprint="f1", model="m"),
    ):
        with pytest.raises(CollectionGoneError):
            call()
    assert list_pictures(other) == set()


def test_the_same_pages_from_two_machines_are_there_once(library: Library, other: Library) -> None:
    key, gate = made(library), threading.Barrier(4)

    def ingest(machine: Library) -> list[str]:
        gate.wait(30)
        pages = [new("a.pdf", number) for number in range(1, 40)]
        return [machine.add_page(key, page, fingerprint="f1", model="m").id for page in pages]

    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(ingest, [library, other] * 2, timeout=60))
    assert ids[0] == ids[1] == ids[2] == ids[3] and library.catalogue.read_collection(key).pages == 39
    assert list_pictures(library) == set(ids[0])


@pytest.mark.parametrize("turn", range(5))
def test_the_first_embedder_of_two_has_the_collection(library: Library, other: Library, turn: int) -> None:
    key, gate = made(library), threading.Barrier(2)

    def begin(machine: Library, fingerprint: str) -> bool:
        gate.wait(30)
        try:
            machine.add_page(key, new(f"{fingerprint}.png"), fingerprint=fingerprint, model="m")
        except FingerprintError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(begin, [library, other], ["f1", "f2"], timeout=60)) == [False, True]
    found = library.catalogue.read_collection(key)
    assert found.pages == 1 and found.fingerprint in ("f1", "f2")


def test_a_name_that_two_want_is_given_once(library: Library, other: Library) -> None:
    gate = threading.Barrier(2)

    def create(machine: Library) -> str:
        gate.wait(30)
        try:
            return machine.create_collection("house").key
        except BadValueError as error:
            return error.message

    with ThreadPoolExecutor(2) as pool:
        keys = list(pool.map(create, [library, other], timeout=60))
    assert sum("there is a collection 'house' already" in key for key in keys) == 1
    third = library.create_collection("third").key
    with pytest.raises(BadValueError, match="already"):
        other.rename_collection(third, "house")


def test_a_deletion_waits_for_a_page_that_is_being_added_and_takes_it_along(library: Library, other: Library) -> None:
    key = made(library)
    with ThreadPoolExecutor(1) as pool:
        with library.database.transaction() as db:
            db.hold("SELECT id FROM collections WHERE key = ?", [key])
            deleting = pool.submit(other.delete_collection, key)
            time.sleep(0.2)
            assert not deleting.done()
        assert deleting.result(30) == 0
    with pytest.raises(CollectionGoneError):
        library.add_page(key, new("a.pdf"), fingerprint="f1", model="m")


def test_an_import_that_goes_on_elsewhere_is_left_alone(
    library: Library, opener: LibraryOpener, tmp_path: Path
) -> None:
    """A start removes what a kill left a day ago, or what was being deleted; not what may still come."""
    importing, old, deleted = library.begin_import(), library.begin_import(), made(library)
    library.add_page(importing, new("a.pdf"), fingerprint="f1", model="m", staged=True)
    library.add_page(deleted, new("a.pdf"), fingerprint="f1", model="m")
    with library.database.transaction() as db:
        db.execute("UPDATE collections SET created = ? WHERE key = ?", [time.time() - IMPORT_S - 1, old])
        db.execute("UPDATE collections SET created = 0, owner = ? WHERE key = ?", [IMPORTING, deleted])
    opener.open_beside(tmp_path / "b", tmp_path / "a")
    assert library.database.fetch_all("SELECT key FROM collections") == [(importing,)]
    assert library.rename_collection(importing, "mine", "").pages == 1


def test_texts_with_a_zero_are_kept_without_it(library: Library) -> None:
    page = add(library, new("a\0.pdf", lines=(Line("to\0tal", None),)))
    assert library.catalogue.read_page(page).file == "a.pdf" and library.catalogue.read_lines(page) == (Line("total"),)


def test_what_is_embedded_and_what_is_on_a_server_rank_alike(library: Library, tmp_path: Path) -> None:
    """The same hits in the same order, with the same scores and marked lines."""
    embedded, draw = Library(tmp_path / "embedded"), np.random.default_rng(7)

    def draw_rows(count: int) -> np.ndarray:
        rows = draw.standard_normal((count, 384)).astype(np.float32)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))

    keys = [made(library), made(embedded)]
    for number in range(1, 400):
        lines = tuple(Line(f"{number} {n}") for n in range(number % 4))
        vectors = draw_rows(len(lines)) if lines else None
        page = new(f"f{number % 9}.pdf", number, vector=draw_rows(1)[0], lines=lines, line_vectors=vectors)
        for store, key in zip((library, embedded), keys, strict=True):
            store.add_page(key, page, fingerprint="f1", model="m")
    for query in draw_rows(12):
        for dimension in (None, 128, 16):
            hits = [
                [(hit.page.page, hit.line) for hit in store.ranking.search(key, query, 20, "f1", dimension=dimension)]
                for store, key in zip((library, embedded), keys, strict=True)
            ]
            scores = [
                [hit.score for hit in store.ranking.search(key, query, 20, "f1", dimension=dimension)]
                for store, key in zip((library, embedded), keys, strict=True)
            ]
            assert hits[0] == hits[1] and scores[0] == pytest.approx(scores[1], abs=1e-3)
    embedded.close()


def test_a_search_after_a_collection_is_gone_is_told(library: Library) -> None:
    with pytest.raises(CollectionGoneError):
        library.vectors.load_vectors(CollectionKey("c-" + 32 * "0"))
