"""The collections of a running page, asked over HTTP by the named calls of its API."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

import orjson
import requests
from pydantic import TypeAdapter, ValidationError
from requests.auth import HTTPBasicAuth
from typing_extensions import TypedDict

from serving.errors import BadValueError, ServingError, TooLargeError
from serving.http.event_stream import parse_events
from serving.http.server import is_loopback
from serving.library.exporting import Progress
from serving.library.records import Collection, CollectionKey, StoredFile
from serving.settings import MiB
from serving.system.files import open_replacement
from ui.access.password import DEFAULT_USER, PASSWORD, USER
from ui.commands.store import AddObserver, AddProgress, FileToAdd, FoundPage

PORTION_FILES = 8
PORTION_BYTES = 64 * MiB
"""One call adds so much: enough to keep the embedder busy, and Ctrl-C leaves no more than this to the page."""
AT_ONCE = 1_000
"""Files that one call deletes or renames."""
CONNECT_S = 10.0
SILENCE_S = 90.0
"""After so long without a byte the connection counts as broken: a call that waits sends something every 15 s."""
CHUNK_BYTES = 1 * MiB


Answer = TypeVar("Answer")


class PageError(ServingError):
    """The page does not answer, refuses the call, or answers with an error."""


class CollectionEntry(TypedDict):
    """A collection as the page names it."""

    collection: str
    name: str
    pages: int
    fingerprint: str | None


class CollectionsAnswer(TypedDict):
    """The answer of /collections."""

    collections: list[CollectionEntry]


class FilesAnswer(TypedDict):
    """The answer of /collection_files."""

    files: list[FileEntry]


class FileEntry(TypedDict):
    """A file of a collection."""

    file: str
    sha256: str
    pages: int
    pages_of_file: int


class AddedAnswer(TypedDict):
    """The answer of /add_pages."""

    added: list[PageEntry]
    skipped: list[SkippedEntry]


class PageEntry(TypedDict):
    """A page of a collection."""

    id: str
    file: str
    page: int


class SkippedEntry(TypedDict):
    """A file or page that was not added."""

    file: str
    reason: str
    known: bool


class FoundAnswer(TypedDict):
    """The answer of /search."""

    hits: list[HitEntry]


class HitEntry(PageEntry):
    """A search result."""

    rank: int
    score: float
    line: str | None


class DeletedAnswer(TypedDict):
    """The answer of /delete_files and /delete_collection."""

    deleted: int


class RenamedAnswer(TypedDict):
    """The answer of /rename_files."""

    renamed: int


class ExportAnswer(TypedDict):
    """The answer of /export_collection."""

    url: str
    pages: int
    bytes: int


class QueuedCall(TypedDict):
    """Gradio's answer to a call: where its result will be."""

    event_id: str


class PageStore:
    """The page's API."""

    def __init__(self, url: str) -> None:
        """`url` may have a user and a password. Raises BadValueError for an invalid address."""
        parts = parse_address(url)
        self._url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = not is_loopback(parts.hostname or "")
        if parts.username or parts.password:
            self._session.auth = HTTPBasicAuth(
                *(unquote(one or "").encode() for one in (parts.username, parts.password))
            )
        elif set_password := os.environ.get(PASSWORD):
            self._session.auth = HTTPBasicAuth((os.environ.get(USER) or DEFAULT_USER).encode(), set_password.encode())

    def close(self) -> None:
        self._session.close()

    def list_collections(self) -> list[Collection]:
        return [make_collection(found) for found in self._call("collections", CollectionsAnswer)["collections"]]

    def create_collection(self, name: str) -> Collection:
        self._call("collection_files", FilesAnswer, collection=name)  # refused where a name would never be found again
        return make_collection(self._call("new_collection", CollectionEntry, name=name))

    def list_files(self, key: CollectionKey) -> list[StoredFile]:
        files = self._call("collection_files", FilesAnswer, collection=key)["files"]
        return [StoredFile(one["file"], one["sha256"], one["pages"], one["pages_of_file"]) for one in files]

    def add_files(self, key: CollectionKey, files: Sequence[FileToAdd], observer: AddObserver) -> None:
        done = 0
        observer.show_progress(AddProgress(done, len(files), "file"))
        for portion in split_into_portions(files):
            uploaded = []
            for file in portion:
                try:
                    uploaded.append((file, self._upload(file.path)))
                except TooLargeError as error:
                    observer.skip_file(file.name, error.message, known=False)
                except OSError as error:
                    observer.skip_file(file.name, f"it could not be read: {error.strerror or error}", known=False)
            if uploaded:
                self._add_uploaded(key, uploaded, observer)
            done += len(portion)
            observer.show_progress(AddProgress(done, len(files), "file"))

    def _add_uploaded(
        self, key: CollectionKey, uploaded: Sequence[tuple[FileToAdd, str]], observer: AddObserver
    ) -> None:
        files = [make_file_data(path) for _, path in uploaded]
        names = [file.name for file, _ in uploaded]
        try:
            answer = self._call("add_pages", AddedAnswer, files=files, collection=key, names=names)
        except KeyboardInterrupt:
            observer.leave_files(len(files))
            raise
        report_answer(answer, observer)

    def rename_files(self, key: CollectionKey, names: Mapping[str, str]) -> None:
        every = list(names.items())
        for start in range(0, len(every), AT_ONCE):
            files, new = zip(*every[start : start + AT_ONCE], strict=True)
            self._call("rename_files", RenamedAnswer, collection=key, files=files, names=new)

    def search(self, key: CollectionKey, question: str, top_k: int) -> list[FoundPage]:
        hits = self._call("search", FoundAnswer, query=question, collection=key, top_k=top_k)["hits"]
        return [FoundPage(**hit) for hit in hits]

    def delete_files(self, key: CollectionKey, files: Sequence[str]) -> int:
        parts = [files[start : start + AT_ONCE] for start in range(0, len(files), AT_ONCE)]
        return sum(
            self._call("delete_files", DeletedAnswer, collection=key, files=list(part))["deleted"] for part in parts
        )

    def delete_collection(self, key: CollectionKey) -> int:
        return self._call("delete_collection", DeletedAnswer, collection=key)["deleted"]

    def export_collection(self, key: CollectionKey, path: Path, step: Progress) -> int:
        made = self._call("export_collection", ExportAnswer, collection=key)
        pages, size, received = made["pages"], made["bytes"], 0
        with self._request("GET", made["url"], stream=True) as answer, open_replacement(path) as stream:
            with reading(self._url):
                for chunk in answer.iter_content(CHUNK_BYTES):
                    stream.write(chunk)
                    received += len(chunk)
                    step(pages * received // size if size else 0, pages)
            if received != size:
                raise PageError(f"the export has {size} bytes and {received} came: try again")
        return pages

    def import_collection(self, path: Path, name: str, step: Progress) -> Collection:  # noqa: ARG002 - it tells none
        file = make_file_data(self._upload(path))
        return make_collection(self._call("import_collection", CollectionEntry, file=file, name=name))

    # HTTP

    def _upload(self, path: Path) -> str:
        """Return the upload's path on the page's machine. Raises TooLargeError, PageError, OSError."""
        body = FileForm(path)
        answer = self._send("POST", "/gradio_api/upload", data=body, headers={"Content-Type": body.content_type})
        if answer.status_code == 413:
            raise TooLargeError("the page takes no file of this size")
        check_status(answer)
        with reading_answer():
            return TypeAdapter(tuple[str]).validate_json(answer.content)[0]

    def _call(self, name: str, kind: type[Answer], /, **inputs: object) -> Answer:
        """Return the answer of a named call. Raises PageError."""
        with self._request("POST", f"/gradio_api/call/v2/{name}", json=inputs) as answer, reading_answer():
            event = TypeAdapter(QueuedCall).validate_json(answer.content)["event_id"]
        with self._request("GET", f"/gradio_api/call/v2/{name}/{event}", stream=True) as answer, reading(self._url):
            for what, data in read_events(answer.iter_content(None)):
                if what == "error":
                    raise PageError(describe_error(data))
                if what == "complete":
                    with reading_answer():
                        return TypeAdapter(tuple[kind]).validate_python(data)[0]  # type: ignore[valid-type]
        raise PageError("the page ended the call without an answer: it may have been stopped")

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        answer = self._send(method, path, **options)
        check_status(answer)
        return answer

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        with reading(self._url):
            return self._session.request(method, self._url + path, timeout=(CONNECT_S, SILENCE_S), **options)


def parse_address(url: str) -> SplitResult:
    """Raises BadValueError."""
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts
    raise BadValueError("this is not the address of a page: it is like http://localhost:7860", param="page")


class FileForm:
    """The body of an upload, read from the disk while it is sent."""

    def __init__(self, path: Path) -> None:
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._path = path
        self._size = path.stat().st_size
        # The page gets the file's name with the call that adds it.
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="file"\r\n'
        self._head = f"{head}Content-Type: application/octet-stream\r\n\r\n".encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        left = self._size
        with self._path.open("rb") as stream:
            while left and (chunk := stream.read(min(CHUNK_BYTES, left))):
                left -= len(chunk)
                yield chunk
        if left:
            raise OSError(f"{self._path} became shorter while it was sent")
        yield self._tail


@contextmanager
def reading(url: str) -> Iterator[None]:
    """Raise PageError where the page cannot be reached or the connection breaks."""
    try:
        yield
    except requests.ConnectTimeout:
        raise PageError(f"nothing answers at {url}") from None
    except requests.ConnectionError as error:
        refused = "refused" in str(error)
        lost = f"the connection to {url} was lost: the same command goes on where it ended"
        raise PageError(f"there is no page at {url}: start it, or check the address" if refused else lost) from None
    except requests.RequestException as error:
        raise PageError(f"{url} cannot be asked: {error}") from None


@contextmanager
def reading_answer() -> Iterator[None]:
    """Raise PageError for an answer of another form."""
    try:
        yield
    except ValidationError:
        raise PageError("the answer is not that of a Dormouse page, or of one of another release") from None


def check_status(answer: requests.Response) -> None:
    """Raise PageError unless the page has accepted the request."""
    if answer.ok:
        return
    code = answer.status_code
    told = {
        401: f"the page asks for a user and a password: set {PASSWORD}, and {USER} unless it is {DEFAULT_USER}",
        403: "the page refuses this: it is closed, or not meant for programs",
        404: "there is no Dormouse page at this address, or it is of an older release",
        413: "that is too much for one call of the page",
    }
    raise PageError(told.get(code, f"the page answered HTTP {code}"))


def read_events(chunks: Iterable[bytes]) -> Iterator[tuple[str, Any]]:
    """Yield (kind, data) of each event of a call. Raises PageError."""
    for kind, data in parse_events(chunks, most=None):  # a list of all files may be long
        try:
            yield kind, orjson.loads(data)
        except ValueError:
            raise PageError("the page's answer cannot be read") from None


def describe_error(data: object) -> str:
    """Return the message of a call that failed."""
    text = data.get("error") if isinstance(data, Mapping) else data
    return text if isinstance(text, str) and text else "the page could not do this; its log says more"


def report_answer(answer: AddedAnswer, observer: AddObserver) -> None:
    """Report what a call has added and skipped: all of it, also where Ctrl-C comes meanwhile."""
    steps = [partial(observer.add_page, page["file"], page["page"], page["id"]) for page in answer["added"]]
    steps += [
        partial(observer.skip_file, item["file"], item["reason"], known=item["known"]) for item in answer["skipped"]
    ]
    done = 0
    try:
        for step in steps:
            done += 1
            step()
    finally:
        for step in steps[done:]:
            step()


def split_into_portions(files: Sequence[FileToAdd]) -> Iterator[list[FileToAdd]]:
    portion: list[FileToAdd] = []
    size = 0
    for file in files:
        own = file.path.stat().st_size if file.path.exists() else 0
        if portion and (len(portion) >= PORTION_FILES or size + own > PORTION_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(file)
        size += own
    if portion:
        yield portion


def make_file_data(path: str) -> dict[str, object]:
    """Return an uploaded file as a call names it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def make_collection(found: CollectionEntry) -> Collection:
    key = CollectionKey(found["collection"])
    return Collection(found["name"], found["pages"], found["fingerprint"], None, None, key)
