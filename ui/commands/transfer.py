"""`dormouse export` and `dormouse import`: a collection as one zip, and back. Nothing is embedded again."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from serving.errors import BadValueError
from ui.commands.options import add_collection_option, make_parser, open_store, parse_options, require_collection
from ui.commands.output import DONE, Output, run_command
from ui.components.wording import format_count


def export_main(argv: Sequence[str]) -> int:
    """Export and return the exit code."""
    parser = make_parser(
        "export",
        "Writes a collection as one zip: pictures, CSV, JSON and vectors, which dormouse import reads.",
        ["export --collection manuals", "export --collection manuals --out backup/manuals.zip --json"],
    )
    add_collection_option(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE.zip", help="replaced if it exists; default: the collection's name, if new"
    )
    options = parse_options(parser, argv)
    return run_command("export", lambda output: export(options, output), as_json=options.json)


def export(options: argparse.Namespace, output: Output) -> int:
    """Return the exit code. Raises ServingError, OSError."""
    with open_store(options) as store:
        collection = require_collection(store, options.collection)
        path = choose_path(options.out, collection.name)
        with output.show_progress("exporting") as show:
            pages = store.export_collection(collection.key, path, lambda done, of: show(done, of, f"{done}/{of} pages"))
    size = path.stat().st_size
    output.summary.update(file=str(path), pages=pages, bytes=size)
    output.write_text(f"{format_count(pages, 'page')} of {collection.name!r} written to {path} ({size / 1e6:.1f} MB)")
    return DONE


def choose_path(given: Path | None, name: str) -> Path:
    """Return the file to write. Raises BadValueError."""
    path = given or Path(re.sub(r"[^\w.-]+", "-", name).strip("-.") or "collection").with_suffix(".zip")
    if given is None and path.exists():
        raise BadValueError(f"{path} exists already: name the file to write with --out")
    if path.is_dir() or not path.parent.is_dir():
        raise BadValueError(f"{path} cannot be written: it is a folder, or there is no folder {path.parent}")
    return path


def import_main(argv: Sequence[str]) -> int:
    """Import and return the exit code."""
    parser = make_parser(
        "import",
        "Imports an exported collection as a new one: all of it, or nothing.",
        ["import manuals.zip", "import manuals.zip --name manuals-2 --page http://localhost:7860"],
    )
    parser.add_argument("file", type=Path, metavar="FILE.zip", help="as dormouse export or the page has written it")
    parser.add_argument("--name", default="", help="of the new collection; default: the old one's")
    options = parse_options(parser, argv)
    return run_command("import", lambda output: import_file(options, output), as_json=options.json)


def import_file(options: argparse.Namespace, output: Output) -> int:
    """Return the exit code. Raises ServingError, OSError."""
    if not options.file.is_file():
        raise BadValueError(f"there is no file {options.file}")
    with open_store(options, may_create=True) as store, output.show_progress("importing") as show:
        made = store.import_collection(
            options.file, options.name, lambda done, of: show(done, of, f"{done}/{of} pages")
        )
    output.summary.update(collection=made.key, name=made.name, pages=made.pages)
    output.write_text(f"{format_count(made.pages, 'page')} imported as {made.name!r} ({made.key})")
    return DONE
