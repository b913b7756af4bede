"""The names of a collection's files in memory, by which its pages are selected before they are ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.errors import BadValueError
from serving.library.records import TYPES, Selection, guess_file_type
from serving.library.vectors import Block
from serving.system.display_names import compose_name


class FileNames:
    """Gives each name a number, 0 and up. One thread adds names, others may select."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._names: list[tuple[str, str]] = []
        """Each name with its letters composed, and its type."""

    def number(self, name: str) -> int:
        """Return the number of a name, which it gets now if it is new."""
        if name not in self._numbers:
            self._names.append((compose_name(name), guess_file_type(name)))
            self._numbers[name] = len(self._numbers)
        return self._numbers[name]

    def select(self, selection: Selection, present: NDArray[np.bool_]) -> SelectedRows:
        """Return what selects the pages. `present`: by their numbers, whether files have pages.

        Raises BadValueError for a file or a folder that is not there.
        """
        names, kinds, prefix = frozenset(selection.files), list_kinds(selection), f"{selection.folder}/"
        known = self._names[: len(present)]
        named = np.array([not names or name in names for name, _ in known], np.bool_)
        inside = np.array([not selection.folder or name.startswith(prefix) for name, _ in known], np.bool_)
        of_type = np.array([not kinds or kind in kinds for _, kind in known], np.bool_)
        there = present[: len(known)]
        if there.any():
            self._check_files(selection, names, there & named)
            if not (there & inside).any():
                raise make_absence_error("folder", selection.folder)
        return SelectedRows(np.append(named & inside & of_type, False), selection.added_after or 0.0)

    def _check_files(self, selection: Selection, names: frozenset[str], found: NDArray[np.bool_]) -> None:
        if missing := names - {self._names[number][0] for number in np.flatnonzero(found)} if names else None:
            raise make_absence_error("file", next(file for file in selection.files if file in missing))

    def __len__(self) -> int:
        return len(self._names)


def select_names(names: Sequence[str], selection: Selection) -> list[str]:
    """Return those of the names of a collection's files that a selection takes, whatever time it names.

    Raises BadValueError for a file or a folder that is not there.
    """
    files = FileNames()
    for name in names:
        files.number(name)
    wanted = files.select(selection, np.ones(len(names), np.bool_)).wanted
    return [name for name, is_wanted in zip(names, wanted, strict=False) if is_wanted]


@dataclass(frozen=True, eq=False)
class SelectedRows:
    """Selects rows by the number of their file and the time they were added; a `RowFilter`."""

    wanted: NDArray[np.bool_]
    """By the file's number. The last one stands for files that came later."""
    since: float

    def mask_rows(self, block: Block) -> NDArray[np.bool_]:
        files = np.minimum(block.groups, len(self.wanted) - 1)
        return np.asarray(self.wanted[files] & (block.times >= self.since))


def list_kinds(selection: Selection) -> frozenset[str]:
    """Return the types of single files that a selection takes, none for all."""
    images = set(TYPES) - {"pdf", "other"} if "image" in selection.types else set()
    return frozenset({*selection.types, *images})


def make_absence_error(kind: str, name: str) -> BadValueError:
    return BadValueError(
        f"there is no {kind} {name!r} in the collection (any more): take it out of the filter",
        param="folder" if kind == "folder" else "files",
    )
