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

from serving.documents.page import Box, Line
from serving.embedders.builtin.text_rows import TALL, Direction

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
BATCH = 1
"""Pieces differ in width: batches are padded, and slower."""

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
        shares = (self.corners / np.asarray(size, np.float32)).clip(0.0, 1.0)
        (left, top), (right, bottom) = shares.min(axis=0), shares.max(axis=0)
        box = (round(float(left), 5), round(float(top), 5), round(float(right), 5), round(float(bottom), 5))
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

    def read_pieces(self, image: Image.Image) -> list[Reading]:
        """Return all pieces of text on an RGB image, doubtful ones too, from top to bottom."""
        if min(image.size) < MIN_SIDE:
            return []
        # BGR, and in one piece: on a reversed view each of the crops is copied in full first.
        pixels = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
        with self._lend_reader() as reader:
            boxes = find_boxes(reader, pixels)
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
            crops.append([np.rot90(crop), np.rot90(crop, 3)] if is_tall else [crop])
        with self._lend_reader() as reader:
            return [max(recognise(reader, turns), key=lambda answer: answer[1]) for turns in crops]

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
            "Rec.rec_batch_num": BATCH,
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
    if not crops:
        return []
    found = reader.text_rec(reading_input(list(crops)))
    return [(text, float(score)) for text, score in zip(found.txts, found.scores, strict=True)]


def reading_input(crops: list[Pixels]) -> Any:
    return importlib.import_module("rapidocr.ch_ppocr_rec").TextRecInput(img=crops, return_word_box=False)


def find_boxes(reader: Any, pixels: Pixels) -> list[NDArray[np.float32]]:
    """Return the corners of each piece of text: float32[4, 2] in pixels, first the one where an upright text begins."""
    found: list[NDArray[np.float32]] = []
    for left, top, right, bottom in cut_parts(pixels.shape[1], pixels.shape[0]):
        boxes = reader(np.ascontiguousarray(pixels[top:bottom, left:right])).boxes
        for box in [] if boxes is None else boxes:
            add_box(found, np.asarray(box, np.float32) + np.asarray((left, top), np.float32), bool(left or top))
    return found


def cut_parts(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Return left, top, right and bottom of each part in which a picture is searched: one, unless it is long."""
    long, short = max(width, height), min(width, height)
    if long <= LONG:
        return [(0, 0, width, height)]
    part = max(PART, int(PART_RATIO * short))
    starts = range(0, max(1, long - part // SHARED), part - part // SHARED)
    if height > width:
        return [(0, start, width, min(height, start + part)) for start in starts]
    return [(start, 0, min(width, start + part), height) for start in starts]


def add_box(found: list[NDArray[np.float32]], box: NDArray[np.float32], is_later_part: bool) -> None:
    """Add a box of a part, or extend the box of the part before it that shows the same line."""
    (left, top), (right, bottom) = box.min(axis=0), box.max(axis=0)
    for number in range(len(found) - 1, -1, -1) if is_later_part else ():
        (x0, y0), (x1, y1) = found[number].min(axis=0), found[number].max(axis=0)
        across = min(right, x1) - max(left, x0)
        down = min(bottom, y1) - max(top, y0)
        height, other = bottom - top, y1 - y0
        if down > 0.6 * min(height, other) and across > 0.5 * min(height, other, right - left, x1 - x0):
            x0, y0, x1, y1 = min(left, x0), min(top, y0), max(right, x1), max(bottom, y1)
            found[number] = np.asarray([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float32)
            return
    found.append(box)


def find_direction(corners: NDArray[np.float32]) -> Direction:
    """Return where the text is taken to run to when its crop is read: RapidOCR turns high ones to the left."""
    width = max(np.linalg.norm(corners[0] - corners[1]), np.linalg.norm(corners[2] - corners[3]))
    height = max(np.linalg.norm(corners[0] - corners[3]), np.linalg.norm(corners[1] - corners[2]))
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
