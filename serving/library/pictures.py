"""Stores the pictures of a library's pages: two files each, written before their page's row and removed after it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from serving.system.files import remove_files, sync_folder, write_file

NAME = re.compile(r"[0-9a-f]{16}\.(jpg|webp)(\.[0-9a-f]+\.part)?")
SAMPLED_PAGES = 500
"""Pages whose files are measured for an estimate: two calls to the disk each."""


class Pictures:
    """The folder of the pictures: a JPEG and a thumbnail in WebP for each page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locate_picture(self, page_id: str) -> Path:
        return self.folder / f"{page_id}.jpg"

    def locate_thumbnail(self, page_id: str) -> Path:
        return self.folder / f"{page_id}.webp"

    def _locate_files(self, ids: Iterable[str]) -> list[Path]:
        return [path for page_id in ids for path in (self.locate_picture(page_id), self.locate_thumbnail(page_id))]

    def write_page(self, page_id: str, picture: bytes, thumbnail: bytes) -> None:
        """Write both, so that they survive a power cut, or none. Raises OSError."""
        try:
            write_file(self.locate_picture(page_id), picture)
            write_file(self.locate_thumbnail(page_id), thumbnail)
            sync_folder(self.folder)
        except OSError:
            self.remove_pages([page_id])
            raise

    def remove_pages(self, ids: Iterable[str]) -> None:
        remove_files(self._locate_files(ids))

    def estimate_bytes(self, ids: Sequence[str]) -> int:
        """Return how many bytes the pictures of these pages take; of many pages only a sample is measured."""
        sample = ids[:: max(1, len(ids) // SAMPLED_PAGES)]
        found = sum(path.stat().st_size for path in self._locate_files(sample) if path.exists())
        return round(found / len(sample) * len(ids)) if sample else 0

    def remove_unknown(self, known: Collection[str]) -> None:
        """Remove pictures of other than the `known` pages. Files of other names stay: they may be the user's own."""
        with os.scandir(self.folder) as entries:  # stat of each file would be a call each, over a network
            ours = [entry.name for entry in entries if NAME.fullmatch(entry.name) and entry.is_file()]
        remove_files([self.folder / name for name in ours if name.partition(".")[0] not in known])
