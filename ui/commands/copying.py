"""`dormouse copy`: collections from a data folder to a store, or back, or between two of a kind."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import SecretStr

from serving.errors import BadValueError, ServingError
from serving.library.copying import (
    CollectionCopy,
    CopyResult,
    CopySource,
    ListedPage,
    SourceCollection,
    check_destination,
    copy_proofs,
    wait_for_removals,
)
from serving.library.database import IN_USE, LibraryError
from serving.library.library import Library, open_library
from serving.settings import Settings
from serving.system.processes import handle_signals, hide_argument
from ui.commands.addition import format_seconds
from ui.commands.options import make_bare_parser, set_up_log
from ui.commands.output import DONE, SKIPPED, Output, ShowProgress, Stopped, run_command
from ui.components.wording import format_count

STORE = "store"
"""Names the store of the settings, whose address may have a password."""
ADDRESS = re.compile(r"://|^postgres(ql)?:|password=|^[^/]*:[^/]*@")


@dataclass(frozen=True, slots=True)
class Place:
    """A data folder or, with an address, a store. The address may have a password: it is shown nowhere."""

    folder: Path
    address: str = field(default="", repr=False)
    pictures: Path | None = None

    def __str__(self) -> str:
        return "the store" if self.address else str(self.folder)


def main(argv: Sequence[str]) -> int:
    """Copy collections and return the exit code: 3 if some pages were left out."""
    parser = make_bare_parser(
        "copy",
        "Copies whole collections, those of all owners: pages, text, vectors, pictures, ids and links stay, and nothing"
        " is embedded again. Original files come along to a data folder; a store keeps none. What is there already is"
        " left alone: the same command goes on where it was stopped, and brings what was added since. The source is not"
        " changed. A page must hold neither of the data folders.",
        [
            "copy --from data --to postgresql://user@host/database",
            "copy --from store --to data --collection invoices manuals",
            "copy --from data --to /mnt/disk/data --json",
        ],
    )
    place = f"a data folder, postgresql://user@host/database, or {STORE} for DORMOUSE_STORE, where a password belongs"
    parser.add_argument("--from", dest="source", metavar="PLACE", required=True, help=place)
    parser.add_argument(
        "--to",
        dest="target",
        metavar="PLACE",
        required=True,
        help="the same; a new data folder is made. A store's pictures are where DORMOUSE_PICTURES says, if it is the"
        f" only one of the two or named as {STORE}",
    )
    parser.add_argument("--collection", metavar="NAME", nargs="+", default=[], help="only these, by name or id")
    options, rest = parser.parse_known_args(argv)
    if rest:  # not what they are: one may be an address
        parser.error("there are words too many: both places are named with --from and --to")
    for address in filter(is_address, (options.source, options.target)):
        hide_argument(address)
    return run_command("copy", lambda output: copy(options, output), as_json=options.json)


def copy(options: argparse.Namespace, output: Output) -> int:
    """Return the exit code. Raises ServingError; Stopped for Ctrl-C."""
    set_up_log(options)
    settings = Settings()
    source, target = find_places(options.source, options.target, settings)
    copying = Copying(output)
    try:
        with open_source(source) as opened:
            collections = opened.list_collections(options.collection)
            with open_target(target, settings) as library:
                copying.copy_all(opened, library, collections)
    except KeyboardInterrupt:
        raise Stopped(f"stopped: {copying.describe_kept()}") from None
    except ServingError as error:
        if copying.copied:
            raise ServingError(f"{error.message} ({copying.describe_kept()})") from None
        raise
    copying.write_result(source, target)
    return SKIPPED if copying.skipped else DONE


# Places


def find_places(source: str, target: str, settings: Settings) -> tuple[Place, Place]:
    """Return both places. Raises BadValueError."""
    only = is_store(source) != is_store(target)
    places = [make_place(words, settings, has_pictures=only or words == STORE) for words in (source, target)]
    one, other = places
    if one.address == other.address and (one.address or one.folder.resolve() == other.folder.resolve()):
        raise BadValueError("--from and --to are the same place")
    return one, other


def make_place(words: str, settings: Settings, *, has_pictures: bool) -> Place:
    if not is_store(words):
        return Place(Path(words))
    address = settings.store.get_secret_value() if words == STORE else words
    if not address:
        raise BadValueError("DORMOUSE_STORE is not set: name the store's address, or a folder of this name as ./store")
    return Place(Path(), address, settings.pictures_folder if has_pictures else None)


def is_store(words: str) -> bool:
    return words == STORE or is_address(words)


def is_address(words: str) -> bool:
    """Return whether this is meant as an address, be it a wrong one: as a folder's name its password would be shown."""
    return ADDRESS.search(words) is not None


@contextmanager
def open_source(place: Place) -> Iterator[CopySource]:
    """Yield the collections of a place, which are not changed. Raises ServingError."""
    with closing(CopySource(place.folder, place.address, place.pictures)) as source:
        with describe_in_use(place):
            source.open()
        yield source


@contextmanager
def open_target(place: Place, settings: Settings) -> Iterator[Library]:
    """Yield the library of a place. Raises ServingError."""
    with ExitStack() as stack:
        # A store's library needs a folder for files of this machine: a copy has none.
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="dormouse-"))) if place.address else place.folder
        own = {"data": folder, "store": SecretStr(place.address), "pictures": str(place.pictures or "")}
        with describe_in_use(place):
            library = open_library(settings.model_copy(update=own))
        stack.callback(library.close)
        yield library


@contextmanager
def describe_in_use(place: Place) -> Iterator[None]:
    """Say what to do where another program holds a data folder. Raises LibraryError."""
    try:
        yield
    except LibraryError as error:
        if error.code != IN_USE:
            raise
        raise LibraryError(
            f"another program is using the collections in {place}: wait until it has ended. If it is a page, stop it as"
            " long as this takes",
            code=IN_USE,
        ) from None


# Copying


class Copying:
    """One copy of some collections, and how far it is. A `CopyObserver`."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._show: ShowProgress = lambda _done, _total, _words: None
        self._stopping = False
        self._began = 0.0
        self._total = self._seen = self._collections = 0
        self.copied = self.known = self.skipped = self.jobs = self.originals = self.proofs = 0
        self._note()

    def _note(self) -> None:
        names = ("copied", "known", "skipped")
        self._output.summary.update({name: getattr(self, name) for name in names})

    def copy_all(self, source: CopySource, library: Library, collections: Sequence[SourceCollection]) -> None:
        """Copy collections, one after another. Raises ServingError; KeyboardInterrupt between two commits."""
        check_destination(source, library, collections)
        self._total, self._collections = sum(one.pages for one in collections), len(collections)
        with self._output.show_progress("copying") as show, handle_signals(self._stop):
            self._show, self._began = show, time.monotonic()
            wait_for_removals(library, self)
            self.proofs = copy_proofs(source, library)
            for one in collections:
                self._write_collection(one, CollectionCopy(source, library, one, self).run())

    def _stop(self, *_: object) -> None:
        """Stop after the commit that goes on now, or at once if asked again."""
        if self._stopping:
            raise KeyboardInterrupt
        self._stopping = True

    # An observer of the copy

    def advance(self, seen: int, copied: int = 0) -> None:
        self._seen += seen
        self.copied += copied
        self._note()
        self._show(self._seen, self._total, self._describe_progress())
        if self._stopping:
            raise KeyboardInterrupt

    def skip_page(self, page: ListedPage, reason: str) -> None:
        self.skipped += 1
        self._note()
        told = f"skipped {page.file}, page {page.page}: {reason}"
        self._output.write("skipped", told, file=page.file, page=page.page, reason=reason)

    # Words

    def _describe_progress(self) -> str:
        words = f"{self._seen:,}/{self._total:,} pages"
        if not self.copied:
            return words
        speed = self.copied / max(time.monotonic() - self._began, 1e-3)
        return f"{words}, {speed:.0f} pages/s, {format_seconds(max(0, self._total - self._seen) / speed)} left"

    def _write_collection(self, one: SourceCollection, result: CopyResult) -> None:
        self.known += result.known
        self.jobs += result.jobs
        self.originals += result.originals
        self._note()
        done = f"{result.copied:,} copied" if result.copied else "nothing to copy"
        self._output.write(
            "collection",
            f"{one.name}: {format_count(one.pages, 'page')}, {done}",
            name=one.name, pages=one.pages, id=one.key, fingerprint=one.fingerprint, copied=result.copied,
        )  # fmt: skip

    def describe_kept(self) -> str:
        kept = "page was copied before that and stays" if self.copied == 1 else "pages were copied before that and stay"
        return f"{self.copied:,} {kept}; the same command goes on with the rest"

    def write_result(self, source: Place, target: Place) -> None:
        self._output.summary.update(
            collections=self._collections, pages=self._seen, proofs=self.proofs, jobs_left=self.jobs,
            originals_left=self.originals,
        )  # fmt: skip
        more = [f"{self.known:,} there already"] if self.known else []
        more += [f"{self.skipped:,} skipped"] if self.skipped else []
        told = f" ({', '.join(more)})" if more else ""
        self._output.write_text(
            f"{format_count(self.copied, 'page')} of {format_count(self._collections, 'collection')} copied from"
            f" {source} to {target}{told}"
        )
        if self.originals:
            files = format_count(self.originals, "original file")
            self._output.write_text(f"not copied: {files}, which a store does not keep")
        if self.jobs:
            jobs = format_count(self.jobs, "unfinished job")
            self._output.write_text(f"not copied: {jobs}. Let a page end them and copy again, or add their files there")
