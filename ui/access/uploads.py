"""Files that a browser or an API caller uploaded: a call can name no others, and they are removed in time.

Gradio turns every `{"path": ..., "meta": {"_type": "gradio.FileData"}}` in a call into a file of its cache before our
code runs: a path of this server is copied (its own check is skipped for mounted apps, seen in 6.31), an address is
fetched. So calls are checked before Gradio sees them.

Gradio removes only files that it remembers: not an upload that was cut, not a file of ours, not what a killed process
left, and it would take pages from a job that is still to read them. So old files are removed here, whoever wrote them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from gradio.utils import get_upload_folder
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import BadValueError
from serving.settings import Settings
from serving.system.display_names import display_name, display_path

CALL_BYTES = 4 * 1024 * 1024
"""A call holds names and questions; files come by /upload."""
KEPT_S = 3600.0
"""An upload is kept so long until it is used, by a tab that was left alone; scores as CSV are kept as long."""
OURS = re.compile(r"[0-9a-f]{64}|tmp\w{8}|scores-\w{8}|deep_links")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on disk and the name its owner gave it. The name is shown, never used as a path."""

    path: Path
    name: str


def get_uploads_folder(settings: Settings) -> Path:
    """Return the folder into which Gradio writes what is uploaded."""
    return (settings.data / "uploads").resolve()


class UploadsOnly:
    """ASGI: an address or a file not uploaded gets 400, and Gradio's route to other hosts, unused here, is closed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "/proxy=" in scope["path"]:
            await JSONResponse({"error": "there is no such route"}, 404)(scope, receive, send)
            return
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"].rstrip("/").endswith("/upload"):
            with suppress(ClientDisconnect):  # in the middle of an upload
                await self._app(scope, receive, send)
            return
        received = bytearray()
        try:
            async for chunk in Request(scope, receive).stream():
                received += chunk
                if len(received) > CALL_BYTES:
                    await JSONResponse({"error": "the call is too large"}, 413)(scope, receive, send)
                    return
            body = replace_surrogates(bytes(received))
            check_files(orjson.loads(body) if body else None)
        except ClientDisconnect:
            return
        except (BadValueError, ValueError, RecursionError) as error:
            await JSONResponse({"error": str(error)}, 400)(scope, receive, send)
            return
        await self._app(scope, replay_body(body, receive), send)


def replay_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that hands out the body that was read, and then whatever comes after it."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def replace_surrogates(body: bytes) -> bytes:
    """Return JSON with `?` for half an emoji, as a box may hold one. Raises ValueError or RecursionError."""
    if b"\\ud" not in body.lower():
        return body
    return json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")


def check_files(value: object) -> None:
    """Raises BadValueError for a path, anywhere in the call, that is no uploaded file."""
    if isinstance(value, dict):
        if isinstance(value.get("path"), str) or "meta" in value:
            resolve_upload(value.get("path"))
        for inner in value.values():
            check_files(inner)
    elif isinstance(value, list):
        for inner in value:
            check_files(inner)


def resolve_upload(path: object) -> Path:
    """Raises BadValueError unless it lies in the upload folder."""
    if not isinstance(path, str):
        raise BadValueError("upload the files: with gradio_client, wrap each path in handle_file()", param="files")
    folder = Path(get_upload_folder()).resolve()
    resolved = folder if "\0" in path else Path(path).resolve()
    if not resolved.is_relative_to(folder) or resolved == folder:
        raise BadValueError("this file was not uploaded", param="files")
    return resolved


def parse_uploads(payload: Any) -> list[Upload]:
    """Return the files in Gradio's file data, one or a list. Raises BadValueError for one that was not uploaded."""
    if payload is None:
        return []
    found = []
    for entry in payload if isinstance(payload, list) else [payload]:
        path = resolve_upload(entry.get("path") if isinstance(entry, dict) else None)
        found.append(Upload(path, display_name(entry.get("orig_name") or path.name)))
    return found


def rename_uploads(given: list[Upload], names: object) -> list[Upload]:
    """Return the files under other names, one for each, with their folders; None leaves them. Raises BadValueError."""
    if names is None:
        return given
    if not isinstance(names, list) or len(names) != len(given):
        raise BadValueError("names is a list with one name for each file", param="names")
    return [Upload(upload.path, display_path(name)) for upload, name in zip(given, names, strict=True)]


def remove_old_uploads(folder: Path, needed: Container[Path] = (), older_s: float = KEPT_S) -> None:
    """Remove files that were written longer than `older_s` ago and are not `needed`.

    Files with names that neither Gradio nor we give are left alone: the folder may have been there before.
    """
    before = time.time() - older_s
    ours = [entry for entry in folder.glob("*") if OURS.fullmatch(entry.name)]
    for path in [path for entry in ours for path in (*sorted(entry.rglob("*"), reverse=True), entry)]:
        with suppress(OSError):  # somebody else was faster, or it is a folder with something in it
            if path in needed or path.lstat().st_mtime >= before:
                continue
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
