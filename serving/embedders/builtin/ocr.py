"""Reads text on pictures: RapidOCR's PP-OCRv6 small, whichever way up the text is, however long the picture.

Its recogniser reads Latin letters, Chinese and Japanese, also in columns. Text that is upside down or runs upwards it
takes for nonsense with a low score, so doubtful pieces are turned and read again.
"""

from __future__ import annotations

import copy
import importlib
import queue
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from serving.documents.boxes import Box, Direction, clip_box
from serving.documents.page import Line
from serving.embedders.builtin.text_rows import TALL

MIN_SIDE = 8
"""Pixels: no letter fits in less, and the detector takes seconds for a thread of 2,000 x 1."""
MIN_SCORE = 0.85
"""Pieces with a lower confidence are dropped."""
TRIED = 6
"""Doubtful pieces, the longest of a picture, that are turned first; all others follow if that makes one readable."""
LONG = 2_400
"""Pixels: a longer picture is searched for text in parts. The detector sees 960, so letters would vanish."""
PART, PART_RATIO = 1_440, 1.5
"""Length of a part in pixels: at least this, and this much of the picture's width."""
SHARED = 8
"""An eighth of each part is seen by the next one too, so that a line at its edge is found whole."""
LONGEST = 60
"""Heights of a piece that are read at once: three times the longest line of an A4 page."""
INK = 48
"""Of 255: less difference in a column of a piece is none of a letter."""
FLAT = 6
"""Pixels: no letter of a text layer is lower."""

Area = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels."""
Pixels = NDArray[np.uint8]
"""A picture in BGR."""
TURNED: dict[Direction, Direction] = {"right": "left", "left": "right", "down": "up", "up": "down"}


@dataclass(frozen=True, eq=False, slots=True)
class Reading:
    """What was read on a piece of a picture. `corners` is float32[4, 2] in pixels; `score` is from 0 to 1."""

    corners: NDArray[np.float32]
    direction: Direction
    text: str
    score: float

    @property
    def length(self) -> float:
        return float(np.ptp(self.corners, axis=0).max())

    @property
    def room(self) -> float:
        """Return about how many letters have room in it."""
        sides = np.ptp(self.corners, axis=0)
        return float(sides.max() / max(1.0, sides.min()))

    def make_line(self, size: tuple[int, int]) -> Line:
        """Return the text with its box as shares of a picture of this size."""
        shares = self.corners / np.asarray(size, np.float32)
        box = clip_box((*shares.min(axis=0), *shares.max(axis=0)))
        return Line(" ".join(self.text.split()), box)


class Ocr:
    """The OCR, for many pages at once."""

    def __init__(self) -> None:
        self._models = load_models()
        self._readers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.letters = frozenset("".join(self._models.text_rec.session.get_character_list()))

    def warm_up(self) -> None:
        """Run both models once: the first run allocates buffers that later ones reuse, and imports what it needs."""
        page = Image.new("RGB", (640, 160), "white")  # a blank one would run the detector alone
        ImageDraw.Draw(page).text((40, 60), "Warm up 123", fill="black", font_size=40)
        self.read_pieces(page)

    def read_pieces(self, image: Image.Image, areas: Sequence[Area] | None = None) -> list[Reading]:
        """Return all pieces of text in areas of an RGB image, doubtful ones too, from top to bottom.

        Without `areas`, on all of it; so also where it is longer than what is searched at once.
        """
        if min(image.size) < MIN_SIDE:
            return []
        # BGR, and in one piece: on a reversed view each of the crops is copied in full first.
        pixels = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
        with self._lend_reader() as reader:
            boxes = find_boxes(reader, pixels, areas)
            crops = reader.crop_text_regions(pixels, boxes)
            directions = [find_direction(box) for box in boxes]
            found = [
                Reading(box, direction, *answer)
                for box, direction, answer in zip(boxes, directions, recognise(reader, crops), strict=True)
            ]
            return read_turned(reader, crops, found)

    def read_boxes(self, image: Image.Image, boxes: Sequence[Box]) -> list[tuple[str, float]]:
        """Return text and score of what stands in boxes, which are shares of the image.

        Text on its side is read both ways, the better one counts.
        """
        width, height = image.size
        crops = []
        for x0, y0, x1, y1 in boxes:
            margin = 0.2 * min((x1 - x0) * width, (y1 - y0) * height) + 1
            area = (x0 * width - margin, y0 * height - margin, x1 * width + margin, y1 * height + margin)
            crop = np.asarray(image.crop(tuple(round(edge) for edge in area)))[:, :, ::-1]  # type: ignore[arg-type]
            is_tall = crop.shape[0] > TALL * crop.shape[1]
            turns = [np.rot90(crop), np.rot90(crop, 3)] if is_tall else [crop]
            crops.append([turn for turn in turns if turn.shape[0] >= FLAT])
        with self._lend_reader() as reader:
            return [max(recognise(reader, turns), key=lambda answer: answer[1], default=("", 0.0)) for turns in crops]

    @contextmanager
    def _lend_reader(self) -> Iterator[Any]:
        """Lend an OCR on one core that no other thread uses: two pages side by side beat one page on two cores.

        It is kept for the next page, and through snapshots: it has no threads of its own.
        """
        try:
            reader = self._readers.get_nowait()
        except queue.Empty:
            reader = share_models(self._models)
        try:
            yield reader
        finally:
            self._readers.put(reader)


def load_models() -> Any:
    if "usearch" in sys.modules and "onnxruntime" not in sys.modules:
        # Seen with numkong (usearch 2.26.6) and onnxruntime 1.32.0; the other order works. Workers need no usearch.
        raise RuntimeError("import onnxruntime before usearch: loaded after it, it ends the process (SIGSEGV)")
    rapidocr = importlib.import_module("rapidocr")
    importlib.import_module("cv2").setNumThreads(1)
    reader = rapidocr.RapidOCR(
        params={
            "Global.use_cls": False,  # it turns some upright lines by 180 degrees
            "Global.use_rec": False,  # called by itself, with other turns
            "Global.log_level": "error",
            "Det.limit_type": "max",
            "Det.limit_side_len": 960,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Rec.rec_img_shape": [3, 48, 160],  # lines are padded to this width; 320 costs short cells half their time
            "Rec.rec_batch_num": 1,  # pieces differ in width: batches are padded, and slower
        }
    )
    reader._load_det_model()
    reader._load_rec_model()
    return reader


def share_models(reader: Any) -> Any:
    """Return another OCR that shares the loaded models; only the state of a call is its own.

    An ONNX session may be run from many threads at once; a second one would cost 40 MB and half of a snapshot's time.
    """
    other = copy.copy(reader)
    other.text_det, other.text_rec = copy.copy(reader.text_det), copy.copy(reader.text_rec)
    return other


def recognise(reader: Any, crops: Sequence[Pixels]) -> list[tuple[str, float]]:
    """Return text and score of each crop, whose text runs to the right."""
    parts = [cut_crop(crop) for crop in crops]
    flat = [part for cut in parts for part in cut]
    if not flat:
        return []
    wanted = importlib.import_module("rapidocr.ch_ppocr_rec").TextRecInput(img=flat, return_word_box=False)
    found = reader.text_rec(wanted)
    answers = iter(zip(found.txts, found.scores, strict=True))
    read = [[next(answers) for _ in cut] for cut in parts]
    return [(" ".join(text for text, _ in cut), float(min(score for _, score in cut))) for cut in read]


def cut_crop(crop: Pixels) -> list[Pixels]:
    """Return a very long crop in parts, cut in the widest gaps: the recogniser takes memory by its length."""
    height, width = crop.shape[:2]
    parts, start = [], 0
    while width - start > LONGEST * height:
        first = start + (LONGEST - 4) * height
        is_empty = np.ptp(crop[:, first : first + 4 * height, 1], axis=0) < INK
        edges = np.flatnonzero(np.diff(np.concatenate([[False], is_empty, [False]]).astype(np.int8)))
        gaps = [(int(end - begin), int(begin + end) // 2) for begin, end in edges.reshape(-1, 2)]
        cut = first + max(gaps, default=(0, 2 * height))[1]
        parts.append(crop[:, start:cut])
        start = cut
    return [*parts, crop[:, start:]]


def find_boxes(reader: Any, pixels: Pixels, areas: Sequence[Area] | None) -> list[NDArray[np.float32]]:
    """Return the corners of each piece of text: float32[4, 2] in pixels, first the one where an upright text begins."""
    found: list[NDArray[np.float32]] = []
    parts = cut_parts(pixels.shape[1], pixels.shape[0])
    for left, top, right, bottom in areas if areas and len(parts) == 1 else parts:
        earlier = len(found)
        boxes = reader(np.ascontiguousarray(pixels[top:bottom, left:right])).boxes
        for box in [] if boxes is None else boxes:
            add_box(found, np.asarray(box, np.float32) + np.asarray((left, top), np.float32), earlier)
    return found


def cut_parts(width: int, height: int) -> list[Area]:
    """Return left, top, right and bottom of each part in which a picture is searched: one, unless it is long."""
    long, short = max(width, height), min(width, height)
    if long <= LONG:
        return [(0, 0, width, height)]
    part = max(PART, int(PART_RATIO * short))
    starts = range(0, max(1, long - part // SHARED), part - part // SHARED)
    if height > width:
        return [(0, start, width, min(height, start + part)) for start in starts]
    return [(start, 0, min(width, start + part), height) for start in starts]


def add_box(found: list[NDArray[np.float32]], box: NDArray[np.float32], earlier: int) -> None:
    """Add a box of a part, or extend that of the same line among the boxes of `earlier` parts."""
    for number in range(earlier - 1, -1, -1):
        if (joined := join_boxes(found[number], box)) is not None:
            found[number] = joined
            return
    found.append(box)


def join_boxes(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return the box around two that show the same line, as crooked as the longer one; None for different lines."""
    longer = max((one, other), key=lambda box: max(measure_sides(box)))
    sides = longer[1] - longer[0], longer[3] - longer[0]
    along = max(sides, key=np.linalg.norm) / max(1e-6, max(np.linalg.norm(side) for side in sides))
    across = np.asarray((-along[1], along[0]), np.float32)
    extents = [
        [(float((box @ axis).min()), float((box @ axis).max())) for box in (one, other)] for axis in (along, across)
    ]
    height = min(high - low for low, high in extents[1])
    shared = [min(a[1], b[1]) - max(a[0], b[0]) for a, b in extents]
    if shared[1] <= 0.6 * height or shared[0] <= 0.5 * height:
        return None
    (u0, u1), (v0, v1) = ((min(a[0], b[0]), max(a[1], b[1])) for a, b in extents)
    corners = np.asarray([u * along + v * across for u, v in ((u0, v0), (u1, v0), (u1, v1), (u0, v1))], np.float32)
    return order_corners(corners)


def order_corners(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the corners clockwise, first the one at the upper left."""
    middle = corners.mean(axis=0)
    turned = corners[np.argsort(np.arctan2(*(corners - middle).T[::-1]))]
    return np.asarray(np.roll(turned, -int(turned.sum(axis=1).argmin()), axis=0), np.float32)


def measure_sides(corners: NDArray[np.float32]) -> tuple[float, float]:
    """Return width and height in pixels, as RapidOCR takes them for a crop."""
    top, right, bottom, left = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    return float(max(top, bottom)), float(max(left, right))


def find_direction(corners: NDArray[np.float32]) -> Direction:
    """Return where the text is taken to run to when its crop is read: RapidOCR turns high ones to the left."""
    width, height = measure_sides(corners)
    return "down" if int(height) >= TALL * int(width) else "right"


def read_turned(reader: Any, crops: Sequence[Pixels], found: list[Reading]) -> list[Reading]:
    """Return the readings, those that were nonsense turned until they are text."""
    doubtful = [n for n, reading in enumerate(found) if reading.score < MIN_SCORE]
    sample = sorted(doubtful, key=lambda n: -found[n].length)[:TRIED]
    if any(is_text(*answer) for answer in recognise(reader, [turn_half(crops[n]) for n in sample])):
        # All others too: on a page that lies upside down "SOS" and "NO" are read with confidence either way.
        answers = recognise(reader, [turn_half(crop) for crop in crops])
        turned = [
            replace(reading, direction=TURNED[reading.direction], text=text, score=score)
            for reading, (text, score) in zip(found, answers, strict=True)
        ]
        found = choose_readings(found, turned)
    sideways = find_main_direction(found)
    if sideways in ("down", "up"):
        # Words as wide as high were not turned with the others.
        square = [n for n, crop in enumerate(crops) if found[n].direction in ("right", "left") and is_square(crop)]
        quarter = 1 if sideways == "down" else 3
        answers = recognise(reader, [np.ascontiguousarray(np.rot90(crops[n], quarter)) for n in square])
        for n, (text, score) in zip(square, answers, strict=True):
            found[n] = max(
                found[n],
                replace(found[n], direction=sideways, text=text, score=score),
                key=lambda reading: reading.score,
            )
    return found


def choose_readings(ones: Sequence[Reading], others: Sequence[Reading]) -> list[Reading]:
    """Return the better one of each pair: where both are text, the one that runs as most of the page does."""
    main = find_main_direction(
        [max(pair, key=lambda reading: reading.score) for pair in zip(ones, others, strict=True)]
    )
    return [
        max(pair, key=lambda reading: (reading.score >= MIN_SCORE, reading.direction == main, reading.score))
        for pair in zip(ones, others, strict=True)
    ]


def find_main_direction(found: Sequence[Reading]) -> Direction:
    """Return where most of the readable text runs to."""
    letters: Counter[Direction] = Counter()
    for reading in found:
        if reading.score >= MIN_SCORE:
            letters[reading.direction] += len(reading.text)
    return letters.most_common(1)[0][0] if letters else "right"


def is_square(crop: Pixels) -> bool:
    return bool(crop.shape[1] < TALL * crop.shape[0])


def turn_half(crop: Pixels) -> Pixels:
    return np.ascontiguousarray(crop[::-1, ::-1])


def is_text(text: str, score: float) -> bool:
    return score >= MIN_SCORE and sum(char.isalnum() for char in text) >= 4
