"""The client of every worker, used by the page and the bench.

Obeys Retry-After (429, 503) and follows 303 (Modal answers it after 150 s of waiting) until its deadline, on the same
server only. Thread-safe: each thread keeps its own connection. Knows nothing of how a worker is started.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import orjson
import requests
from pydantic import AliasChoices, Field, TypeAdapter

from serving.documents.page import Line
from serving.embedders.base import Vectors
from serving.errors import FOREIGN, BadValueError, NotReadyError, ServingError, make_error
from serving.http.redirects import FOLLOWED, NO_ADDRESS, NO_HEADERS, check_headers, find_redirect, make_redirect_error

RETRY_S = 0.5
"""Pause before a retry where the worker names none: it is starting, or its port is not bound yet."""
LOST_TRIES = 3
"""Times that a request is sent whose server is lost while it has it: what stands before that one answers with an error
of its own, as Modal's edge and Ray's proxy do with a bare 500. A page that is embedded twice is the same."""
CONNECT_S = 5.0


@dataclass(frozen=True, eq=False, slots=True)
class PagePayload:
    """A page to embed: encoded image bytes, the text it is known to have, or both."""

    image: bytes | None = None
    lines: tuple[Line, ...] | None = None


@dataclass(frozen=True, eq=False, slots=True)
class PageText:
    """A page's lines, None if no text was looked for. `vectors` is float32[len(lines), dimension] or None."""

    lines: tuple[Line, ...] | None = None
    vectors: Vectors | None = None

    def or_layer(self, layer: tuple[Line, ...] | None) -> tuple[Line, ...] | None:
        """Return the lines, or those of the page's own text layer, if any, where the server has looked for none."""
        return (layer or None) if self.lines is None else self.lines


@dataclass(frozen=True, eq=False)
class Answer:
    """`vectors` is float32[n, dimension], pages first; `seconds` is what the caller waited, retries included."""

    vectors: Vectors
    pages: list[PageText]
    model: str
    fingerprint: str
    seconds: float
    retries: int
    boot_id: str
    start_kind: str
    boot_requests: int
    server_ms: dict[str, float]


@dataclass(frozen=True)
class ModelInfo:
    """The model of a worker, as `GET /` has it. The page's files have its name under `name`."""

    name: Annotated[str, Field(validation_alias=AliasChoices("model", "name"))]
    title: str
    dimension: int
    dimensions: tuple[int, ...]
    reads_text: bool
    fingerprint: str
    scripts: tuple[str, ...] = ()
    """Scripts of writing that are read off pictures; empty for BiGemma3 and for older workers."""


MODEL_INFO = TypeAdapter(ModelInfo)


class EmbeddingClient:
    """Calls one server; each call waits until there is an answer, or its deadline is over."""

    def __init__(
        self,
        url: str,
        key: str = "",
        deadline_s: float = 180.0,
        unreachable_s: float = float("inf"),
        *,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        """A call waits at most `deadline_s`, and at most `unreachable_s` of it without anything that answers at all.

        `headers` are sent with every call, such as those that Modal's edge asks for (`select_proxy_headers`). Raises
        BadValueError for an invalid address or header.
        """
        if not url.startswith(("http://", "https://")):
            raise BadValueError(f"{url!r} is not an address: it begins with http:// or https://")
        self.headers = check_headers(headers)
        self.url = url.rstrip("/")
        """May be changed while calls wait: a worker that was started again has another port."""
        self.deadline_s = deadline_s
        self.unreachable_s = unreachable_s
        self.key = key
        self.on_refusal: Callable[[], AbstractContextManager[None]] = nullcontext
        """Entered for as long as a request that was refused (429, 503) waits to be sent again."""
        self._local = threading.local()
        self._closed = threading.Event()

    def close(self) -> None:
        """End the waiting of all calls that retry."""
        self._closed.set()

    def fetch_info(self, deadline_s: float | None = None) -> ModelInfo:
        """Return the worker's description, without waking one. Raises ServingError, also for a foreign server."""
        response, _ = self._call("GET", "/", None, self.deadline_s if deadline_s is None else deadline_s)
        try:
            return MODEL_INFO.validate_json(response.content)
        except ValueError:
            raise ServingError(f"{self.url} is not a Dormouse worker", code="not_a_worker") from None

    def embed_queries(self, texts: Sequence[str], dimension: int | None = None) -> Answer:
        """Return vectors of queries. Raises ServingError."""
        return self._embed({"texts": list(texts), "dimensions": dimension})

    def embed_pages(
        self, pages: Sequence[PagePayload], dimension: int | None = None, *, explain: bool = False
    ) -> Answer:
        """Return vectors of pages; `explain` adds lines, with vectors where these are compared. Raises ServingError."""
        return self._embed(
            {"pages": [encode_page(page) for page in pages], "explain": explain, "dimensions": dimension}
        )

    def _embed(self, body: dict[str, Any]) -> Answer:
        began = time.perf_counter()
        response, retries = self._call("POST", "/embed", orjson.dumps(body), self.deadline_s)
        seconds = time.perf_counter() - began
        try:
            found = orjson.loads(response.content)
            vectors = np.asarray(found["embeddings"], dtype=np.float32)
            pages = [decode_page_text(page["lines"]) for page in found.get("pages", [])]
            headers = response.headers
            return Answer(
                vectors,
                pages,
                found["model"],
                found["fingerprint"],
                seconds,
                retries,
                headers["X-Boot-Id"],
                headers["X-Start-Kind"],
                int(headers["X-Boot-Requests"]),
                parse_server_timing(headers.get("Server-Timing", "")),
            )
        except (ValueError, KeyError, TypeError):
            raise ServingError(f"{self.url} did not answer as a Dormouse worker does", code="not_a_worker") from None

    def _call(self, method: str, path: str, body: bytes | None, deadline_s: float) -> tuple[requests.Response, int]:
        """Return the answer and the number of retries. Raises ServingError."""
        heard = time.monotonic()
        until, retries, lost = heard + deadline_s, 0, 0
        while True:
            late = NotReadyError(f"the worker at {self.url} did not answer within {deadline_s:g} s", code="timeout")
            if (left := until - time.monotonic()) <= 0:
                raise late
            try:
                found = self._send_once(method, path, body, left)
            except requests.ReadTimeout:
                raise late from None
            if found is None:
                message = f"nothing answers at {self.url}: is the worker running?"
                error: ServingError = NotReadyError(message, code="unreachable")
                if time.monotonic() - heard >= self.unreachable_s:
                    raise error
            elif found.ok:
                return found, retries
            else:
                heard = time.monotonic()
                error = make_error(found.status_code, found.content, read_retry_after(found))
                lost += error.code == FOREIGN
            wait = error.retry_after or RETRY_S
            passes = error.status in (429, 503) or (error.code == FOREIGN and lost < LOST_TRIES)
            if not passes or time.monotonic() + wait >= until or self._waits_in_vain(wait):
                raise error
            retries += 1

    def _waits_in_vain(self, seconds: float) -> bool:
        """Wait, and return whether the client was closed meanwhile."""
        with self.on_refusal():
            return self._closed.wait(seconds)

    def _send_once(self, method: str, path: str, body: bytes | None, left: float) -> requests.Response | None:
        """Return the answer, None if nothing answers. Raises ServingError, ReadTimeout."""
        try:
            return self._send(method, self.url + path, body, left)
        except requests.ReadTimeout:
            raise
        except requests.exceptions.InvalidURL:
            raise BadValueError(f"{self.url!r} is not an address") from None
        except (requests.exceptions.InvalidHeader, UnicodeEncodeError):
            raise BadValueError("the key of the API is not one line of letters") from None
        except requests.RequestException:
            return None
        except ValueError:  # requests reads where a redirect points before it is asked to
            raise make_redirect_error(self.url, NO_ADDRESS) from None

    def _send(self, method: str, url: str, body: bytes | None, left: float) -> requests.Response:
        """Return the answer, after 303s to it. Raises ServingError for a redirect to another server."""
        ends = time.monotonic() + left
        headers = {**self.headers, "Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        for _ in range(FOLLOWED):
            wait = max(0.01, ends - time.monotonic())
            response = self._find_session().request(
                method, url, data=body, headers=headers, timeout=(min(CONNECT_S, wait), wait), allow_redirects=False
            )
            if (after := find_redirect(url, response)) is None:
                return response
            method, url, body = "GET", after, None
        raise ServingError(f"{self.url} redirected one call {FOLLOWED} times", code="redirected")

    def _find_session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False  # a proxy from the environment must not see loopback traffic or keys
        found: requests.Session = self._local.session
        return found


def encode_page(page: PagePayload) -> dict[str, Any]:
    """Return a page as `POST /embed` takes it."""
    image, lines = page.image, page.lines
    return {
        "image": None if image is None else base64.b64encode(image).decode(),
        "lines": None if lines is None else [{"text": line.text, "box": line.box} for line in lines],
    }


def decode_page_text(found: list[dict[str, Any]] | None) -> PageText:
    if found is None:
        return PageText()
    lines = tuple(Line(line["text"], tuple(line["box"]) if line["box"] else None) for line in found)
    if not found or "embedding" not in found[0]:
        return PageText(lines)
    return PageText(lines, np.stack([np.frombuffer(base64.b64decode(line["embedding"]), "<f4") for line in found]))


def read_retry_after(response: requests.Response) -> float | None:
    """Return how many seconds an answer asks to wait, None if it does not say."""
    try:
        return max(0.05, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def parse_server_timing(header: str) -> dict[str, float]:
    """Return the milliseconds of each phase in a Server-Timing header."""
    return {name: float(value) for name, value in re.findall(r"([\w-]+);dur=([\d.]+)", header)}
