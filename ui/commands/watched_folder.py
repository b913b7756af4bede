"""A folder that is looked at again and again: which files have settled, and which have gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from serving.errors import NotFoundError
from serving.settings import Settings
from serving.system.display_names import display_path
from ui.commands.folder_files import hash_contents, walk_path
from ui.commands.store import FileToAdd

Stamp = tuple[int, int, int]
"""A file's number, size and time of change."""


@dataclass(frozen=True)
class Look:
    """What one look at the folder has found."""

    settled: Mapping[str, FileToAdd]
    """Files that have not changed since the look before, by name."""
    stamps: Mapping[str, Stamp]
    unsettled: frozenset[str]
    """Files that are new, change, or cannot be read now: nothing is known of their content."""
    just_gone: frozenset[str]
    """Files of the look before: they may have been moved, and the next look shows where to."""
    whole: bool
    """Whether all folders could be read: else files may be there that were not seen."""

    @property
    def state(self) -> object:
        """Return what is compared: as long as it is equal, there is nothing to do."""
        stamps = frozenset((name, self.stamps[name]) for name in self.settled)
        return stamps, self.unsettled, self.just_gone, self.whole

    def owner_of(self, name: str) -> str | None:
        """Return the file that a name of the collection belongs to, if it is there: itself, or the zip around it."""
        parts = name.split("/")
        return next(
            (
                known
                for end in range(len(parts), 0, -1)
                if (known := "/".join(parts[:end])) in self.settled or known in self.unsettled
            ),
            None,
        )


@dataclass
class WatchedFolder:
    """Looks at a folder. What a file has in it is read again only when it has changed."""

    path: Path
    settings: Settings
    _last: dict[str, Stamp] = field(default_factory=dict)
    _read: dict[str, tuple[Stamp, FileToAdd]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises NotFoundError."""
        self._identity = self._identify()

    @property
    def prefix(self) -> str:
        """Return what the names of its files begin with."""
        return f"{display_path(self.path.resolve().name)}/"

    def look(self) -> Look:
        """Raises NotFoundError where the folder is gone, or is another one, as when its disk was unplugged."""
        if self._identify() != self._identity:
            raise NotFoundError(f"{self.path} is another folder now: nothing is deleted; is its disk there?")
        failed: list[str] = []
        stamps: dict[str, Stamp] = {}
        settled: dict[str, FileToAdd] = {}
        unsettled: set[str] = set()
        for file, name in walk_path(self.path, lambda name, _why: failed.append(name)):
            try:
                stamps[name] = stamp = read_stamp(file)
                if not file.is_file() or self._last.get(name) != stamp:
                    unsettled.add(name)
                    continue
                settled[name] = self._read_file(file, name, stamp)
            except OSError:  # it went meanwhile, or may not be read
                unsettled.add(name)
        gone = frozenset(self._last.keys() - stamps.keys())
        self._last = stamps
        self._read = {name: self._read[name] for name in settled}
        return Look(settled, stamps, frozenset(unsettled), gone, not failed)

    def _read_file(self, file: Path, name: str, stamp: Stamp) -> FileToAdd:
        known = self._read.get(name)
        if known is None or known[0] != stamp:
            known = stamp, FileToAdd(file, name, hash_contents(file, name, self.settings))
            if read_stamp(file) != stamp:
                raise OSError("it changed while it was read")
            self._read[name] = known
        return known[1]

    def _identify(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except OSError as error:
            raise NotFoundError(f"the folder {self.path} cannot be read: {error.strerror}") from None
        if not self.path.is_dir():
            raise NotFoundError(f"{self.path} is no folder")
        return found.st_dev, found.st_ino


def read_stamp(file: Path) -> Stamp:
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
