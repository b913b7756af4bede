"""What a browser or an API caller has uploaded: paths that are checked to lie in the upload folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder

from serving.errors import BadValueError
from ui.ingest import Upload

NAME_CHARS = 255


def uploads(payload: object) -> list[Upload]:
    """Gradio's file data, one or a list. Raises BadValueError for anything that was not uploaded."""
    if payload is None:
        return []
    entries = payload if isinstance(payload, list) else [payload]
    return [upload(entry) for entry in entries]


def upload(entry: Any) -> Upload:
    """Gradio checks only paths that carry its own mark; a caller could leave the mark out and name any file."""
    path = entry.get("path") if isinstance(entry, dict) else None
    if not isinstance(path, str):
        raise BadValueError("upload the files: with gradio_client, wrap each path in handle_file()", param="files")
    folder = Path(get_upload_folder()).resolve()
    resolved = Path(path).resolve()
    if not resolved.is_relative_to(folder) or resolved == folder:
        raise BadValueError("this file was not uploaded", param="files")
    return Upload(resolved, shown_name(entry.get("orig_name") or resolved.name))


def shown_name(name: object) -> str:
    """The last part of the name as its owner wrote it, printable; it is only ever shown."""
    last = str(name).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    printable = "".join(char if char.isprintable() else " " for char in last)
    return " ".join(printable.split())[:NAME_CHARS] or "unnamed"
