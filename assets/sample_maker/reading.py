"""Reads the sample pages with the built-in embedder, for what ships with them: python -m assets.sample_maker.reading.

The result has the form of an exported collection without pictures. Pages are in the order of their files, and names and
dates in the zip are fixed: the same vectors give the same file.
"""

import hashlib
import sys
import tempfile
import zipfile
from contextlib import closing
from io import BytesIO
from pathlib import Path

import onnxruntime  # noqa: F401 - before usearch, which would make its import end the process
import orjson

from bench.quality.recall import open_worker
from serving.client import EmbeddingClient, PagePayload
from serving.documents.files import open_file
from serving.documents.images import encode_jpeg
from serving.documents.parser_pool import ParserPool
from serving.library.exporting import ignore_progress, write_archive
from serving.library.library import Library
from serving.library.records import CollectionKey, NewPage
from serving.settings import Settings
from serving.system.files import hash_file, open_replacement
from ui.core.sample_loader import SAMPLES_READ
from ui.core.sample_pages import list_sample_files

PARTS = ("collection.json", "pages.jsonl", "vectors.npy", "line_vectors.npy")
NAME = "samples"


def main() -> int:
    settings = Settings()
    with tempfile.TemporaryDirectory() as folder, closing(Library(Path(folder))) as library:
        key = library.create_collection(NAME).key
        with open_worker(None) as client:
            read_files(client, library, key, settings)
        exported = BytesIO()
        write_archive(library, key, exported, settings, ignore_progress)
    with zipfile.ZipFile(exported) as whole:
        parts = {name: whole.read(name) for name in PARTS}
    parts["pages.jsonl"] = fix_ids(parts["pages.jsonl"])
    with open_replacement(SAMPLES_READ) as stream, zipfile.ZipFile(stream, "w", compresslevel=9) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    print(f"{SAMPLES_READ.name}: {SAMPLES_READ.stat().st_size / 1e6:.2f} MB")
    return 0


def read_files(client: EmbeddingClient, library: Library, key: CollectionKey, settings: Settings) -> None:
    """Add all sample pages to a collection, one after another, without pictures: as they are sent by the page."""
    with ParserPool(settings) as parsers:
        for path in list_sample_files():
            opened, digest = open_file(path, settings, parsers.run), hash_file(path)
            for number in range(1, opened.count + 1):
                page = opened.read(number - 1)
                answer = client.embed_pages([PagePayload(encode_jpeg(page.image), page.lines)], explain=True)
                text, place = answer.pages[0], (path.name, digest, number, opened.count, *page.image.size)
                new = NewPage(*place, b"", b"", answer.vectors[0], text.lines, text.vectors)
                library.add_page(key, new, fingerprint=answer.fingerprint, model=answer.model)
                print(f"{path.name}, page {number} of {opened.count}", flush=True)


def fix_ids(pages: bytes) -> bytes:
    """Return the pages' entries with ids that follow from what they are of."""
    entries = [orjson.loads(line) for line in pages.splitlines()]
    for entry in entries:
        entry["id"] = hashlib.sha256(f"{entry['sha256']} {entry['page']}".encode()).hexdigest()[:16]
    return b"".join(orjson.dumps(entry) + b"\n" for entry in entries)


if __name__ == "__main__":
    sys.exit(main())
