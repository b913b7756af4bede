"""What a browser sends when it asks, as a Question; and what to say where nothing was found. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from markupsafe import Markup

from serving.embedders.base import Vectors
from serving.errors import BadValueError
from serving.library.records import ABSENT, ALL_PAGES, CollectionKey, Hit, Selection
from serving.settings import MAX_TOP_K
from ui.access.uploads import parse_uploads
from ui.components.results import render_notice
from ui.core.service import Question, SearchResult

TOP_K = 8
ANY_TIME = "any"


@dataclass(frozen=True, eq=False)
class LastSearch:
    """The search whose results are shown."""

    question: Question = field(default_factory=Question)
    hits: tuple[Hit, ...] = ()
    query: bytes = field(default=b"", repr=False)
    """The question's vector, fp32, so that it can be ranked again without a model: 10 kB of a session at most."""
    fingerprint: str = ""
    dimension: int | None = None
    collection: CollectionKey = ABSENT
    """Which was searched: whoever has seen its pages may turn to others of it."""
    id: str = ""
    """By which the browser's history finds it again."""
    documents: dict[frozenset[str], tuple[Hit, ...]] = field(default_factory=dict, repr=False)
    """The best pages of those of its documents that were opened, by the ids of all their pages."""

    @property
    def vector(self) -> Vectors:
        return np.frombuffer(self.query, np.float32)


def parse_question(query: str, image: object, weight: object, minimum: object, *filters: object) -> Question:
    """Return the question that a browser sent; an empty box is "". Raises BadValueError.

    `filters`: as for `parse_selection`.
    """
    given = parse_uploads(image)
    share = parse_number(None if weight == "" else weight, "the weight of the image")
    least = parse_number(None if minimum == "" else minimum, "the minimum score")
    return Question(
        query,
        given[0].path if given else None,
        0.5 if share is None else share / 100,
        minimum=least or None,  # a page's score may be below the slider's 0
        selection=parse_selection(*filters),
    )


def parse_selection(
    files: object = None, types: object = None, folder: object = None, added_after: object = None
) -> Selection:
    """Return the files, types, folder and time to search in. Raises BadValueError.

    `folder` may be a list with one at most, as the page sends it.
    """
    if isinstance(folder, list) and len(folder) <= 1:
        folder = folder[0] if folder else ""
    if not isinstance(folder, str | None):
        raise BadValueError("folder is a text", param="folder")
    within = parse_texts(files, "files"), parse_texts(types, "types"), folder or ""
    return Selection(*within, parse_time(added_after))


def parse_time(value: object) -> float | None:
    """Return seconds since 1970 of an ISO date or time, by this machine's clock where it names no zone.

    A number of days, as a text, is counted back from tonight: `1` is today. None for ANY_TIME. Raises BadValueError.
    """
    if value in (None, "", ANY_TIME):
        return None
    try:
        text = str(value) if isinstance(value, str) else ""
        if text.isascii() and text.isdigit() and len(text) < 4:
            today = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
            return (today - timedelta(days=int(text) - 1)).timestamp()
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        raise BadValueError(
            "added_after is a date or time like 2026-11-29 or 2026-11-29T10:00Z", param="added_after"
        ) from None


def parse_texts(value: object, param: str) -> tuple[str, ...]:
    """Return texts without repetitions; none for None. Raises BadValueError."""
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise BadValueError(f"{param} is a list of texts", param=param)
    return tuple(dict.fromkeys(value))


def parse_number(value: object, what: str, param: str | None = None) -> float | None:
    """Return a finite number, or None for None. Raises BadValueError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise BadValueError(f"{what} is a number", param=param)
    return float(value)


def parse_top_k(value: object) -> int:
    """Return how many pages to show, within the limits, from the widget or the address."""
    text = str(value)
    return min(MAX_TOP_K, max(1, int(text))) if text.isascii() and text.isdigit() and len(text) < 9 else TOP_K


def explain_no_hits(found: SearchResult, question: Question) -> Markup:
    """Render why no page was found, and what to do."""
    if found.hidden:
        best = f"The best page scores {found.hidden[0].score:.3f}: lower the minimum score to see it."
        return render_notice(f"No page reaches {question.minimum:g}", best)
    if question.selection != ALL_PAGES:
        return render_notice("No page matches the filter", "Remove something from the filter.")
    if question.like:
        return render_notice("There are no other pages", "This is the only page of the collection.")
    return render_notice(
        "This collection has no pages yet", "Drop images or PDFs into the box, or load the sample pages."
    )
