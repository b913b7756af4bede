"""Proofs of equal fingerprints in a store for several machines: what the bench shows once holds on all of them."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from serving.library.database import Database
from serving.library.fingerprints import Proof, find_equal, find_proofs

log = logging.getLogger(__name__)


class SharedProofs:
    """The proofs of a store, each pair once."""

    place = "the store"

    def __init__(self, database: Database) -> None:
        self._database = database

    def are_equal(self, one: str, other: str) -> bool:
        return one == other or other in find_equal(one, self.read())

    def read(self) -> list[Proof]:
        """Return all proofs; one that a newer release wrote proves nothing here. Raises LibraryError."""
        found = []
        for (text,) in self._database.fetch_all("SELECT proof FROM proofs"):
            try:
                found.append(Proof.model_validate_json(text))
            except ValidationError:
                log.warning("a proof in the store cannot be read: measure again")
        return found

    def add(self, proof: Proof) -> None:
        """Write a proof, in place of the pair's earlier one. Raises ReadOnlyError or LibraryError."""
        row = [*sorted(proof.fingerprints), proof.model_dump_json(exclude_none=True)]
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO proofs (one, other, proof) VALUES (?, ?, ?)"
                " ON CONFLICT (one, other) DO UPDATE SET proof = excluded.proof",
                row,
            )

    def remove(self, one: str, other: str) -> list[Proof]:
        """Remove and return all proofs that make the two equal. Raises ReadOnlyError or LibraryError."""
        with self._database.transaction() as db:
            db.claim("SELECT id FROM library_schema", [])  # two at once would each leave the other's way round
            gone = find_proofs(one, other, self.read())
            pairs = [tuple(sorted(proof.fingerprints)) for proof in gone]
            db.executemany("DELETE FROM proofs WHERE one = ? AND other = ?", pairs)
        return gone
