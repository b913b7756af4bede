"""What containers find on disk: `/root` as the client uploaded it, and volumes at their mount paths."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from modal_proto import api_pb2 as pb

from tests.modal.containers import REPOSITORY

if TYPE_CHECKING:
    from tests.modal.registry import App, Registry

ROOT = "/root/"


class Disk:
    """Of one cloud. Links that it made at mount paths are gone after `close`."""

    def __init__(self, folder: Path, registry: Registry, *, uploaded_only: bool) -> None:
        self.folder = folder
        self.registry = registry
        self.uploaded_only = uploaded_only
        self.links: list[Path] = []
        self._containers = 0

    def container(self) -> Path:
        """A short path: it ends in a Unix socket's name, which has 107 bytes."""
        self._containers += 1
        return self.folder / f"c{self._containers}"

    def uploaded(self, function: pb.Function) -> dict[str, bytes]:
        """By path in the container, without those of published mounts, such as the client itself."""
        files = [file for mount_id in function.mount_ids for file in self.registry.mounts.get(mount_id, [])]
        return {file.filename: self.registry.uploads[file.sha256_hex] for file in files}

    def root(self, app: App, tag: str) -> Path:
        """A folder that stands for `/root`. Without `uploaded_only`, files that this repository has are left out."""
        root = self.folder / f"root{app.app_id[-4:]}-{app.version}-{tag.replace('.*', '')}"
        root.mkdir(parents=True, exist_ok=True)
        for name, data in self.uploaded(app.functions[tag]).items():
            relative = name.removeprefix(ROOT)
            if name.startswith(ROOT) and (self.uploaded_only or not (REPOSITORY / relative).exists()):
                (root / relative).parent.mkdir(parents=True, exist_ok=True)
                (root / relative).write_bytes(data)
        return root

    def sources(self, root: Path) -> list[Path]:
        """Where a container imports from, before what is installed."""
        return [root] if self.uploaded_only else [root, REPOSITORY]

    def link(self, function: pb.Function) -> dict[str, str]:
        """Volumes at their mount paths, where these are below the temporary folder.

        Those elsewhere are not made, because this machine is not the container's own: they are returned, folders by
        mount path, and the container finds them as JSON in `MODAL_LOCAL_MOUNTS`.
        """
        elsewhere = {}
        for mount in function.volume_mounts:
            path, folder = Path(mount.mount_path), self.registry.volume(self.registry.volumes[mount.volume_id])
            if not path.parent.resolve().is_relative_to(Path(tempfile.gettempdir()).resolve()):
                elsewhere[mount.mount_path] = str(folder)
            elif not path.exists():
                path.unlink(missing_ok=True)  # a link into a cloud that was killed
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(folder)
                self.links.append(path)
            elif path.resolve() != folder.resolve():
                raise FileExistsError(f"{path} is not this cloud's volume; deploy with another mount path")
        return elsewhere

    def close(self) -> None:
        for link in self.links:
            link.unlink(missing_ok=True)
