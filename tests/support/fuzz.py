"""`python -m tests.support.fuzz KIND FOLDER [libFuzzer's options]`: feed made-up bytes to our parsers with atheris.

FOLDER gets the first inputs, small files of each kind. Nothing but a ServingError may come out; anything else, a crash
of a decoder or an input that takes longer than -timeout ends the process with what it was and another exit code than 0.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL", "zipfile", "serving"]):
    import numpy as np
    import PIL.Image

    from serving.documents.archives import Bounds, open_archive, unpack_members
    from serving.documents.files import open_file
    from serving.documents.images import FORMATS
    from serving.documents.parser_pool import ParserPool
    from serving.errors import ServingError
    from serving.http.schema import (
        EmbeddingsRequest,
        EmbedRequest,
        parse_body,
        read_items,
    )
    from serving.library import importing
    from serving.library.exporting import export_collection
    from serving.library.library import Library
    from serving.settings import Settings
    from serving.system.display_names import display_path

from tests.support.exported_pages import page
from tests.support.files import encoded, pdf, picture
from tests.support.libraries import made
from tests.support.zips import zipped

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
SETTINGS = Settings(data=FOLDER, max_file_pixels=200_000, max_side=64, max_pdf_pages=4, max_zip_bytes=10_000_000)
PARSERS = ParserPool(SETTINGS)
SPLIT = b"\n--fuzz--\n"
"""Between the files of an export, which is zipped again for each input: a wrong checksum would be all that is found."""


def write(data: bytes) -> Path:
    path = FOLDER / "input"
    path.write_bytes(data)
    return path


def read_file(data: bytes) -> None:
    """An upload: an image, a TIFF, a PDF, as its first bytes say."""
    for found in open_file(write(data), SETTINGS, PARSERS.run):
        assert isinstance(found, ServingError) or (found.image is not None and found.image.mode == "RGB")


def read_zip(data: bytes) -> None:
    inside = FOLDER / "inside"
    inside.mkdir(exist_ok=True)
    for member in unpack_members(write(data), inside, SETTINGS):
        assert member.name == display_path(member.name)
        if isinstance(member.found, Path):
            assert member.found.parent == inside
            member.found.unlink()


def read_body(data: bytes) -> None:
    with contextlib.suppress(ServingError):
        read_items(parse_body(EmbedRequest, data), SETTINGS.max_text_chars)
    read_items(parse_body(EmbeddingsRequest, data), SETTINGS.max_text_chars)


NAMES = ("collection.json", "pages.jsonl", "vectors.npy", "line_vectors.npy")


def read_export(data: bytes) -> None:
    *parts, last = data.split(SPLIT)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in zip(NAMES, parts, strict=False):
            archive.writestr(name, part)
        archive.writestr(f"pictures/{'0' * 16}.jpg", last)
    bounds = Bounds(SETTINGS.max_export_pages, SETTINGS.max_export_bytes, SETTINGS.max_zip_ratio)
    with open_archive(write(buffer.getvalue()), bounds) as archive:
        for found in importing.read_pages(archive, importing.read_head(archive, SETTINGS), SETTINGS):
            assert np.isfinite(found.vector).all() and found.file == display_path(found.file)


def pictures() -> Iterator[bytes]:
    small = picture((24, 16), colour=(200, 30, 40))
    for kind in FORMATS:
        yield encoded(small, kind)
    for mode in ("1", "P", "RGBA", "I;16", "CMYK"):
        yield encoded(picture((9, 7), mode=mode) if mode != "I;16" else PIL.Image.new(mode, (9, 7)), "TIFF")
    for kind in ("TIFF", "GIF", "WEBP"):
        yield encoded(small, kind, save_all=True, append_images=[picture((24, 16))])
    yield pdf([["Some words on a page"]])
    yield (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Count 1/Kids[3 0 R]>>endobj\n"
        + (b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 95 42]>>endobj\ntrailer<</Root 1 0 R>>\n")
    )
    yield b"<svg/>"


def zips() -> Iterator[bytes]:
    files = {"a.png": encoded(picture((9, 7))), "b/c.txt": b"words " * 20, "../d": b"", "e/": b""}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        yield zipped(files, method)
    yield zipped({"inner.zip": zipped({"a": b"b"})})


def bodies() -> Iterator[bytes]:
    image = base64.b64encode(encoded(picture((3, 2)))).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
    message = {"role": "user", "content": [part, {"type": "text", "text": "a"}]}
    for body in (
        {"texts": ["a", "e\u0301\u0323"], "images": [image], "normalize": True, "dimensions": 768, "explain": False},
        {"pages": [{"image": image, "lines": ["a", {"text": "b", "box": [0, 0.5, 1, 1e-3]}]}], "model": None},
        {"input": "Query: a", "encoding_format": "base64", "dimensions": None},
        {"input": ["a", "b"]},
        {"input": [[1]]},
        {"messages": [message]},
        {"messages": [[message], [{"role": "user", "content": "a"}]]},
    ):
        yield json.dumps(body).encode()


def exported() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        library = Library(Path(folder))
        for number in range(2):
            key = made(library, "house")
            library.add_page(key, page(number), fingerprint="f1", model="m")
        with zipfile.ZipFile(export_collection(library, key, Path(folder) / "exports", SETTINGS).path) as archive:
            (first, *_) = (name for name in archive.namelist() if name.endswith(".jpg"))
            parts = [archive.read(name) for name in (*NAMES, first)]
            every = [name[9:25] for name in archive.namelist() if name.endswith(".jpg")]
        library.close()
    for name in every:
        parts[1] = parts[1].replace(name.encode(), b"0" * 16)
    yield SPLIT.join(parts)


KINDS: dict[str, tuple[Callable[[bytes], None], Callable[[], Iterator[bytes]]]] = {
    "files": (read_file, pictures),
    "zips": (read_zip, zips),
    "bodies": (read_body, bodies),
    "exports": (read_export, exported),
}


def main(kind: str, folder: str, *options: str) -> None:
    take, seeds = KINDS[kind]
    for number, seed in enumerate(seeds()):
        (Path(folder) / f"{kind}-{number}").write_bytes(seed)
        with contextlib.suppress(ServingError):
            take(seed)

    def one(data: bytes) -> None:
        with contextlib.suppress(ServingError):
            take(data)

    atheris.Setup([sys.argv[0], *options, folder], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
