"""The page's API for gradio_client and any HTTP client: stateless calls, JSON in and out."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.components.api_component import Api
from gradio.events import api

from bench.coldstart.target import TargetError
from serving.errors import BadValueError, NotReadyError, ServingError
from serving.library.records import Hit, StoredPage
from ui.access.uploads import parse_uploads, rename_uploads
from ui.coldstart import tab
from ui.core.service import Question, Service, milliseconds_since
from ui.search import page_regions
from ui.search.question import parse_number, parse_selection, parse_texts

P = ParamSpec("P")
R = TypeVar("R")


class PageApi:
    """The endpoints: one method for each, under its name."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def add_pages(
        self,
        files: list[gr.FileData],
        collection: str = "my-pages",
        target: str | None = None,
        names: list[str] | None = None,
    ) -> dict[str, Any]:
        """Add images, PDFs and zips to a collection. Returns what was added, and which files were skipped and why.

        Args:
            files: uploaded files (PNG, JPEG, WebP, TIFF, GIF, BMP, AVIF, JPEG 2000, PDF or zip)
            collection: its id, or its name; a collection of that name is created if there is none
            target: name of the server that embeds the pages, if there are several; default: the first
            names: names that the files get, one for each, which may have folders; default: their own
        """
        server, given = self._service.targets.get(target), rename_uploads(parse_uploads(files), names)
        job = self._service.ingestor.start(self._service.ownership.find_or_create(collection).key, given, server)
        job.finished.wait()
        if job.state == "failed":
            kept = f" ({len(job.added)} pages were added before that and are kept)" if job.added else ""
            raise ServingError(job.error + kept)
        if job.state == "stopped":
            raise NotReadyError("the page is stopping: this upload goes on when it is started again")
        return {
            "added": [page_as_json(page) for page in sorted(job.added, key=lambda page: (page.file, page.page))],
            "skipped": [{"file": item.file, "reason": item.reason, "known": item.known} for item in job.skipped],
            "timings": {"total": round(job.seconds * 1000, 2)},
        }

    def search(
        self,
        query: str = "",
        image: gr.FileData | None = None,
        collection: str = "my-pages",
        top_k: int = 8,
        dimension: int | None = None,
        target: str | None = None,
        weight: float | None = None,
        like: str | None = None,
        minimum: float | None = None,
        files: list[str] | None = None,
        types: list[str] | None = None,
        folder: str | None = None,
        added_after: str | None = None,
    ) -> dict[str, Any]:
        """Find the pages of a collection that answer a question, best first.

        Args:
            query: the question in words; may be empty if an image is given
            image: an uploaded image to search with, alone or together with the words
            collection: its id, or its name
            top_k: how many pages at most, 1 to 50
            dimension: compare only this many dimensions; default: all
            target: name of the server that embeds the question, if there are several; default: the first
            weight: of the image when there are words too, 0 to 1; default: 0.5
            like: id of a page of the collection, to find others like it; leave query and image empty
            minimum: pages with a lower score are counted as hidden
            files: only pages of files of these names are ranked
            types: only pages of these types are ranked, by their files' names: pdf, image (any of the next), png, jpeg,
                webp, tiff, gif, bmp, avif, jp2, heic; or other
            folder: only pages of files in this folder, and the folders in it, by their names: manuals for
                manuals/pump/a.pdf
            added_after: only pages that were added then or later: a date or time as in ISO 8601, 2026-11-29 or
                2026-11-29T10:00Z; without a zone, by the clock of the page's machine
        """
        given = parse_uploads(image)
        picture = given[0].path if given else None
        share, least = parse_number(weight, "weight", "weight"), parse_number(minimum, "minimum", "minimum")
        selection = parse_selection(files, types, folder, added_after)
        question = Question(query or "", picture, 0.5 if share is None else share, str(like or ""), least, selection)
        found = self._service.search(
            question,
            self._service.ownership.find_key(collection),
            as_int(top_k, "top_k"),
            as_dimension(dimension),
            target,
        )
        return {
            "hits": [hit_as_json(hit) for hit in found.hits],
            "hidden": found.below,
            "ranked": found.ranked,
            "timings": found.timings,
        }

    def first_results(
        self,
        query: str,
        collection: str = "my-pages",
        top_k: int = 8,
        files: list[str] | None = None,
        types: list[str] | None = None,
        folder: str | None = None,
        added_after: str | None = None,
    ) -> dict[str, Any]:
        """Find pages by the words of their text, in milliseconds and whatever the servers do: none is asked or woken.

        What /search finds is better. A page without text is not found here.

        Args:
            query: the question in words
            collection: its id, or its name
            top_k: how many pages at most, 1 to 50
            files: only pages of files of these names
            types: only pages of these types, as in /search
            folder: only pages of files in this folder, as in /search
            added_after: only pages that were added then or later, as in /search
        """
        began = time.perf_counter()
        question = Question(str(query or ""), selection=parse_selection(files, types, folder, added_after))
        key = self._service.ownership.find_key(collection)
        hits = self._service.find_first(question, key, as_int(top_k, "top_k"))
        return {
            "hits": [hit_as_json(hit) for hit in hits],
            "from": "words",
            "timings": {"total": milliseconds_since(began)},
        }

    def score_pages(
        self,
        queries: list[str],
        collection: str = "my-pages",
        dimension: int | None = None,
        target: str | None = None,
        files: list[str] | None = None,
        types: list[str] | None = None,
        folder: str | None = None,
        added_after: str | None = None,
    ) -> dict[str, Any]:
        """Ask many questions at once. Returns the score of each question with every page: scores[question][page].

        Args:
            queries: the questions, 50 at most; empty ones and repetitions are left out
            collection: its id, or its name
            dimension: compare only this many dimensions; default: all
            target: name of the server that embeds the questions, if there are several; default: the first
            files: only pages of files of these names
            types: only pages of these types, as in /search
            folder: only pages of files in this folder, as in /search
            added_after: only pages that were added then or later, as in /search
        """
        asked = parse_texts(queries, "queries")
        found = self._service.score_pages(
            asked,
            self._service.ownership.find_key(collection),
            parse_selection(files, types, folder, added_after),
            as_dimension(dimension),
            target,
        )
        return {
            "queries": found.queries,
            "pages": [page_as_json(page) for page in found.pages],
            "scores": [[round(float(score), 6) for score in row] for row in found.values],
            "timings": found.timings,
        }

    def where(
        self,
        query: str,
        page: str,
        collection: str = "my-pages",
        dimension: int | None = None,
        target: str | None = None,
    ) -> dict[str, Any]:
        """Estimate where on a page the answer is, for servers that see a page and read no lines.

        The page is cut into overlapping parts, and each is ranked on its own. Returns them row by row from the upper
        left.

        Args:
            query: the question in words
            page: id of a page of the collection, as /search returns it
            collection: its id, or its name
            dimension: compare only this many dimensions; default: all
            target: name of the server that embeds the parts, if there are several; default: the first
        """
        return page_regions.rank_parts_as_json(
            self._service,
            str(query or ""),
            str(page),
            self._service.ownership.find_key(collection),
            target,
            as_dimension(dimension),
        )

    def delete_pages(self, collection: str, ids: list[str]) -> dict[str, Any]:
        """Delete pages of a collection by their ids. Returns which were deleted and which were not there.

        Args:
            collection: its id, or its name
            ids: page ids, as /search and /add_pages return them
        """
        wanted = parse_page_ids(ids)
        gone = self._service.delete_pages(self._service.ownership.find_key(collection), wanted)
        return {"deleted": gone, "missing": [page_id for page_id in wanted if page_id not in gone]}

    def scaledown(self, target: str | None = None) -> dict[str, Any]:
        """Stop a server's worker now. Requests in progress are finished first; the next question starts it again.

        Args:
            target: name of the server, if there are several; default: the first
        """
        self._service.library.check_writable()
        try:
            tab.scale_down(self._service.targets.get(target))
        except (TargetError, OSError) as error:
            raise NotReadyError(f"the worker was not stopped: {error}", retry_after=5) from None
        return {"status": "zero"}

    def start_bench(
        self, target: str | None = None, num_warmup: int = 10, test_scaledown: bool = True
    ) -> dict[str, Any]:
        """Measure cold starts of a server: it is scaled down three times, or six. Returns the run's name at once.

        Args:
            target: name of the server, if there are several; default: the first
            num_warmup: warm requests after each cold one, 0 to 1000
            test_scaledown: scale down once more after the warm ones
        """
        warm = as_int(num_warmup, "num_warmup")
        if not 0 <= warm <= 1000:
            raise BadValueError("num_warmup is 0 to 1000", param="num_warmup")
        try:
            running = tab.start_run(self._service, target, tab.SERVER, 3, warm, bool(test_scaledown))
        except OSError as error:
            raise NotReadyError(f"no run was started: {error}", retry_after=5) from None
        return {"run": running.id}

    def bench_run(self, id: str) -> dict[str, Any]:
        """Return the state of a run and its result file so far, which is complete after every sample.

        Args:
            id: the run's name, as /start_bench returns it
        """
        return self._service.runs.as_json(str(id))


def build(service: Service) -> None:
    endpoints = PageApi(service)
    # A call holds a thread while it waits: few of the long ones, so that the page's own events find theirs.
    for function, at_once in (
        (endpoints.add_pages, 4), (endpoints.search, 12), (endpoints.first_results, 12),
        (endpoints.score_pages, 4), (endpoints.where, 4),
        (endpoints.delete_pages, 4), (endpoints.scaledown, 2), (endpoints.start_bench, 2), (endpoints.bench_run, 4),
    ):  # fmt: skip
        api(as_gradio_errors(function), api_name=function.__name__, concurrency_limit=at_once)


class PageBlocks(gr.Blocks):
    """Blocks whose endpoints for programs have the defaults of their functions for inputs that a caller leaves out."""

    def validate_inputs(self, block_fn: BlockFunction, inputs: list[Any]) -> None:
        if block_fn.fn is not None and block_fn.inputs and all(isinstance(wanted, Api) for wanted in block_fn.inputs):
            left_out = [*signature(block_fn.fn).parameters.values()][len(inputs) :]
            if all(parameter.default is not Parameter.empty for parameter in left_out):
                inputs += [parameter.default for parameter in left_out]
        super().validate_inputs(block_fn, inputs)


def as_gradio_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function with our errors as Gradio's: the caller reads the message and not just "error"."""

    @wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ServingError as error:
            raise gr.Error(error.message, print_exception=False) from error

    return inner


def hit_as_json(hit: Hit) -> dict[str, Any]:
    """Return a result; `line` is the text of the line that answers best, where the server reads lines."""
    line = hit.line.text if hit.line else None
    return {"rank": hit.rank, "score": round(hit.score, 6), **page_as_json(hit.page), "line": line}


def page_as_json(page: StoredPage) -> dict[str, Any]:
    return {"id": page.id, "file": page.file, "page": page.page}


def parse_page_ids(ids: object) -> list[str]:
    if not isinstance(ids, list):
        raise BadValueError("ids is a list of page ids", param="ids")
    return [str(page_id) for page_id in ids]


def as_int(value: object, param: str) -> int:
    """Return a whole number of JSON, which may arrive as a float. Raises BadValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or int(value) != value:
        raise BadValueError(f"{param} is a whole number", param=param)
    return int(value)


def as_dimension(value: object) -> int | None:
    return None if value is None else as_int(value, "dimension")
