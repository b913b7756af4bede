"""What a browser or an API caller has uploaded, and that nothing else is taken for it.

Gradio turns every `{"path": ..., "meta": {"_type": "gradio.FileData"}}` in a call into a file of its cache before our
code runs: a path of this server is copied (its own check is skipped for mounted apps, seen in 6.31), an address is
fetched. So calls are looked at before Gradio sees them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from gradio.utils import get_upload_folder
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import BadValueError
from serving.names import shown_name
from ui.ingest import Upload

CALL_BYTES = 4 * 1024 * 1024
"""A call holds names and questions; files come by /upload."""


class UploadsOnly:
    """ASGI: a call that names a file which was not uploaded, or an address, gets 400."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"].rstrip("/").endswith("/upload"):
            await self.app(scope, receive, send)
            return
        body = await read(receive)
        if body is None:
            await JSONResponse({"error": "the call is too large"}, 413)(scope, receive, send)
            return
        try:
            check_files(orjson.loads(body) if body else None)
        except (BadValueError, orjson.JSONDecodeError, RecursionError) as error:
            await JSONResponse({"error": str(error)}, 400)(scope, receive, send)
            return
        await self.app(scope, again(body, receive), send)


async def read(receive: Receive) -> bytes | None:
    """The whole body; None if it is longer than a call may be, or its sender left."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or len(body) > CALL_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands out the body that was read, and then what comes after it."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def check_files(value: object) -> None:
    """Raises BadValueError for a path, anywhere in the call, that is no uploaded file."""
    if isinstance(value, dict):
        if isinstance(value.get("path"), str) or "meta" in value:
            uploaded(value.get("path"))
        for inner in value.values():
            check_files(inner)
    elif isinstance(value, list):
        for inner in value:
            check_files(inner)


def uploaded(path: object) -> Path:
    """Raises BadValueError unless it lies in the upload folder."""
    if not isinstance(path, str):
        raise BadValueError("upload the files: with gradio_client, wrap each path in handle_file()", param="files")
    folder = Path(get_upload_folder()).resolve()
    resolved = Path(path).resolve()
    if not resolved.is_relative_to(folder) or resolved == folder:
        raise BadValueError("this file was not uploaded", param="files")
    return resolved


def uploads(payload: object) -> list[Upload]:
    """Gradio's file data, one or a list. Raises BadValueError for anything that was not uploaded."""
    if payload is None:
        return []
    entries = payload if isinstance(payload, list) else [payload]
    return [upload(entry) for entry in entries]


def upload(entry: Any) -> Upload:
    path = uploaded(entry.get("path") if isinstance(entry, dict) else None)
    return Upload(path, shown_name(entry.get("orig_name") or path.name))
