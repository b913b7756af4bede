"""`dormouse search`: the pages of a collection that answer a question."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from serving.settings import MAX_TOP_K
from ui.commands.options import add_collection_option, make_parser, open_store, parse_options, require_collection
from ui.commands.output import DONE, Output, run_command

LINE_CHARS = 100


def main(argv: Sequence[str]) -> int:
    """Search and return the exit code."""
    parser = make_parser(
        "search",
        "Finds the pages of a collection that answer a question, best first.",
        [
            'search "how heavy is the pump?" --collection manuals',
            'search "total due" --collection invoices --top-k 3 --json',
        ],
    )
    parser.add_argument("question", metavar="QUESTION", help="in words")
    add_collection_option(parser)
    parser.add_argument(
        "--top-k",
        type=parse_top_k,
        default=8,
        metavar="N",
        help=f"pages at most, 1 to {MAX_TOP_K}; default: %(default)s",
    )
    options = parse_options(parser, argv)
    return run_command("search", lambda output: search(options, output), as_json=options.json)


def search(options: argparse.Namespace, output: Output) -> int:
    """Return the exit code. Raises ServingError."""
    with open_store(options) as store:
        collection = require_collection(store, options.collection)
        with output.show_progress("searching"):
            found = store.search(collection.key, options.question, options.top_k)
    for page in found:
        output.write(
            "hit",
            f"{page.rank:>2}  {page.score:.3f}  {page.file}, page {page.page}{shorten(page.line)}",
            rank=page.rank,
            score=round(page.score, 6),
            file=page.file,
            page=page.page,
            id=page.id,
            line=page.line,
        )
    output.summary["hits"] = len(found)
    if not found:
        output.write_text(f"the collection {collection.name!r} has no pages yet: add some with dormouse add")
    return DONE


def shorten(line: str | None) -> str:
    """Return the line that answers, with the space before it, as it fits beside a page's name."""
    return f"  {line[: LINE_CHARS - 1] + '…' if len(line) > LINE_CHARS else line}" if line else ""


def parse_top_k(text: str) -> int:
    """Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_TOP_K:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_TOP_K}")
    return int(text)
