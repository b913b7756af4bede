"""Which fingerprints `python -m bench parity` has shown to be equal, so that their vectors may share a collection.

The proofs are in `parity.json` in the data folder: the bench writes it, a library reads it again when it has changed.
A file that cannot be understood proves nothing. Knows nothing of how parity is measured.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.errors import ServingError
from serving.system.files import write_file

FILE = "parity.json"
log = logging.getLogger(__name__)

Cosine = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
Print = Annotated[str, Field(min_length=1)]


class EquivalenceError(ServingError):
    """The file of proofs cannot be read, or was written by a newer release."""

    code = "parity_file"


class Shape(BaseModel):
    model_config = ConfigDict(frozen=True)


class Spread(Shape):
    """Cosines of the same `n` inputs through both servers."""

    n: Annotated[int, Field(ge=1)]
    min: Cosine
    median: Cosine


class Threshold(Shape):
    pages: Cosine
    queries: Cosine


class Pair(Shape):
    """One proof. `lines` where the servers compare lines of pages too; `measured` is ISO 8601."""

    fingerprints: tuple[Print, Print]
    pages: Spread
    queries: Spread
    lines: Spread | None = None
    threshold: Threshold
    measured: str


class Proofs(Shape):
    schema_version: Literal[1]
    pairs: tuple[Pair, ...] = ()


class Equivalence:
    """The proofs of one data folder, as they are now. Not for several threads at once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._seen: tuple[int, int, int] | None = None
        self._pairs: tuple[Pair, ...] = ()

    def equal(self, one: str, other: str) -> bool:
        return one == other or other in connected(one, self._current())

    def _current(self) -> tuple[Pair, ...]:
        try:
            found = self._path.stat()
        except OSError:
            self._seen, self._pairs = None, ()
            return ()
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            self._seen, self._pairs = seen, ()
            try:
                self._pairs = read(self._path)
            except EquivalenceError as error:
                log.warning("%s; until then no two fingerprints count as equal", error.message)
        return self._pairs


def connected(fingerprint: str, pairs: Sequence[Pair]) -> set[str]:
    """All that are equal to it by these proofs, itself among them."""
    found, new = {fingerprint}, {fingerprint}
    while new:
        new = {name for pair in pairs if found & {*pair.fingerprints} for name in pair.fingerprints} - found
        found |= new
    return found


def read(path: Path) -> tuple[Pair, ...]:
    """Empty where there is no file. Raises EquivalenceError."""
    try:
        return Proofs.model_validate_json(path.read_bytes()).pairs
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is damaged, or of a newer release"
        raise EquivalenceError(f"{path.name} cannot be used ({reason}): move it away and measure again") from None


def record(folder: Path, proof: Pair) -> None:
    """Kept in place of an earlier one for the same pair. Raises EquivalenceError, or OSError with the old file left."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    write(path, [*(pair for pair in read(path) if {*pair.fingerprints} != {*proof.fingerprints}), proof])


def withdraw(folder: Path, one: str, other: str) -> list[Pair]:
    """Takes away every proof by which the two count as equal: their own, and chains over others. Returns those.

    Raises EquivalenceError or OSError.
    """
    path = folder / FILE
    pairs = read(path)
    left = [pair for pair in pairs if {*pair.fingerprints} != {one, other}]
    group = connected(one, left)
    if other in group:
        left = [pair for pair in left if not group & {*pair.fingerprints}]
    if len(left) < len(pairs):
        write(path, left)
    return [pair for pair in pairs if pair not in left]


def write(path: Path, pairs: Iterable[Pair]) -> None:
    proofs = Proofs(schema_version=1, pairs=tuple(pairs))
    write_file(path, proofs.model_dump_json(indent=2, exclude_none=True).encode() + b"\n")
