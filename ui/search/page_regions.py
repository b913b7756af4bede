"""Where on a page: its picture is cut into overlapping parts, and each is ranked by itself with the question's vector.

For servers that give a page one vector and no lines. It is an estimate: the model saw the page as a whole, not these
parts. Geometry and scores first, then how they look, then the event of the page.
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
from serving.documents.images import decode_image, encode_jpeg
from serving.documents.page import Box, Line
from serving.embedders.base import Vectors
from serving.errors import BadValueError, NotFoundError, NotReadyError, ServingError, TooLargeError
from serving.library.catalogue import FingerprintError
from serving.library.records import CollectionKey, Hit
from serving.library.vectors import truncate_vectors
from ui.components import results
from ui.components.events import PRIVATE
from ui.components.scripts import call_script
from ui.components.templates import render_template
from ui.core.service import Question, Service, milliseconds, sized
from ui.search.question import LastSearch, name_page

FEWEST, MOST = 9, 16
"""Parts of a page: fewer say little more than the page does, more take longer and see too little of what is around."""
OVERLAP = 0.25
"""Of the way from one part to the next, that each is longer: a line on a border is whole in one of the two."""
SMALLEST = 48
"""Pixels of a part's side: two lines of small print. What is smaller shows a model nothing."""
LEVEL = 0.005
"""Scores closer than this are one: the same picture may differ by a thousandth between two runs on a GPU."""
ESTIMATE = (
    "An estimate: the page was cut into {} parts and each was ranked on its own. It does not show what the model"
    " looked at."
)
GONE = "It was deleted or moved meanwhile. Search again."


@dataclass(frozen=True)
class Part:
    box: Box
    score: float
    """Cosine with the question."""


@dataclass(frozen=True)
class RankedParts:
    """What `rank_parts` found. `tiles` row by row from the upper left."""

    tiles: tuple[Part, ...]
    embed_ms: float
    total_ms: float

    @property
    def best(self) -> Part | None:
        """None where no part stands out."""
        scores = [tile.score for tile in self.tiles]
        return None if max(scores) - min(scores) < LEVEL else self.tiles[int(np.argmax(scores))]

    @property
    def note(self) -> str:
        return ESTIMATE.format(len(self.tiles))


def choose_grid(width: int, height: int) -> tuple[int, int]:
    """Columns and rows for a page of this many pixels: as square as can be, at least FEWEST where they are not too
    small."""
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
    """From 0 to 1 in parts of one length, each reaching into the next."""
    step = 1 / (count + OVERLAP)
    return [(n * step, 1.0 if n == count - 1 else (n + 1 + OVERLAP) * step) for n in range(count)]


def cut_page(width: int, height: int) -> list[Box]:
    columns, rows = choose_grid(width, height)
    return [(left, top, right, bottom) for top, bottom in split_axis(rows) for left, right in split_axis(columns)]


def crop_part(picture: Image.Image, box: Box) -> Image.Image:
    left, top, right, bottom = box
    width, height = picture.size
    return picture.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))


def compute_heat(tiles: Sequence[Part]) -> list[tuple[Box, float]]:
    """The page without overlaps: each cell with the mean of the parts that cover it, 0 the weakest cell and 1 the best.

    All 0 where no part stands out.
    """
    across = sorted({edge for tile in tiles for edge in (tile.box[0], tile.box[2])})
    down = sorted({edge for tile in tiles for edge in (tile.box[1], tile.box[3])})
    cells = [(left, top, right, bottom) for top, bottom in pairwise(down) for left, right in pairwise(across)]
    means = np.array([np.mean([tile.score for tile in tiles if covers(tile.box, cell)]) for cell in cells])
    spread = float(means.max() - means.min())
    levels = (means - means.min()) / spread if spread >= LEVEL else np.zeros(len(means))
    return [(cell, float(level)) for cell, level in zip(cells, levels, strict=True)]


def covers(box: Box, cell: Box) -> bool:
    x, y = (cell[0] + cell[2]) / 2, (cell[1] + cell[3]) / 2
    return box[0] < x < box[2] and box[1] < y < box[3]


def describe_place(box: Box) -> str:
    """In words, by thirds of the page."""
    thirds = [min(2, int(3 * (box[n] + box[n + 2]) / 2)) for n in (0, 1)]
    across, down = ("left", "middle", "right")[thirds[0]], ("upper", "middle", "lower")[thirds[1]]
    return "the middle" if across == down else f"{down} {across}"


# Asking


def rank_parts(
    service: Service,
    query: Callable[[EmbeddingClient], tuple[Vectors, str]],
    collection: CollectionKey,
    page_id: str,
    target: str | None = None,
    dimension: int | None = None,
) -> RankedParts:
    """Each part of a page with a question, of whose vector the first `dimension` numbers are compared.

    `query` gives that vector, float32[n], and its fingerprint; it is called when all is known to fit, and may wake the
    server. Raises ServingError: NotFoundError where the page is not in the collection, also if it went meanwhile;
    FingerprintError where the server's vectors cannot be compared with the collection's or the question's.
    """
    began = time.perf_counter()
    chosen = service.targets.of(target)
    sized(chosen, dimension)
    picture = read_picture(service, collection, page_id)
    cuts = cut_page(*picture.size)
    if len(cuts) == 1:
        size = f"{picture.width} x {picture.height}"
        raise BadValueError(f"the page has only {size} pixels: there are no parts to look at", param="page")
    chosen.check(service.library, collection)
    vector, fingerprint = query(chosen.client)
    pages = [PagePayload(encode_jpeg(crop_part(picture, box))) for box in cuts]
    sent = time.perf_counter()
    vectors, here = embed_parts(chosen.client, pages, service, dimension)
    embed = milliseconds(sent)
    if not service.library.catalogue.are_comparable(here, fingerprint):
        raise FingerprintError(
            f"the question was asked of another embedder ({fingerprint}, here {here}): search again", param="target"
        )
    check_page(service, collection, page_id)
    scores = vectors @ truncate_vectors(vector, dimension)
    tiles = tuple(Part(box, float(score)) for box, score in zip(cuts, scores, strict=True))
    return RankedParts(tiles, embed, milliseconds(began))


def read_picture(service: Service, collection: CollectionKey, page_id: str) -> Image.Image:
    """A page's picture. Raises NotFoundError; BadValueError for a page whose lines are known."""
    check_page(service, collection, page_id)
    if service.library.catalogue.read_page(page_id).read:
        raise BadValueError("the text of this page was read: a search marks the line that answers", param="page")
    try:
        data = service.library.pictures.locate_picture(page_id).read_bytes()
    except OSError:
        raise NotFoundError("the picture of this page is gone", param="page") from None
    return decode_image(data, service.settings)


def check_page(service: Service, collection: CollectionKey, page_id: str) -> None:
    """Raises NotFoundError."""
    try:
        service.library.catalogue.read_vector(collection, page_id)
    except NotFoundError as error:
        raise NotFoundError(error.message, param="page" if error.param == "like" else error.param) from None


def embed_parts(
    client: EmbeddingClient, pages: Sequence[PagePayload], service: Service, dimension: int | None
) -> tuple[Vectors, str]:
    """float32[pages, numbers] and their fingerprint: by one call, or a few where a server takes less at once."""
    size = min(len(pages), service.settings.max_pages_per_request, service.settings.page_queue)
    parts: list[Vectors] = []
    fingerprint, done = "", 0
    while done < len(pages):
        try:
            answer = client.embed_pages(pages[done : done + size], dimension)
        except TooLargeError:  # its own limit, which it tells nobody before
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
    """For the API. Raises ServingError."""

    def vector(client: EmbeddingClient) -> tuple[Vectors, str]:
        return service.vector(client, Question(query))

    parts = rank_parts(service, vector, collection, page_id, target, dimension)
    return {
        "tiles": [
            {"box": [round(edge, 6) for edge in tile.box], "score": round(tile.score, 6)} for tile in parts.tiles
        ],
        "best": None if parts.best is None else parts.tiles.index(parts.best),
        "note": parts.note,
        "timings": {"embed": parts.embed_ms, "total": parts.total_ms},
    }


# How it looks


def render_detail(
    hit: Hit, lines: Sequence[Line], parts: RankedParts | None = None, told: Markup = results.NOTHING, like: str = ""
) -> Markup:
    """Render one page in full; where nobody has read it, with a button that looks at its parts, or what that has shown.

    `told`: what went wrong. `like`: the page that stood in for a question.
    """
    if parts is not None:
        return results.render_detail(hit, lines, over=render_overlay(parts), told=render_found(parts, like))
    count = len(cut_page(hit.page.width, hit.page.height))
    if hit.page.read or count == 1:
        return results.render_detail(hit, lines, told=told)
    return results.render_detail(
        hit, lines, told=render_template("search/where_button.html", page=hit.page, count=count) + told
    )


def render_found(parts: RankedParts, like: str = "") -> Markup:
    scores, best = [tile.score for tile in parts.tiles], parts.best
    took = f"{parts.total_ms / 1000:.1f} s" if parts.total_ms >= 1000 else f"{parts.total_ms:.0f} ms"
    said = "All parts score" if best is None else "Scores range from"
    return render_template(
        "search/where_found.html", best="" if best is None else describe_place(best.box), note=parts.note,
        scores=f"{said} {min(scores):.3f} to {max(scores):.3f}.", like=like, took=took,
    )  # fmt: skip


def render_overlay(parts: RankedParts) -> Markup:
    """Render what is drawn over the whole sheet; nothing where no part stands out."""
    if parts.best is None:
        return results.NOTHING
    cells = [([1000 * edge for edge in box], level) for box, level in compute_heat(parts.tiles) if level > 0]
    left, top, right, bottom = parts.best.box
    best = f"left:{left:.2%};top:{top:.2%};width:{right - left:.2%};height:{bottom - top:.2%}"
    return render_template("search/parts.html", cells=cells, best=best)


# The event


def connect(service: Service, detail_widget: gr.HTML, inputs: Sequence[Component]) -> None:
    """`inputs`: what was asked, collection, target."""

    def where(asked: LastSearch, collection: str, target: str, event: gr.EventData) -> str:
        found = show_parts(service, asked, collection, target, str(event.page))
        return orjson.dumps([str(event.token), found]).decode()

    # Whoever looks has gone on to another page, maybe: what is found waits here until the browser has looked whether
    # its button is still there. Gradio's `cancels` comes too early for an event that has only just begun.
    answer = gr.Textbox(visible="hidden", container=False)
    options: dict[str, Any] = {**PRIVATE, "trigger_mode": "multiple"}
    looking = detail_widget.select(where, list(inputs), [answer], concurrency_limit=4, **options)
    looking.success(None, [answer, detail_widget], [detail_widget], js=call_script("showParts"), **options)
    looking.failure(None, None, None, js=call_script("forgetParts"), **options)


def show_parts(service: Service, asked: LastSearch, collection: str, target: str, page_id: str) -> Markup:
    """Render the page in full with its parts, or with what went wrong."""
    hit = next((hit for hit in asked.hits if hit.page.id == page_id), None)
    if hit is None:
        return results.render_notice("This page is gone", GONE, "error")
    like = ""
    with suppress(NotFoundError):
        like = name_page(service.library.catalogue.read_page(asked.question.like)) if asked.question.like else ""
    try:
        key = service.shelf.key(collection)
        known = asked.vector, asked.fingerprint
        parts = rank_parts(service, lambda _: known, key, page_id, target, asked.dimension)
    except NotFoundError:
        return results.render_notice("This page is gone", GONE, "error")
    except ServingError as error:
        lines = service.library.catalogue.read_lines(page_id)
        return render_detail(
            hit, lines, told=results.render_notice("The parts were not ranked", error.message, "error")
        )
    return render_detail(hit, service.library.catalogue.read_lines(page_id), parts, like=like)
