"""`python -m bench reading`: processor time that a page costs beside its embedding: opened, drawn, encoded and kept.

It decides how many GPUs one machine can feed. The page's own code reads the files, in the page's own processes, and a
library on this disk keeps them, with vectors of 2560 made-up numbers. No embedder runs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.options import int_between
from bench.results import record
from bench.results.record import Say
from bench.speed import booklets, load
from bench.speed.processor_time import read_processor_times
from serving.documents.files import open_file
from serving.documents.images import encode_jpeg, encode_thumbnail
from serving.documents.page import PageFile
from serving.documents.parser_pool import ParserPool
from serving.library.records import CollectionKey, NewPage
from serving.settings import Settings
from serving.system.files import hash_file

if TYPE_CHECKING:
    from serving.library.library import Library

ABOUT = "processor time of a page beside its embedding: opened, drawn, encoded and kept"
DIMENSION = 2560
MODEL = "made-up"


def measure_reading(options: argparse.Namespace, say: Say) -> dict[str, Any]:
    """Return the result file's content: for each kind of file, seconds of processor time and of the clock a page."""
    from serving.library.library import Library

    kinds = {}
    with tempfile.TemporaryDirectory(prefix="dormouse-bench-") as scratch:
        folder = Path(scratch)
        for kind, files in draw_files(folder / "files", options).items():
            settings = Settings(data=folder / kind)
            library = Library(settings.data)
            key = library.create_collection("bench").key
            try:
                with ParserPool(settings) as parsers:
                    kinds[kind] = measure_files(files, library, key, settings, parsers)
            finally:
                library.close()
            say(f"{kind}: {kinds[kind]}")
    return {"dimension": DIMENSION, "kinds": kinds}


def draw_files(folder: Path, options: argparse.Namespace) -> Mapping[str, Sequence[Path]]:
    """Return the files of each kind: PDFs with a text layer, A4 scans at 150 dpi, and those given."""
    scans, layers = folder / "scans", folder / "layers"
    scans.mkdir(parents=True)
    layers.mkdir()
    for number, jpeg in enumerate(load.draw_jpegs(options.pages)):
        (scans / f"{number:04}.jpg").write_bytes(jpeg)
    found: dict[str, Sequence[Path]] = {
        "text_layer": booklets.write_booklets(layers, options.pages),
        "scan": sorted(scans.iterdir()),
    }
    return {**found, "given": [options.manual]} if options.manual else found


def measure_files(
    files: Sequence[Path], library: Library, key: CollectionKey, settings: Settings, parsers: ParserPool
) -> dict[str, Any]:
    """Read and keep all pages one after the other, in one thread and one reading process."""
    random = np.random.default_rng(7)
    before, began, pages, size = sum(read_processor_times(os.getpid()).values()), time.perf_counter(), 0, 0
    for path in files:
        found = open_file(path, settings, partial(parsers.run, cancelled=None))
        digest = hash_file(path)
        for number in range(found.count):
            vector = random.standard_normal(DIMENSION).astype(np.float32)
            new = read_page(found, path, digest, number, vector / np.linalg.norm(vector))
            library.add_page(key, new, fingerprint=MODEL, model=MODEL)
            pages, size = pages + 1, size + len(new.picture)
    took = time.perf_counter() - began
    spent = sum(read_processor_times(os.getpid()).values()) - before
    return {
        "pages": pages,
        "cpu_s_a_page": round(spent / pages, 4),
        "seconds_a_page": round(took / pages, 4),
        "picture_kb": round(size / pages / 1000, 1),
    }


def read_page(found: PageFile, path: Path, digest: str, number: int, vector: Any) -> NewPage:
    drawn = found.read(number)
    assert drawn.image is not None
    return NewPage(
        file=path.name,
        sha256=digest,
        page=number + 1,
        pages=found.count,
        width=drawn.image.width,
        height=drawn.image.height,
        picture=encode_jpeg(drawn.image),
        thumbnail=encode_thumbnail(drawn.image),
        vector=vector,
        lines=drawn.lines,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pages = "pages of each kind that are made up; default: %(default)s"
    parser.add_argument("--pages", type=int_between(booklets.LEAST, booklets.MOST), default=200, help=pages)
    parser.add_argument("--manual", type=Path, help="a PDF that is read as well")
    record.add_out(parser, "reading.json")


def main(options: argparse.Namespace) -> int:
    return record.measure_and_save(
        options.out, "reading", lambda _: measure_reading(options, partial(print, flush=True))
    )
