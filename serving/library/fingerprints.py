"""Records which fingerprints `python -m bench parity` showed to be equal, so that their vectors may share a collection.

The proofs are in `parity.json` in the data folder: the bench writes it, a library reads it again when it has changed.
Those of a store for several machines are rows in it (`shared_proofs`). What is invalid proves nothing. Knows nothing of
how parity is measured.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, Field, ValidationError

from serving.errors import ServingError
from serving.system.files import file_stamp, write_file

FILE = "parity.json"
log = logging.getLogger(__name__)

Cosine = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
Fingerprint = Annotated[str, Field(min_length=1)]


class EquivalenceError(ServingError):
    """The file of proofs cannot be read, or was written by a newer release."""

    code = "parity_file"


class Spread(BaseModel, frozen=True):
    """Cosines of the vectors that both servers make of the same `n` inputs."""

    n: Annotated[int, Field(ge=1)]
    min: Cosine
    median: Cosine


class Threshold(BaseModel, frozen=True):
    """The lowest cosines that count as equal."""

    pages: Cosine
    queries: Cosine


class Proof(BaseModel, frozen=True):
    """Two fingerprints shown to be equal. `lines`: the servers compare lines of pages too; `measured` is ISO 8601."""

    fingerprints: tuple[Fingerprint, Fingerprint]
    pages: Spread
    queries: Spread
    lines: Spread | None = None
    threshold: Threshold
    measured: str


class ProofFile(BaseModel, frozen=True):
    """The content of `parity.json`."""

    schema_version: Literal[1]
    pairs: tuple[Proof, ...] = ()


class ProvenPairs(Protocol):
    """Which fingerprints are equal."""

    def are_equal(self, one: str, other: str) -> bool:
        """Return whether the two are the same, or equal by proofs."""


class Equivalence:
    """The current proofs of one data folder. Not for several threads at once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._stamp = ""
        self._pairs: tuple[Proof, ...] = ()

    def are_equal(self, one: str, other: str) -> bool:
        return one == other or other in find_equal(one, self._read_current())

    def _read_current(self) -> tuple[Proof, ...]:
        try:
            stamp = file_stamp(self._path)
        except OSError:
            stamp = ""
        if stamp != self._stamp:
            self._stamp, self._pairs = stamp, ()
            try:
                self._pairs = read_proofs(self._path)
            except EquivalenceError as error:
                log.warning("%s; until then no two fingerprints count as equal", error.message)
        return self._pairs


class FolderProofs:
    """Writes the proofs of a data folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.place = str(folder / FILE)

    def read(self) -> list[Proof]:
        """Return all proofs. Raises EquivalenceError."""
        return list(read_proofs(self._folder / FILE))

    def add(self, proof: Proof) -> None:
        add_proof(self._folder, proof)

    def remove(self, one: str, other: str) -> list[Proof]:
        return remove_proofs(self._folder, one, other)


def find_equal(fingerprint: str, pairs: Sequence[Proof]) -> set[str]:
    """Return all fingerprints that are equal to this one by the proofs, itself among them."""
    found, new = {fingerprint}, {fingerprint}
    while new:
        new = {name for pair in pairs if found & {*pair.fingerprints} for name in pair.fingerprints} - found
        found |= new
    return found


def read_proofs(path: Path) -> tuple[Proof, ...]:
    """Return the proofs of a file, none where there is no file. Raises EquivalenceError."""
    try:
        return ProofFile.model_validate_json(path.read_bytes()).pairs
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is damaged, or of a newer release"
        raise EquivalenceError(f"{path.name} cannot be used ({reason}): move it away and measure again") from None


def add_proof(folder: Path, proof: Proof) -> None:
    """Write a proof, in place of the pair's earlier one. Raises EquivalenceError, OSError: the old file is left."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    write_proofs(path, [*(pair for pair in read_proofs(path) if {*pair.fingerprints} != {*proof.fingerprints}), proof])


def remove_proofs(folder: Path, one: str, other: str) -> list[Proof]:
    """Remove and return all proofs that make the two equal, chains as well. Raises EquivalenceError or OSError."""
    path = folder / FILE
    pairs = read_proofs(path)
    gone = find_proofs(one, other, pairs)
    if gone:
        write_proofs(path, [pair for pair in pairs if pair not in gone])
    return gone


def find_proofs(one: str, other: str, pairs: Sequence[Proof]) -> list[Proof]:
    """Return all proofs that make the two equal, chains as well."""
    left = [pair for pair in pairs if {*pair.fingerprints} != {one, other}]
    group = find_equal(one, left)
    if other in group:
        left = [pair for pair in left if not group & {*pair.fingerprints}]
    return [pair for pair in pairs if pair not in left]


def write_proofs(path: Path, pairs: Iterable[Proof]) -> None:
    proofs = ProofFile(schema_version=1, pairs=tuple(pairs))
    write_file(path, proofs.model_dump_json(indent=2, exclude_none=True).encode() + b"\n")
