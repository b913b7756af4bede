"""`dormouse add`: files, folders and zips into a collection. What is there already is not embedded again."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from serving.errors import ServingError
from serving.library.records import CollectionKey, StoredFile
from serving.settings import Settings
from ui.commands.folder_files import find_files
from ui.commands.modal_addition import ModalJob, add_modal_options, check_modal_options
from ui.commands.options import (
    add_collection_option,
    find_collection,
    make_parser,
    open_store,
    parse_options,
    read_settings,
)
from ui.commands.output import DONE, SKIPPED, Output, ShowProgress, Stopped, run_command
from ui.commands.store import AddProgress, CollectionStore, FileToAdd
from ui.components.wording import format_count


def main(argv: Sequence[str]) -> int:
    """Add files and return the exit code: 3 if some of them were skipped."""
    parser = make_parser(
        "add",
        "Adds images, PDFs, zips and whole folders of them to a collection, which is made if there is none of that"
        " name. Files of a folder keep their place in their name, as in manuals/pump/a.pdf. What is in the collection"
        " already is not added again; a changed file replaces its old pages once all its new ones are in.",
        [
            "add invoices/ --collection invoices",
            "add manual.pdf scans.zip --collection mine --page http://localhost:7860",
            "add inbox/ --collection inbox --json > added.jsonl",
            "add --modal archive/ --collection archive --containers 8",
        ],
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="file, folder or zip")
    add_collection_option(parser)
    parser.add_argument("--keep-old", action="store_true", help="keep the old pages of a changed file as well")
    add_modal_options(parser)
    options = parse_options(parser, argv)
    check_modal_options(parser, options)
    return run_command("add", lambda output: add(options, output), as_json=options.json)


def add(options: argparse.Namespace, output: Output) -> int:
    """Return the exit code. Raises ServingError; Stopped for Ctrl-C."""
    addition = Addition(output)
    try:
        files = addition.find_files(options.paths)
        job = ModalJob(options, read_settings(options), output) if options.modal else None
        with open_store(options, may_create=True, targets=job.targets if job else None) as store:
            addition.add_files(store, options.collection, files, replaces=not options.keep_old, job=job)
    except KeyboardInterrupt:
        raise Stopped(f"stopped: {addition.describe_kept()}") from None
    except ServingError as error:
        if addition.added:
            raise ServingError(f"{error.message} ({addition.describe_kept()})") from None
        raise
    addition.write_result(options.collection)
    return SKIPPED if addition.skipped else DONE


class Addition:
    """One addition, and what has become of its files so far. An `AddObserver`."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._show: ShowProgress = lambda _done, _total, _words: None
        self._began, self._before = 0.0, 0
        self._job: ModalJob | None = None
        self.added = self.skipped = self.known = self.replaced = self.deleted = self._left = 0
        self._note()

    def _note(self) -> None:
        names = ("added", "skipped", "known", "replaced", "deleted")
        self._output.summary.update({name: getattr(self, name) for name in names})

    def begin(self, show: ShowProgress) -> None:
        """Start the clock of what is added from now on."""
        self._show, self._began, self._before = show, time.monotonic(), self.added

    # What becomes of files

    def add_page(self, file: str, page: int, page_id: str) -> None:
        self.added += 1
        self._note()
        if self._job is not None:
            self._job.note_page()
        if self._output.as_json:
            self._output.write("page", "", file=file, page=page, id=page_id)

    def skip_file(self, file: str, reason: str, *, known: bool) -> None:
        if known:
            self.known += 1
        else:
            self.skipped += 1
        self._note()
        if self._output.as_json or not known:
            self._output.write("known" if known else "skipped", f"skipped {file}: {reason}", file=file, reason=reason)

    def count_deleted(self, pages: int) -> None:
        self.deleted += pages
        self._note()

    def leave_files(self, number: int) -> None:
        self._left = number

    def show_progress(self, progress: AddProgress) -> None:
        words = f"{progress.done:,}/{progress.total:,} {progress.unit}s"
        seconds = time.monotonic() - self._began
        if self.added > self._before:
            speed = progress.pages_per_minute or 60 * (self.added - self._before) / seconds
            words += f", {speed:.0f} pages a minute"
        if progress.done:
            left = progress.seconds_left
            left = seconds / progress.done * (progress.total - progress.done) if left is None else left
            words += f", {format_seconds(left)} left"
        self._show(progress.done, progress.total, words)

    # Steps

    def find_files(self, paths: Sequence[Path]) -> list[FileToAdd]:
        """Return the files that the paths name. Raises BadValueError."""
        found: list[FileToAdd] = []
        with self._output.show_progress("reading") as show:
            for file in find_files(paths, Settings(), lambda name, why: self.skip_file(name, why, known=False)):
                found.append(file)
                show(0, 0, format_count(len(found), "file"))
        return found

    def add_files(
        self,
        store: CollectionStore,
        name: str,
        files: Sequence[FileToAdd],
        *,
        replaces: bool,
        job: ModalJob | None = None,
    ) -> None:
        """Add those that are new, and delete the old pages of those that have changed. Raises ServingError.

        `job` asks before anything is changed, and has its server ready while they are added.
        """
        collection = find_collection(store, name)
        listed = store.list_files(collection.key) if collection else []
        new = self._leave_out_known(listed, files)
        held = {file.sha256: file.pages for file in listed}
        with job.run(store, new, held) if job and new else nullcontext():
            self._job = job
            collection = collection or store.create_collection(name)
            self._output.summary["collection"] = collection.key
            if new:
                with self._output.show_progress("adding") as show:
                    self.begin(show)
                    store.add_files(collection.key, new, self)
        if replaces:
            self._replace_old(store, collection.key, files)

    def _leave_out_known(self, listed: Sequence[StoredFile], files: Sequence[FileToAdd]) -> list[FileToAdd]:
        known = {file.sha256: file.name for file in listed if file.is_complete}
        new = []
        for file in files:
            if not file.contents or any(digest not in known for _, digest in file.contents):
                new.append(file)
                continue
            for name, digest in file.contents:
                other = "" if known[digest] == name else f" as {known[digest]}"
                self.skip_file(name, f"already here{other}", known=True)
        return new

    def _replace_old(self, store: CollectionStore, key: CollectionKey, files: Sequence[FileToAdd]) -> None:
        """Delete what files had in them before, where all that they have now is in the collection.

        Nothing that one of the files has now is deleted, whatever its name was.
        """
        current: dict[str, set[str]] = {}
        for name, digest in (pair for file in files for pair in file.contents):
            current.setdefault(name, set()).add(digest)
        kept = set().union(*current.values()) if current else set()
        listed = store.list_files(key)
        complete = {file.sha256 for file in listed if file.is_complete}
        for file in listed:
            if file.sha256 not in kept and is_subset(current, file.name, complete):
                self.replaced += 1
                self.count_deleted(store.delete_files(key, [file.sha256]))
                told = f"replaced {file.name}: {format_count(file.pages, 'old page')} deleted"
                self._output.write("replaced", told, file=file.name, pages=file.pages)

    # Words

    def describe_kept(self) -> str:
        left = f"; the page still adds {format_count(self._left, 'file')} that it has already" if self._left else ""
        kept = "page was added before that and stays" if self.added == 1 else "pages were added before that and stay"
        return f"{self.added:,} {kept}{left}"

    def write_result(self, collection: str) -> None:
        more = [f"{format_count(self.known, 'file')} already here"] if self.known else []
        more += [f"{self.replaced} replaced"] if self.replaced else []
        more += [f"{self.skipped} skipped"] if self.skipped else []
        told = f" ({', '.join(more)})" if more else ""
        self._output.write_text(f"{format_count(self.added, 'page')} added to {collection!r}{told}")


def is_subset(current: Mapping[str, set[str]], name: str, complete: set[str]) -> bool:
    """Whether a file of this name was given, and all that it has now is complete."""
    return name in current and current[name] <= complete


def format_seconds(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
