"""The options that all commands have, and the collections that they name."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from serving.errors import NotFoundError
from serving.library.catalogue import clean_name, is_key
from serving.library.database import IN_USE, LibraryError
from serving.library.records import Collection
from serving.settings import Settings
from ui.commands.page_store import PageStore
from ui.commands.store import CollectionStore
from ui.core.page_address import find_page
from ui.servers.configured import parse_worker
from ui.servers.target import Targets


def make_parser(command: str, about: str, examples: Sequence[str]) -> argparse.ArgumentParser:
    """Return a command's parser with the common options."""
    parser = make_bare_parser(command, about, examples)
    add_place_options(parser)
    return parser


def make_bare_parser(command: str, about: str, examples: Sequence[str]) -> argparse.ArgumentParser:
    """Return a command's parser without the options that say where the collections are."""
    parser = argparse.ArgumentParser(
        prog=f"dormouse {command}",
        description=about,
        epilog="examples:\n" + "\n".join(f"  dormouse {example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, the last a summary")
    parser.add_argument("--verbose", action="store_true", help="print the log as well, on standard error")
    return parser


def add_place_options(parser: argparse.ArgumentParser) -> None:
    place = parser.add_argument_group("where the collections are")
    one = place.add_mutually_exclusive_group()
    one.add_argument(
        "--page",
        metavar="URL",
        help="a running page, here or elsewhere; if it asks for a password: DORMOUSE_PAGE_PASSWORD and, unless it is"
        " dormouse, DORMOUSE_PAGE_USER",
    )
    one.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="a data folder; default: DORMOUSE_DATA or data. If a page runs on it, that page is asked",
    )
    place.add_argument(
        "--store",
        metavar="URL",
        help="a PostgreSQL that keeps the collections, instead of the data folder: postgresql://user@host/database;"
        " default: DORMOUSE_STORE, where a password belongs. The data folder then has this machine's own files",
    )
    place.add_argument(
        "--worker",
        metavar="URL",
        type=parse_worker,
        help="with a data folder that no page holds: the worker or engine that embeds, or modal:APP; its key is"
        " DORMOUSE_WORKER_KEY. Default: the built-in embedder, started where the command needs it",
    )


def parse_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Return the options. Ends the program with exit code 2 for wrong ones."""
    options = parser.parse_args(argv)
    if options.page and options.worker:
        parser.error("--worker is for a data folder: a page asks the servers that it was started with")
    if options.page and options.store:
        parser.error("--store is for who opens it: a page has the one that it was started with")
    return options


def add_collection_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--collection", metavar="NAME", required=True, help="its name or id")


@contextmanager
def open_store(
    options: argparse.Namespace, *, may_create: bool = False, targets: Targets | None = None
) -> Iterator[CollectionStore]:
    """Yield the collections of the page or the data folder that the options name. Raises ServingError.

    `may_create`: a data folder that does not exist is made. `targets`: the servers that embed for a data folder.
    """
    set_up_log(options)
    with closing(
        PageStore(options.page) if options.page else open_folder(options, may_create=may_create, targets=targets)
    ) as store:
        yield store


def read_settings(options: argparse.Namespace) -> Settings:
    """Return the settings of the environment, with the data folder and store that the options name."""
    chosen = {"data": options.data, "store": options.store}
    return Settings(**{name: value for name, value in chosen.items() if value is not None})


def set_up_log(options: argparse.Namespace) -> None:
    level = logging.INFO if options.verbose else logging.CRITICAL + 1
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def open_folder(options: argparse.Namespace, *, may_create: bool, targets: Targets | None = None) -> CollectionStore:
    """Return the collections of a data folder or store, or of the page that runs on the folder. Raises LibraryError."""
    from ui.commands.folder_store import FolderStore

    settings = read_settings(options)
    store = settings.store.get_secret_value()
    if not may_create and not store and not (settings.data / "library.db").exists():
        raise LibraryError(f"there are no collections in {settings.data}: name their folder with --data")
    try:
        return FolderStore(settings, options.worker, shows_log=options.verbose, targets=targets)
    except LibraryError as error:
        if error.code != IN_USE:
            raise
    if url := find_page(settings.data, store):
        return PageStore(url)
    raise LibraryError(
        f"another program is using the collections in {settings.data}: wait until it has ended. If it is a page, name"
        " its address: --page http://localhost:7860"
        + (". With a store, any other folder will do: --data" if store else ""),
        code=IN_USE,
    )


def find_collection(store: CollectionStore, name: str) -> Collection | None:
    """Return the collection of this name or id; None for a name that no collection has. Raises BadValueError."""
    wanted = name if is_key(name) else clean_name(name)
    named = [one for one in store.list_collections() if wanted in (one.name, one.key)]
    if is_key(name) and not named:  # somebody else's, on a page that is open to everybody
        return Collection(name, 0, None, None, None, name)
    return named[0] if named else None


def require_collection(store: CollectionStore, name: str) -> Collection:
    """Return the collection of this name or id. Raises NotFoundError, BadValueError."""
    found = find_collection(store, name)
    if found is None:
        raise NotFoundError(f"there is no collection {name!r}: `dormouse list` shows those there are")
    return found
