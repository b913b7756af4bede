"""`dormouse watch`: a collection follows a folder. New, changed, moved and deleted files, until Ctrl-C."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from serving.errors import BadValueError, ServingError
from serving.http.child_server import ProcessFailed
from serving.library.records import CollectionKey, StoredFile
from serving.settings import Settings
from serving.system.timeouts import GrowingPause
from ui.commands.addition import Addition
from ui.commands.options import add_collection_option, find_collection, make_parser, open_store, parse_options
from ui.commands.output import DONE, Output, describe, run_command
from ui.commands.store import CollectionStore, FileToAdd
from ui.commands.watched_folder import Look, Stamp, WatchedFolder
from ui.components.wording import format_count

LOOK_S = 2.0
"""Between two looks: a file that has not changed meanwhile is complete."""
PAUSES_S = (2.0, 5.0, 15.0, 60.0)
"""After a failure, before the next try, as while a page is started again."""


def main(argv: Sequence[str]) -> int:
    """Watch until Ctrl-C, and return the exit code."""
    parser = make_parser(
        "watch",
        "Has a collection follow a folder: new files are added, changed ones replaced, moved ones renamed without"
        " embedding them again, and pages of deleted ones deleted. A file is taken when it has not changed for"
        f" {LOOK_S:g} seconds. Other files of the collection are left alone. Ctrl-C ends it; started again, it goes on"
        " with what has changed meanwhile.",
        ["watch inbox/ --collection inbox", "watch manuals/ --collection manuals --page http://localhost:7860"],
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    add_collection_option(parser)
    options = parse_options(parser, argv)
    return run_command("watch", lambda output: watch(options, output), as_json=options.json)


def watch(options: argparse.Namespace, output: Output) -> int:
    """Return the exit code once Ctrl-C comes. Raises ServingError, ProcessFailed where the first comparison fails."""
    mirror = Mirror(WatchedFolder(options.folder, Settings()), options, output)
    try:
        mirror.look()
        time.sleep(LOOK_S)
        mirror.follow(first=True)
        output.write_text(f"{options.collection!r} follows {options.folder}; Ctrl-C ends it")
        pause = GrowingPause(PAUSES_S)
        while True:
            time.sleep(LOOK_S)
            began = time.monotonic()
            try:
                mirror.follow()
                pause.reset()
            except (ServingError, ProcessFailed, OSError) as error:
                seconds = pause.next_after(time.monotonic() - began)
                mirror.report_failure(describe(error))
                time.sleep(seconds)
    except KeyboardInterrupt:
        output.write_text(f"stopped; {options.collection!r} stays as it is")
        return DONE


class Mirror:
    """A folder and the collection that follows it."""

    def __init__(self, folder: WatchedFolder, options: argparse.Namespace, output: Output) -> None:
        self._folder = folder
        self._options = options
        self._output = output
        self._addition = Addition(output)
        self._done: object = None
        """The folder's state that the collection has."""
        self._tried: dict[str, Stamp] = {}
        """Files that could not be added as they are."""
        self._failure = ""

    def look(self) -> Look:
        return self._folder.look()

    def follow(self, *, first: bool = False) -> None:
        """Look once, and change the collection if the folder has changed. Raises ServingError, ProcessFailed."""
        look = self.look()
        if look.state == self._done:
            return
        with open_store(self._options, may_create=True) as store:
            collection = find_collection(store, self._options.collection)
            if collection is None:
                collection = store.create_collection(self._options.collection)
            if first:
                self._check_same_folder(look, store.list_files(collection.key))
            self._rename_moved(store, collection.key, look)
            self._add_new(store, collection.key, look)
            self._delete_old(store, collection.key, look)
        self._done, self._failure = look.state, ""

    def report_failure(self, reason: str) -> None:
        """Tell of a failure once."""
        if reason != self._failure:
            self._failure = reason
            self._output.write("failed", f"{reason}; it is tried again", reason=reason)

    def _check_same_folder(self, look: Look, listed: Sequence[StoredFile]) -> None:
        """Raises BadValueError where the folder has nothing of what the collection has from it.

        An unplugged disk leaves an empty folder, and another folder may have the same name.
        """
        own, names = [file for file in listed if self._owns(file)], names_by_content(look)
        path = self._folder.path
        if own and not any(file.sha256 in names or look.owner_of(file.name) for file in own):
            raise BadValueError(
                f"the collection has {format_count(len(own), 'file')} of a folder {self._folder.prefix}, and {path}"
                " has none of them: is it the same folder, and its disk there? If they are to go, delete them with"
                " dormouse delete; if not, take another collection"
            )

    def _owns(self, file: StoredFile) -> bool:
        return file.name.startswith(self._folder.prefix)

    def _rename_moved(self, store: CollectionStore, key: CollectionKey, look: Look) -> None:
        """Give pages the name that their file has now, where its old name has gone or is another file's."""
        names = names_by_content(look)
        renamed: dict[str, str] = {}
        for file in store.list_files(key):
            if self._owns(file) and file.sha256 in names and file.name not in names[file.sha256]:
                renamed[file.sha256] = name = names[file.sha256][0]
                self._output.write("renamed", f"renamed {file.name} to {name}", file=name, old=file.name)
        if renamed:
            store.rename_files(key, renamed)

    def _add_new(self, store: CollectionStore, key: CollectionKey, look: Look) -> None:
        complete = {file.sha256 for file in store.list_files(key) if file.is_complete}
        new = [
            file
            for name, file in sorted(look.settled.items())
            if not is_in(file, complete) and self._tried.get(name) != look.stamps[name]
        ]
        if not new:
            return
        before = self._addition.added
        with self._output.show_progress("adding") as show:
            self._addition.begin(show)
            store.add_files(key, new, self._addition)
        self._tried = {name: stamp for name, stamp in self._tried.items() if name in look.stamps}
        self._tried.update({file.name: look.stamps[file.name] for file in new})
        pages, files = format_count(self._addition.added - before, "page"), format_count(len(new), "file")
        self._output.write_text(f"{pages} of {files} added")

    def _delete_old(self, store: CollectionStore, key: CollectionKey, look: Look) -> None:
        """Delete pages of files that are gone, and old pages of those whose new ones are all in."""
        names = names_by_content(look)
        listed = store.list_files(key)
        complete = {file.sha256 for file in listed if file.is_complete}
        for file in listed:
            if not self._owns(file) or file.sha256 in names or not is_outdated(file, look, complete):
                continue
            self._addition.count_deleted(store.delete_files(key, [file.sha256]))
            told = f"deleted {file.name}: {format_count(file.pages, 'page')}"
            self._output.write("deleted", told, file=file.name, pages=file.pages)


def names_by_content(look: Look) -> dict[str, list[str]]:
    """Return the names of each sha256 in the folder."""
    names: dict[str, list[str]] = {}
    for file in look.settled.values():
        for name, digest in file.contents:
            names.setdefault(digest, []).append(name)
    return names


def is_in(file: FileToAdd, complete: set[str]) -> bool:
    return bool(file.contents) and all(digest in complete for _, digest in file.contents)


def is_outdated(file: StoredFile, look: Look, complete: set[str]) -> bool:
    """Whether a file of the collection, whose content the folder has no more, is to be deleted.

    One that has just gone may have been moved, and the next look shows where to.
    """
    owner = look.owner_of(file.name)
    if owner is not None:
        return owner in look.settled and is_in(look.settled[owner], complete)
    just_gone = any(file.name == gone or file.name.startswith(f"{gone}/") for gone in look.just_gone)
    return look.whole and not just_gone
