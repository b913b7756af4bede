"""A cloud's volume as its containers see it: a mount of their own, and what was committed. It has no hard links.

Stands for Modal's, which cannot be here: a killed container's uncommitted files are gone, others' appear by `reload`.
"""

from __future__ import annotations

import secrets
import shutil
import threading
from pathlib import Path

from serving.library.backup import Backup, Claims
from serving.library.library import Library


class Volume:
    """One container's view of the volume whose committed state is in `store`."""

    def __init__(self, store: Path, mount: Path) -> None:
        self.store = store
        self.mount = mount
        self.commits = 0
        self.failure: Exception | None = None
        self._lock = threading.Lock()
        store.mkdir(parents=True, exist_ok=True)
        self.reload()

    @property
    def committed(self) -> Path:
        return self.store / "now"

    def commit(self) -> None:
        """All or nothing, as seen by whoever loads it."""
        with self._lock:
            if self.failure is not None:
                raise self.failure
            state = f"state-{secrets.token_hex(4)}"
            shutil.copytree(self.mount, self.store / state, ignore=shutil.ignore_patterns("*.part"))
            before = self.committed.resolve()
            link = self.store / f"link-{secrets.token_hex(4)}"
            link.symlink_to(state)
            link.replace(self.committed)
            if before.name.startswith("state-"):
                shutil.rmtree(before, ignore_errors=True)
            self.commits += 1

    def reload(self) -> None:
        shutil.rmtree(self.mount, ignore_errors=True)
        if self.committed.exists():
            shutil.copytree(self.committed.resolve(), self.mount)
        else:
            self.mount.mkdir(parents=True)


class OnlyWriter:
    """The claims on a volume that only one process has."""

    def take_number(self, above: int) -> int:
        return above + 1

    def is_superseded(self, _: int) -> bool:
        return False


class Container:
    """A process with a disk and a mount of its own, as far as a library can tell."""

    def __init__(self, root: Path, name: str, claims: Claims | None = None) -> None:
        self.volume = Volume(root / "volume", root / name / "mount")
        self.backup = Backup(self.volume.mount, self.volume.commit, self.volume.reload, claims or OnlyWriter())
        self.library = Library(root / name / "disk", self.backup)

    def fail(self, failure: Exception | None) -> None:
        self.volume.failure = failure
