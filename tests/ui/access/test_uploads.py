"""Files in calls: only those that were uploaded are taken, calls are bounded, and what is old is removed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from serving.errors import BadValueError
from tests.support.old_files import aged
from ui.access import uploads
from ui.access.uploads import UploadsOnly, parse_uploads, remove_old_uploads, rename_uploads

HASH = 64 * "a"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    return tmp_path / "uploads"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body, as whoever is behind receives it."""
    await Response(await Request(scope, receive).body())(scope, receive, send)


def call(body: bytes, path: str = "/gradio_api/call/search") -> tuple[int, bytes]:
    answer = TestClient(UploadsOnly(echo)).post(path, content=body)
    return answer.status_code, answer.content


def test_a_call_passes_as_it_is(folder: Path) -> None:
    file = {"path": str(folder / "a.png"), "meta": {"_type": "gradio.FileData"}}
    for body in (b"", b"{}", json.dumps({"data": ["words", [file], {"deep": [file]}]}).encode()):
        assert call(body) == (200, body)
    assert TestClient(UploadsOnly(echo)).get("/anything").status_code == 200


@pytest.mark.parametrize("path", ["/etc/passwd", "", "..", "\0", "uploads/../../x", 7, None])
def test_other_paths_are_refused_wherever_they_stand(folder: Path, path: object) -> None:
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    for data in ([file], [[file]], [{"a": {"b": file}}]):
        status, answer = call(json.dumps({"data": data}).encode())
        assert status == 400 and (b"was not uploaded" in answer or b"upload the files" in answer)
    assert call(json.dumps({"data": [{"url": "http://x/a.png", "meta": {}}]}).encode())[0] == 400
    assert call(json.dumps({"data": [{"path": str(folder)}]}).encode())[0] == 400, "the folder itself is no file"


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_json_is_refused(folder: Path, body: bytes) -> None:
    assert folder.is_dir() and call(body)[0] == 400


def test_a_call_is_bounded_and_an_upload_is_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CALL_BYTES", 100)
    large = json.dumps("x" * 200).encode()
    assert folder.is_dir() and call(large)[0] == 413
    assert call(large, "/gradio_api/upload") == (200, large)
    assert call(b"{}", "/gradio_api/proxy=http://169.254.169.254/")[0] == 404


def test_half_an_emoji_becomes_a_question_mark(folder: Path) -> None:
    assert folder.is_dir() and call(b'{"data": ["a\\ud83d b"]}') == (200, b'{"data": ["a? b"]}')
    whole = b'{"data": ["\\ud83d\\ude00"]}'
    assert json.loads(call(whole)[1]) == json.loads(whole)


def test_uploads_have_the_names_of_their_owners(folder: Path) -> None:
    path = str(folder / "a.png")
    (named, unnamed) = parse_uploads([{"path": path, "orig_name": "../my\npage.png"}, {"path": path}])
    assert "/" not in named.name and "\n" not in named.name and "page.png" in named.name
    assert unnamed == uploads.Upload(Path(path).resolve(), "a.png")
    assert parse_uploads(None) == [] and parse_uploads({"path": path}) == [unnamed]
    bad: list[Any] = ["a.png", {"path": "/etc/passwd"}, [3]]
    for payload in bad:
        with pytest.raises(BadValueError):
            parse_uploads(payload)


def test_a_call_may_name_its_files_with_their_folders() -> None:
    given = [uploads.Upload(Path("/up/1"), "a.png"), uploads.Upload(Path("/up/2"), "b.png")]
    assert rename_uploads(given, None) == given
    renamed = rename_uploads(given, ["x/y\n/a.png", "/../b.png"])
    assert [(one.path, one.name) for one in renamed] == [(Path("/up/1"), "x/y/a.png"), (Path("/up/2"), "b.png")]
    for bad in (["a"], "ab", {"a": 1, "b": 2}):
        with pytest.raises(BadValueError, match="one name for each"):
            rename_uploads(given, bad)


def test_sweep_takes_what_is_old_and_ours(tmp_path: Path) -> None:
    old = [aged(tmp_path / name / "a.png") for name in (HASH, "scores-abcd_123", "deep_links")]
    old += [aged(tmp_path / "tmpabcd_123")]
    needed = aged(tmp_path / ("b" * 64) / "a.png")
    foreign = [aged(tmp_path / "holidays" / "a.png"), aged(tmp_path / "tmp"), aged(tmp_path / f"{HASH}.zip")]
    young = tmp_path / ("c" * 64) / "a.png"
    young.parent.mkdir()
    young.write_bytes(b"x")
    remove_old_uploads(tmp_path, {needed})
    assert not any(path.exists() for path in old) and all(path.exists() for path in [needed, young, *foreign])
    os.utime(tmp_path / HASH, (0, 0))  # a folder is old an hour after the last file in it was removed
    remove_old_uploads(tmp_path)
    assert not (tmp_path / HASH).exists() and not needed.exists() and young.exists()
    remove_old_uploads(tmp_path / "nobody made it")
