"""Pictures of a library's pages: two files each, written before the row that names them and removed after it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from serving.system.files import remove_files, sync_folder, write_file

NAME = re.compile(r"[0-9a-f]{16}\.(jpg|webp)(\.[0-9a-f]+\.part)?")
SAMPLED = 500
"""Pages whose pictures are looked at for a size: two calls to the disk each."""


class Pictures:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def picture(self, page_id: str) -> Path:
        return self.folder / f"{page_id}.jpg"

    def thumbnail(self, page_id: str) -> Path:
        return self.folder / f"{page_id}.webp"

    def write(self, page_id: str, picture: bytes, thumbnail: bytes) -> None:
        """Keep both, also over a power cut, or none. Raises OSError."""
        try:
            write_file(self.picture(page_id), picture)
            write_file(self.thumbnail(page_id), thumbnail)
            sync_folder(self.folder)
        except OSError:
            self.remove([page_id])
            raise

    def remove(self, ids: Iterable[str]) -> None:
        remove_files([path for page_id in ids for path in (self.picture(page_id), self.thumbnail(page_id))])

    def total_bytes(self, ids: Sequence[str]) -> int:
        """Return what the pictures of these pages take; of many pages some stand for all."""
        looked = ids[:: max(1, len(ids) // SAMPLED)]
        files = [path for page_id in looked for path in (self.picture(page_id), self.thumbnail(page_id))]
        found = sum(path.stat().st_size for path in files if path.exists())
        return round(found / len(looked) * len(ids)) if looked else 0

    def sweep(self, known: Collection[str]) -> None:
        """Remove what is not of the `known` pages. Files of other names stay: the folder may serve its owner too."""
        with os.scandir(self.folder) as entries:  # a look at each file would be a call each, over a network
            ours = [entry.name for entry in entries if NAME.fullmatch(entry.name) and entry.is_file()]
        remove_files([self.folder / name for name in ours if name.partition(".")[0] not in known])
