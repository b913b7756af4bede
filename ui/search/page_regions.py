"""Where on the page: its picture is cut into overlapping parts, and each is ranked on its own with the question.

For servers that give a page one vector and no lines. It is an estimate: the model saw the page as a whole, not these
parts. Geometry first, then scores, HTML, and the event of the page.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import gradio as gr
import numpy as np
import orjson
from gradio.components import Component
from markupsafe import Markup
from PIL import Image

from serving.client import EmbeddingClient, PagePayload
from serving.documents.boxes import Box
from serving.documents.images import decode_image, encode_jpeg
from serving.embedders.base import Vectors
from serving.errors import BadValueError, NotFoundError, NotReadyError, ServingError, TooLargeError
from serving.library.catalogue import FingerprintError
from serving.library.records import CollectionKey
from serving.library.vectors import truncate_vectors
from ui.components import results
from ui.components.events import PRIVATE, call_script
from ui.components.open_page import OpenPage
from ui.components.templates import render_template
from ui.core.service import Question, Service, check_dimension, milliseconds_since
from ui.search.document import open_page
from ui.search.question import LastSearch

FEWEST, MOST = 9, 16
"""Parts of a page: fewer say little more than the page does, more take longer and see too little of what is around."""
OVERLAP = 0.25
"""How much longer a part is than the way to the next one: a line on a border is whole in one of the two."""
SMALLEST = 48
"""Pixels of a part's side: two lines of small print. A smaller part shows a model nothing."""
LEVEL = 0.005
"""Scores closer than this count as equal: one picture may differ by a thousandth between two runs on a GPU."""


@dataclass(frozen=True)
class Part:
    """A part of a page. `score`: its cosine with the question."""

    box: Box
    score: float


@dataclass(frozen=True)
class RankedParts:
    """The parts of a page, row by row from the upper left."""

    parts: tuple[Part, ...]
    embed_ms: float
    total_ms: float

    @property
    def best(self) -> Part | None:
        """None where no part stands out."""
        scores = [part.score for part in self.parts]
        return None if max(scores) - min(scores) < LEVEL else self.parts[int(np.argmax(scores))]

    @property
    def note(self) -> str:
        return (
            f"An estimate: the page was cut into {len(self.parts)} parts and each was ranked on its own. It does not"
            " show what the model looked at."
        )


def choose_grid(width: int, height: int) -> tuple[int, int]:
    """Return columns and rows: parts as square as can be, at least FEWEST where these are not too small."""
    shapes = [
        (columns, rows)
        for columns in range(1, min(MOST, max(1, width // SMALLEST)) + 1)
        for rows in range(1, min(MOST // columns, max(1, height // SMALLEST)) + 1)
    ]

    def badness(shape: tuple[int, int]) -> tuple[int, float, int]:
        columns, rows = shape
        aspect = width / (columns + OVERLAP) / (height / (rows + OVERLAP))
        return max(0, FEWEST - columns * rows), round(abs(math.log(aspect)), 6), columns * rows

    return min(shapes, key=badness)


def split_axis(count: int) -> list[tuple[float, float]]:
    """Return the way from 0 to 1 in spans of one length, each reaching into the next."""
    step = 1 / (count + OVERLAP)
    return [(n * step, 1.0 if n == count - 1 else (n + 1 + OVERLAP) * step) for n in range(count)]


def cut_page(width: int, height: int) -> list[Box]:
    """Return the parts of a page of this many pixels, row by row from the upper left."""
    columns, rows = choose_grid(width, height)
    return [(left, top, right, bottom) for top, bottom in split_axis(rows) for left, right in split_axis(columns)]


def crop_part(picture: Image.Image, box: Box) -> Image.Image:
    left, top, right, bottom = box
    width, height = picture.size
    return picture.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))


def compute_heat(parts: Sequence[Part]) -> list[tuple[Box, float]]:
    """Return cells, each with the mean of the parts that cover it, from 0 to 1 (best); 0 where none stands out."""
    across = sorted({edge for part in parts for edge in (part.box[0], part.box[2])})
    down = sorted({edge for part in parts for edge in (part.box[1], part.box[3])})
    cells = [(left, top, right, bottom) for top, bottom in pairwise(down) for left, right in pairwise(across)]
    means = np.array([np.mean([part.score for part in parts if covers(part.box, cell)]) for cell in cells])
    spread = float(means.max() - means.min())
    levels = (means - means.min()) / spread if spread >= LEVEL else np.zeros(len(means))
    return [(cell, float(level)) for cell, level in zip(cells, levels, strict=True)]


def covers(box: Box, cell: Box) -> bool:
    """Return whether the middle of a cell lies in a box."""
    x, y = (cell[0] + cell[2]) / 2, (cell[1] + cell[3]) / 2
    return box[0] < x < box[2] and box[1] < y < box[3]


def describe_place(box: Box) -> str:
    """Return where on the page a box is, in words, by thirds of the page."""
    thirds = [min(2, int(3 * (box[n] + box[n + 2]) / 2)) for n in (0, 1)]
    across, down = ("left", "middle", "right")[thirds[0]], ("upper", "middle", "lower")[thirds[1]]
    return "the middle" if across == down else f"{down} {across}"


def rank_parts(
    service: Service,
    query: Callable[[EmbeddingClient], tuple[Vectors, str]],
    collection: CollectionKey,
    page_id: str,
    target: str | None = None,
    dimension: int | None = None,
) -> RankedParts:
    """Rank each part of a page by the first `dimension` numbers of a question's vector.

    `query` returns that vector, float32[n], and its fingerprint; it is called once everything is known to fit, and may
    start a worker. Raises ServingError: NotFoundError where the page is not in the collection, also if it went
    meanwhile; FingerprintError where the server's vectors cannot be compared with the collection's or the question's.
    """
    began = time.perf_counter()
    chosen = service.targets.get(target)
    check_dimension(chosen, dimension)
    picture = read_picture(service, collection, page_id)
    cuts = cut_page(*picture.size)
    if len(cuts) == 1:
        size = f"{picture.width} x {picture.height}"
        raise BadValueError(f"the page has only {size} pixels: too few to cut it into parts", param="page")
    chosen.check_fingerprint(service.library, collection)
    vector, fingerprint = query(chosen.client)
    pages = [PagePayload(encode_jpeg(crop_part(picture, box))) for box in cuts]
    sent = time.perf_counter()
    vectors, here = embed_parts(chosen.client, pages, service, dimension)
    embed = milliseconds_since(sent)
    if not service.library.catalogue.are_comparable(here, fingerprint):
        raise FingerprintError(
            f"the question was asked of another embedder ({fingerprint}, here {here}): search again", param="target"
        )
    check_page(service, collection, page_id)
    scores = vectors @ truncate_vectors(vector, dimension)
    parts = tuple(Part(box, float(score)) for box, score in zip(cuts, scores, strict=True))
    return RankedParts(parts, embed, milliseconds_since(began))


def read_picture(service: Service, collection: CollectionKey, page_id: str) -> Image.Image:
    """Return a page's picture. Raises NotFoundError; BadValueError for a page whose lines are known."""
    check_page(service, collection, page_id)
    if service.library.catalogue.was_read(page_id):
        raise BadValueError("the text of this page was read: a search marks the line that answers", param="page")
    data = service.library.pictures.read_picture(page_id)
    if data is None:
        raise NotFoundError("the picture of this page is gone", param="page")
    return decode_image(data, service.settings)


def check_page(service: Service, collection: CollectionKey, page_id: str) -> None:
    """Raise NotFoundError for a page that is not in the collection."""
    try:
        service.library.catalogue.read_vector(collection, page_id)
    except NotFoundError as error:
        raise NotFoundError(error.message, param="page" if error.param == "like" else error.param) from None


def embed_parts(
    client: EmbeddingClient, pages: Sequence[PagePayload], service: Service, dimension: int | None
) -> tuple[Vectors, str]:
    """Return float32[pages, numbers] and their fingerprint, from several calls where a server takes less at once."""
    size = min(len(pages), service.settings.max_pages_per_request, service.settings.page_queue)
    parts: list[Vectors] = []
    fingerprint, done = "", 0
    while done < len(pages):
        try:
            answer = client.embed_pages(pages[done : done + size], dimension)
        except TooLargeError:  # the server's own limit, which cannot be known before
            if size == 1:
                raise
            size = (size + 1) // 2
            continue
        if fingerprint not in ("", answer.fingerprint):
            raise NotReadyError("the server was started with another model meanwhile: search again", retry_after=1)
        fingerprint, done = answer.fingerprint, done + size
        parts.append(answer.vectors)
    return np.concatenate(parts), fingerprint


def rank_parts_as_json(
    service: Service, query: str, page_id: str, collection: CollectionKey, target: str | None, dimension: int | None
) -> dict[str, Any]:
    """Return the ranked parts of a page as the API does. Raises ServingError."""
    found = rank_parts(
        service, lambda client: service.embed_question(client, Question(query)), collection, page_id, target, dimension
    )
    return {
        "tiles": [
            {"box": [round(edge, 6) for edge in part.box], "score": round(part.score, 6)} for part in found.parts
        ],
        "best": None if found.best is None else found.parts.index(found.best),
        "note": found.note,
        "timings": {"embed": found.embed_ms, "total": found.total_ms},
    }


def render_detail(
    shown: OpenPage, found: RankedParts | None = None, notes: Markup = results.NOTHING, like: str = ""
) -> Markup:
    """Render one page in full; where no line is known to answer, with a button that ranks its parts, or with these.

    `notes`: what went wrong. `like`: the page that was asked with instead of a question.
    """
    if found is not None:
        return results.render_detail(shown, overlay=render_overlay(found), notes=render_found(found, like))
    count = len(cut_page(shown.page.width, shown.page.height))
    is_first = shown.hit is not None and shown.hit.by_words
    if shown.line is None and not shown.was_read and not is_first and count > 1:
        notes = render_template("search/where_button.html", page=shown.page, count=count) + notes
    return results.render_detail(shown, notes=notes)


def render_found(found: RankedParts, like: str = "") -> Markup:
    scores, best = [part.score for part in found.parts], found.best
    took = f"{found.total_ms / 1000:.1f} s" if found.total_ms >= 1000 else f"{found.total_ms:.0f} ms"
    said = "All parts score" if best is None else "Scores range from"
    spread = f"{said} {min(scores):.3f} to {max(scores):.3f}."
    told = {"best": "" if best is None else describe_place(best.box), "note": found.note, "scores": spread}
    return render_template("search/where_found.html", like=like, took=took, **told)


def render_overlay(found: RankedParts) -> Markup:
    """Render what is drawn over the whole page; nothing where no part stands out."""
    if found.best is None:
        return results.NOTHING
    cells = [([1000 * edge for edge in box], level) for box, level in compute_heat(found.parts) if level > 0]
    left, top, right, bottom = found.best.box
    best = f"left:{left:.2%};top:{top:.2%};width:{right - left:.2%};height:{bottom - top:.2%}"
    return render_template("search/parts.html", cells=cells, best=best)


def connect(service: Service, detail: gr.HTML, inputs: Sequence[Component]) -> None:
    """Connect the button. `inputs`: last search, collection, target."""

    def find(last: LastSearch, collection: str, target: str, event: gr.EventData) -> str:
        return orjson.dumps([str(event.token), show_parts(service, last, collection, target, str(event.page))]).decode()

    # The user may have gone on to another page: the answer waits here until the browser has looked whether its button
    # is still there. Gradio's `cancels` comes too early for an event that has only just begun.
    answer = gr.Textbox(visible="hidden", container=False)
    options: dict[str, Any] = {**PRIVATE, "trigger_mode": "multiple"}
    looking = detail.select(find, list(inputs), [answer], concurrency_limit=4, **options)
    looking.success(None, [answer, detail], [detail], js=call_script("showParts"), **options)
    looking.failure(None, None, None, js=call_script("forgetParts"), **options)


def show_parts(service: Service, last: LastSearch, collection: str, target: str, page_id: str) -> Markup:
    """Render the page in full with its parts, or with what went wrong."""
    catalogue = service.library.catalogue
    try:
        shown = open_page(service, last, page_id)
    except NotFoundError:
        return results.render_page_gone()
    like = ""
    with suppress(NotFoundError):
        like = results.quote_page(catalogue.read_page(last.question.like)) if last.question.like else ""
    try:
        key = service.ownership.find_key(collection)
        if not last.query:  # first results: the server has not answered
            raise NotReadyError("parts are ranked once the server has answered the question", retry_after=1)
        known = last.vector, last.fingerprint
        found = rank_parts(service, lambda _: known, key, page_id, target, last.dimension)
    except NotFoundError:
        return results.render_page_gone()
    except ServingError as error:
        notes = results.render_error("The parts were not ranked", error)
        return render_detail(shown, notes=notes)
    return render_detail(shown, found, like=like)
