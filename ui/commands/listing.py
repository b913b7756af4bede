"""`dormouse list`: the collections, or the files of one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ui.commands.options import make_parser, open_store, parse_options, require_collection
from ui.commands.output import DONE, Output, run_command
from ui.commands.store import CollectionStore
from ui.components.wording import format_count


def main(argv: Sequence[str]) -> int:
    """List and return the exit code."""
    parser = make_parser(
        "list",
        "Lists the collections with their pages and ids, or the files of one collection.",
        ["list", "list --files --collection manuals", "list --page http://localhost:7860 --json"],
    )
    parser.add_argument("--files", action="store_true", help="the files of --collection, in the order they were added")
    parser.add_argument("--collection", metavar="NAME", help="only this one, by its name or id")
    options = parse_options(parser, argv)
    if options.files and not options.collection:
        parser.error("--files needs --collection NAME")
    return run_command("list", lambda output: list_all(options, output), as_json=options.json)


def list_all(options: argparse.Namespace, output: Output) -> int:
    """Return the exit code. Raises ServingError."""
    with open_store(options) as store:
        (list_files if options.files else list_collections)(store, options.collection, output)
    return DONE


def list_collections(store: CollectionStore, name: str | None, output: Output) -> None:
    found = [require_collection(store, name)] if name else store.list_collections()
    width = max((len(one.name) for one in found), default=0)
    for one in found:
        text = f"{one.name:<{width}}  {format_count(one.pages, 'page'):>12}  {one.key}"
        output.write("collection", text, name=one.name, pages=one.pages, id=one.key, fingerprint=one.fingerprint)
    output.summary["collections"] = len(found)
    if not found:
        output.write_text("there are no collections yet: dormouse add makes one")


def list_files(store: CollectionStore, name: str, output: Output) -> None:
    found = store.list_files(require_collection(store, name).key)
    for file in found:
        whole = "" if file.is_complete else f" of {file.pages_of_file}"
        output.write(
            "file",
            f"{file.pages:>6}{whole}  {file.name}",
            file=file.name,
            pages=file.pages,
            pages_of_file=file.pages_of_file,
            sha256=file.sha256,
        )
    output.summary.update(files=len(found), pages=sum(file.pages for file in found))
