"""Snapshot files: whole or absent, readable by their owner only, and refused if they have changed.

Each snapshot is a folder, `<digest of its identity>/`, with `manifest.json` and the files that it lists. It is written
as `*.part` and renamed; `*.part` and `*.gone` of a killed engine are removed at the next start. Knows nothing of criu.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from serving.settings import Settings
from serving.snapshots.base import Snapshot, SnapshotFailed
from serving.snapshots.identity import Identity, describe_mismatch, digest_identity
from serving.system.files import file_stamp, hash_file, sync_folder, write_file

MANIFEST = "manifest.json"
FILES = "files"
VERSION = 1
log = logging.getLogger(__name__)


class SnapshotStore:
    """The folder of all snapshots of one data folder; workers that share it read a new file once for all of them."""

    @classmethod
    def of(cls, settings: Settings) -> SnapshotStore:
        return cls(settings.data.resolve() / "snapshots", settings.snapshots_kept)

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self._max_kept = keep
        self._checked_stamps: dict[Path, str] = {}
        """Stamps of files that were compared with the manifest: a file is not read again until its stamp changes."""

    def open(self) -> None:
        """Make the folder and remove leftovers. Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for left in (*self.folder.glob("*.part"), *self.folder.glob("*.gone")):
            shutil.rmtree(left, ignore_errors=True)

    def make_part(self) -> Path:
        """Return a new folder to save into. Raises OSError."""
        path = self.folder / f"{secrets.token_hex(8)}.part"
        path.mkdir(mode=0o700, parents=True)
        (path / FILES).mkdir(mode=0o700)
        return path

    def keep_part(self, part: Path, mine: Identity, probe: list[list[float]], extra: dict[str, Any]) -> Snapshot:
        """Make `part` this identity's snapshot. Raises SnapshotFailed; then an older one is unchanged."""
        target = self.folder / digest_identity(mine)
        try:
            files: dict[str, dict[str, Any]] = {}
            for path in sorted((part / FILES).iterdir()):
                path.chmod(0o600)
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())
                files[path.name] = {"bytes": path.stat().st_size, "sha256": hash_file(path)}
            content = {
                "version": VERSION,
                "identity": dict(mine),
                "created": time.time(),
                "bytes": sum(file["bytes"] for file in files.values()),
                "files": files,
                "probe": probe,
                **extra,
            }
            write_file(part / MANIFEST, json.dumps(content, indent=1).encode())
            (part / MANIFEST).chmod(0o600)
            sync_folder(part / FILES)
            self._remove(target)
            part.rename(target)
            sync_folder(self.folder)
        except OSError as error:
            raise SnapshotFailed(f"the snapshot could not be kept: {error.strerror or error}") from None
        for name in files:
            self._checked_stamps[target / FILES / name] = file_stamp(target / FILES / name)
        self._remove_oldest(target)
        return read_manifest(target, content)

    def find(self, mine: Identity) -> Snapshot | None:
        """Return the snapshot of this identity if none of its files has changed; else None, and it is removed."""
        target = self.folder / digest_identity(mine)
        if not target.is_dir():
            return None
        try:
            content = json.loads((target / MANIFEST).read_bytes())
            reason, found = self._find_fault(target, content, mine), read_manifest(target, content)
        except Exception as error:  # the file may hold anything, also deep nesting
            reason, found = f"its manifest cannot be read ({type(error).__name__})", None
        if reason is not None:
            log.warning("snapshot %s is refused and removed: %s", target.name, reason)
            self._remove(target)
            return None
        os.utime(target)  # the oldest unused one goes first
        return found

    def discard(self, found: Snapshot) -> None:
        """Remove that snapshot, not one that has taken its place meanwhile."""
        target = self.folder / found.key
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if float(json.loads((target / MANIFEST).read_bytes())["created"]) != found.created:
                return
        self._remove(target)

    def _find_fault(self, target: Path, content: dict[str, Any], mine: Identity) -> str | None:
        if content["version"] != VERSION:
            return f"it has the format {content['version']}, this release writes {VERSION}"
        reason = describe_mismatch(mine, content["identity"])
        if reason is not None:
            return f"it belongs elsewhere: {reason}"
        there = {path.name for path in (target / FILES).iterdir()}
        if there != set(content["files"]):
            return "files are missing or were added"
        for name, saved in content["files"].items():
            path = target / FILES / name
            now = file_stamp(path)
            if self._checked_stamps.get(path) != now:
                if path.stat().st_size != saved["bytes"] or hash_file(path) != saved["sha256"]:
                    return f"{name} is not as it was saved"
                self._checked_stamps[path] = now
        return None

    def _remove(self, target: Path) -> None:
        """Rename the folder, then delete it: a half-deleted snapshot must not look like one."""
        gone = self.folder / f"{secrets.token_hex(8)}.gone"
        with contextlib.suppress(FileNotFoundError):
            target.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _remove_oldest(self, fresh: Path) -> None:
        others = [path for path in self.folder.iterdir() if path.suffix == "" and path != fresh]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[self._max_kept - 1 :]:
            log.info("snapshot %s is removed: at most %d are kept", path.name, self._max_kept)
            self._remove(path)


def read_manifest(folder: Path, content: dict[str, Any]) -> Snapshot:
    """Return the snapshot of a manifest. Raises KeyError, TypeError or ValueError for other content."""
    probe = [[float(value) for value in vector] for vector in content["probe"]]
    return Snapshot(folder.name, float(content["created"]), int(content["bytes"]), probe, (folder, content))
