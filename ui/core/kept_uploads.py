"""Keeps the uploads of jobs until these have ended: Gradio's own copies go after an hour, or with the page.

Each job has a folder, readable by this user only, with files of our own names. What a job reads elsewhere, sample pages
or files of a command, is left where it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from serving.library.database import LibraryError
from serving.library.jobs import JobFile
from serving.settings import Settings
from serving.system.files import link_or_copy, sync_folder
from ui.access.uploads import Upload, get_uploads_folder


class KeptUploads:
    """The folder of the kept uploads of one page."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.data / "uploads-kept"
        self._uploads = get_uploads_folder(settings)

    def keep(self, job: str, uploads: Sequence[Upload]) -> list[Upload]:
        """Return the uploads as the job is to read them, linked into its folder or copied. Raises LibraryError."""
        try:
            kept = [self._keep_one(job, number, upload) for number, upload in enumerate(uploads)]
            if (self.folder / job).is_dir():
                sync_folder(self.folder / job)
        except OSError as error:
            self.remove(job)
            raise LibraryError(f"the upload could not be kept: {error.strerror or error}") from error
        return kept

    def _keep_one(self, job: str, number: int, upload: Upload) -> Upload:
        if not upload.path.is_relative_to(self._uploads) and not upload.path.is_relative_to(self.folder):
            return upload
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = self.folder / job
        folder.mkdir(mode=0o700, exist_ok=True)
        target = folder / f"{number:06d}"
        if upload.path.is_file():  # else the job says that it is gone
            link_or_copy(upload.path, target)
        return Upload(target, upload.name)

    def describe(self, uploads: Sequence[Upload]) -> tuple[JobFile, ...]:
        """Return the uploads as they are written down: those kept here by their place in this folder."""
        return tuple(
            JobFile(str(path.relative_to(self.folder) if path.is_relative_to(self.folder) else path.absolute()), name)
            for path, name in ((upload.path, upload.name) for upload in uploads)
        )

    def make_places(self, job: str, files: Sequence[JobFile]) -> list[Upload]:
        """Return where the files of a job are that comes from another machine. Raises LibraryError."""
        try:
            (self.folder / job).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise LibraryError(f"the upload could not be kept: {error.strerror or error}") from error
        return [Upload(self.folder / job / f"{number:06d}", file.name) for number, file in enumerate(files)]

    def locate(self, files: Sequence[JobFile]) -> list[Upload]:
        """Return what `describe` was given."""
        return [Upload(self.folder / file.path, file.name) for file in files]

    def remove(self, job: str) -> None:
        shutil.rmtree(self.folder / job, ignore_errors=True)

    def remove_all_but(self, job: str, numbers: Container[int]) -> None:
        """Remove the files of a job but those of these numbers."""
        for path in self._list_files(job):
            if int(path.name) not in numbers:
                path.unlink(missing_ok=True)
        if not any(self._list_files(job)):
            self.remove(job)

    def remove_unknown(self, jobs: Container[str]) -> None:
        """Remove the folders of other jobs: of one that was killed before its row was written, or after it went."""
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            if folder.name not in jobs:
                self.remove(folder.name)

    def measure(self, job: str) -> int:
        """Return the bytes of a job's files."""
        return sum(path.stat().st_size for path in self._list_files(job))

    def _list_files(self, job: str) -> Iterable[Path]:
        folder = self.folder / job
        return [path for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
