"""Proofs of equal fingerprints on a real PostgreSQL: shown on one machine, they hold on all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.library.shared_proofs import SharedProofs
from tests.support.equivalence_proofs import proof
from tests.support.postgres import PostgresServer
from tests.support.stores import LibraryOpener


@pytest.fixture
def two(postgres: PostgresServer, tmp_path: Path) -> Iterator[tuple[SharedProofs, ...]]:
    opener = LibraryOpener(postgres)
    libraries = opener.open(tmp_path / "a"), opener.open_beside(tmp_path / "b", tmp_path / "a")
    yield tuple(SharedProofs(library.database) for library in libraries)
    opener.close()


def test_proofs_connect_on_every_machine(two: tuple[SharedProofs, SharedProofs]) -> None:
    one, other = two
    assert one.are_equal("a", "a") and not one.are_equal("a", "b")
    one.add(proof("b", "a"))
    other.add(proof("b", "c"))
    one.add(proof("a", "b"))
    assert other.are_equal("a", "c") and not other.are_equal("a", "d")
    assert len(other.read()) == 2, "measured again, a pair is not listed twice"
    assert len(one.remove("c", "a")) == 2 and other.read() == [] and one.remove("c", "a") == []


def test_what_a_newer_release_wrote_proves_nothing(
    two: tuple[SharedProofs, SharedProofs], caplog: pytest.LogCaptureFixture
) -> None:
    one, _ = two
    one.add(proof("a", "b"))
    with one._database.transaction() as db:
        db.execute("INSERT INTO proofs VALUES ('b', 'c', '{}')")
    with caplog.at_level(logging.WARNING):
        assert one.are_equal("a", "b") and not one.are_equal("a", "c")
    assert "measure again" in caplog.text
    one.add(proof("c", "b"))
    assert one.are_equal("a", "c")
