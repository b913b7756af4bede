"""Opens pages of the collection that was searched, and turns the pages of their documents. Asks no model."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import gradio as gr

from serving.errors import NotFoundError
from serving.library.catalogue import FingerprintError
from serving.library.records import CollectionKey, Hit
from serving.library.search import CANDIDATES
from ui.components.open_page import MOST_BEST, OpenPage, find_number, select_best, turn_pages
from ui.core.service import Service
from ui.search.question import LastSearch

TOKEN_CHARS = 40
LONGEST_NUMBER = 9


def has_page(service: Service, collection: CollectionKey, page_id: str) -> bool:
    """Return whether a page is in a collection."""
    with suppress(NotFoundError):
        return bool(page_id) and bool(service.library.catalogue.list_pages_beside(collection, page_id))
    return False


def open_page(service: Service, last: LastSearch, page_id: str) -> OpenPage:
    """Return a page of the collection that was searched. Raises NotFoundError, also if its picture is gone."""
    catalogue = service.library.catalogue
    beside = catalogue.list_pages_beside(last.collection, page_id)
    if not service.library.pictures.has_picture(page_id):
        raise NotFoundError("the picture of this page is gone", param="page")
    page, hit = catalogue.read_page(page_id), find_hit(last, page_id)
    best = find_best(service, last, frozenset(beside.values())) if page.pages > 1 else ()
    known = hit or next((other for other in best if other.page.id == page_id), None)
    if known is None:
        known = next(iter(rank_pages(service, last, frozenset([page_id]))), None)
    lines, was_read = catalogue.read_lines(page_id), catalogue.was_read(page_id)
    return OpenPage(page, lines, known, hit, tuple(beside), best, was_read=was_read)


def find_hit(last: LastSearch, page_id: object) -> Hit | None:
    return next((hit for hit in last.hits if hit.page.id == page_id), None)


def find_best(service: Service, last: LastSearch, ids: frozenset[str]) -> tuple[Hit, ...]:
    """Return the pages of a document that answer the last question: its filters do not count, its minimum does."""
    if ids not in last.documents:
        least = last.question.minimum
        hits = select_best(rank_pages(service, last, ids))
        last.documents[ids] = tuple(hit for hit in hits if least is None or hit.score >= least)
    return last.documents[ids]


def rank_pages(service: Service, last: LastSearch, ids: frozenset[str]) -> list[Hit]:
    """Return some pages of the collection ranked for the last question; none where there was none."""
    if not last.query:
        return []
    ids -= {last.question.like}
    try:
        known = last.collection, last.vector, CANDIDATES, last.fingerprint
        found = service.library.ranking.search_among(*known, ids, last.dimension, MOST_BEST)
        best = service.mark_lines(last.question, last.collection, found[:MOST_BEST])
        return [*best, *found[MOST_BEST:]]
    except FingerprintError:  # the collection was emptied meanwhile, and filled by another embedder
        return []


def turn_to(service: Service, last: LastSearch, event: gr.EventData) -> OpenPage:
    """Return the page that a browser asks for: `page`, or another one of its document, by `step` or by `number`.

    Raises NotFoundError.
    """
    page_id, told = str(event.page), ""
    step, number = parse_whole(event.step), parse_whole(event.number)
    if step is not None or number is not None:
        catalogue = service.library.catalogue
        beside = catalogue.list_pages_beside(last.collection, page_id)
        page, numbers = catalogue.read_page(page_id), tuple(beside)
        if number is None:
            found, told = turn_pages(numbers, page.page, step or 0)
        else:
            found, told = find_number(numbers, number, page.pages)
        page_id = beside[found]
    return replace(open_page(service, last, page_id), told=told, token=str(event.token)[:TOKEN_CHARS])


def parse_whole(value: object) -> int | None:
    """Return a whole number that a browser sent, None for anything else."""
    text = str(value)
    return int(text) if text.removeprefix("-").isdecimal() and len(text) <= LONGEST_NUMBER else None
