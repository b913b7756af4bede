"""The collections of a data folder that no page holds, or of a store, with an engine where one is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from serving.library import exporting
from serving.library.exporting import Progress
from serving.library.library import open_library
from serving.library.records import Collection, CollectionKey, Hit, StoredFile
from serving.settings import Settings
from serving.system.files import sync_folder
from ui.commands.store import AddObserver, AddProgress, FileToAdd, FoundPage

if TYPE_CHECKING:
    from ui.core.jobs import IngestJob
    from ui.core.service import Service
    from ui.servers.target import Targets

POLL_S = 0.2
"""How often an addition is looked at."""


class FolderStore:
    """A library that this process holds. What only reads or deletes starts no engine."""

    def __init__(
        self,
        settings: Settings,
        worker: tuple[str, str] | None = None,
        *,
        shows_log: bool = False,
        targets: Targets | None = None,
    ) -> None:
        """`worker`: name and address of the server that embeds; `targets`: that server, if the caller has it already.

        Raises LibraryError; its code is IN_USE if another process holds the library.
        """
        self._targets = targets
        self._settings = settings
        self._worker = worker
        self._shows_log = shows_log
        self._stack = ExitStack()
        self._library = open_library(settings)
        self._stack.callback(self._library.close)

    @cached_property
    def _service(self) -> Service:
        """Return the library with an embedder. Raises ServingError, ProcessFailed."""
        from ui.core.service import Service

        service = Service(self._open_targets(), self._library, self._settings, engines=False)
        self._stack.callback(service.close)
        return service

    def _open_targets(self) -> Targets:
        from ui.servers.configured import configure_targets
        from ui.servers.engine_process import LocalEngine
        from ui.servers.state_feed import EngineStateFeed
        from ui.servers.target import Target, Targets

        if self._targets is not None:
            targets = self._targets
        elif self._worker is not None:
            targets = configure_targets([self._worker], self._settings)
        else:
            engine = LocalEngine(self._settings, shows_log=self._shows_log)
            self._stack.callback(engine.stop)
            watch = EngineStateFeed(lambda: (engine.client.url, engine.admin_key))
            targets = Targets([Target(engine.client, "local", watch)])
        self._stack.callback(targets.close)
        return targets

    def close(self) -> None:
        self._stack.close()

    def list_collections(self) -> list[Collection]:
        return self._library.catalogue.list_collections()

    def create_collection(self, name: str) -> Collection:
        return self._library.create_collection(name)

    def list_files(self, key: CollectionKey) -> list[StoredFile]:
        return self._library.catalogue.list_files(key)

    def add_files(self, key: CollectionKey, files: Sequence[FileToAdd], observer: AddObserver) -> None:
        from serving.errors import ServingError
        from ui.access.uploads import Upload

        job = self._service.ingestor.start(key, [Upload(file.path, file.name) for file in files])
        observed = ObservedJob(job, observer)
        try:
            while not job.finished.wait(POLL_S):
                observed.report()
        finally:
            if not job.finished.is_set():
                self._service.ingestor.cancel(key)
            job.finished.wait()  # pages that are with the worker already are still kept
            observed.report()
        if job.state == "failed":
            raise ServingError(job.error)

    def rename_files(self, key: CollectionKey, names: Mapping[str, str]) -> None:
        self._library.rename_files(key, names)

    def search(self, key: CollectionKey, question: str, top_k: int) -> list[FoundPage]:
        from ui.core.service import Question

        found = self._service.search(Question(question), key, top_k)
        return [make_found_page(hit) for hit in found.hits]

    def delete_files(self, key: CollectionKey, files: Sequence[str]) -> int:
        return len(self._library.delete_pages(key, self._library.catalogue.list_file_pages(key, files)))

    def delete_collection(self, key: CollectionKey) -> int:
        return self._library.delete_collection(key)

    def export_collection(self, key: CollectionKey, path: Path, step: Progress) -> int:
        with TemporaryDirectory(prefix=".dormouse-", dir=path.parent) as folder:
            found = exporting.export_collection(self._library, key, Path(folder), self._settings, step)
            found.path.replace(path)
        sync_folder(path.parent)
        return found.pages

    def import_collection(self, path: Path, name: str, step: Progress) -> Collection:
        return self._service.import_collection(path, name, step=step)


def make_found_page(hit: Hit) -> FoundPage:
    line = hit.line.text if hit.line else None
    return FoundPage(hit.rank, hit.score, hit.page.id, hit.page.file, hit.page.page, line)


class ObservedJob:
    """Tells an observer what is new in a job."""

    def __init__(self, job: IngestJob, observer: AddObserver) -> None:
        self._job = job
        self._observer = observer
        self._pages = 0
        self._skipped = 0

    def report(self) -> None:
        job = self._job
        with job.lock:
            added, skipped = job.added[self._pages :], job.skipped[self._skipped :]
        for page in added:
            self._pages += 1
            self._observer.add_page(page.file, page.page, page.id)
        for item in skipped:
            self._skipped += 1
            self._observer.skip_file(item.file, item.reason, known=item.known)
        self._observer.show_progress(AddProgress(job.done, job.total, "page", job.pages_per_minute, job.seconds_left))
