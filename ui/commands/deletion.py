"""`dormouse delete`: a collection, or some of its files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from serving.library.records import Collection
from serving.system.display_names import display_path
from ui.commands.options import add_collection_option, make_parser, open_store, parse_options, require_collection
from ui.commands.output import DONE, SKIPPED, Output, confirm, run_command
from ui.commands.store import CollectionStore
from ui.components.wording import format_count


def main(argv: Sequence[str]) -> int:
    """Delete and return the exit code: 3 if the collection has not all of the files."""
    parser = make_parser(
        "delete",
        "Deletes a collection with all its pages, or some of its files. Asks first.",
        ["delete --collection drafts", "delete --collection manuals --file manuals/pump/a.pdf --yes"],
    )
    add_collection_option(parser)
    parser.add_argument(
        "--file", action="append", metavar="NAME", help="only this file, as dormouse list --files shows it; repeatable"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parse_options(parser, argv)
    if not options.yes and not sys.stdin.isatty():
        parser.error("nobody can be asked here: say --yes")
    return run_command("delete", lambda output: delete(options, output), as_json=options.json)


def delete(options: argparse.Namespace, output: Output) -> int:
    """Return the exit code. Raises ServingError; Stopped where the answer is no."""
    with open_store(options) as store:
        collection = require_collection(store, options.collection)
        if options.file:
            return delete_files(store, collection, options, output)
        what = f"the collection {collection.name!r} with {format_count(collection.pages, 'page')}"
        confirm_deletion(what, yes=options.yes)
        pages = store.delete_collection(collection.key)
    output.summary["pages"] = pages
    output.write_text(f"{format_count(pages, 'page')} deleted, with the collection {collection.name!r}")
    return DONE


def delete_files(store: CollectionStore, collection: Collection, options: argparse.Namespace, output: Output) -> int:
    wanted = list(dict.fromkeys(map(display_path, options.file)))
    found = [file for file in store.list_files(collection.key) if file.name in wanted]
    if found:
        pages = format_count(sum(file.pages for file in found), "page")
        confirm_deletion(f"{format_count(len(found), 'file')} with {pages} of {collection.name!r}", yes=options.yes)
    deleted = store.delete_files(collection.key, [file.sha256 for file in found])
    for file in found:
        output.write(
            "deleted", f"deleted {file.name}: {format_count(file.pages, 'page')}", file=file.name, pages=file.pages
        )
    missing = [name for name in wanted if name not in {file.name for file in found}]
    for name in missing:
        reason = "the collection has no such file"
        output.write("skipped", f"skipped {name}: {reason}", file=name, reason=reason)
    output.summary.update(pages=deleted, skipped=len(missing))
    return SKIPPED if missing else DONE


def confirm_deletion(what: str, *, yes: bool) -> None:
    """Ask on the terminal. Raises Stopped unless the answer is yes."""
    confirm(f"Delete {what}? It cannot be undone.", "nothing was deleted", yes=yes)
