"""The page with both servers: it searches with either, and their vectors meet only after parity was shown."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from serving.http.child_server import ServerProcess
from tests.support.repository import SAMPLES
from tests.vllm.conftest import Served

FILES = ("invoice-aurora-lamps.jpg", "receipt-corner-larder.jpg")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "page"


@pytest.fixture
def page(vllm: Served, hf: Served, data: Path) -> Iterator[Client]:
    workers = ["--worker", f"hf={hf.url}", "--worker", f"vllm={vllm.url}"]
    with ServerProcess("ui.app", ["--no-browser", "--data", str(data), *workers]) as process:
        client = Client(process.wait(), verbose=False)
        yield client
        client.close()


def search(page: Client, collection: str, target: str) -> list[dict[str, Any]]:
    found = page.predict("total due", None, collection, 5, None, target, api_name="/search")
    return list(found["hits"])


def test_it_searches_with_either_and_mixes_them_only_after_parity(
    page: Client, vllm: Served, hf: Served, data: Path
) -> None:
    for target in ("hf", "vllm"):
        files = [handle_file(SAMPLES / name) for name in FILES]
        added = page.predict(files, f"by {target}", target, api_name="/add_pages")
        assert len(added["added"]) == 2 and added["skipped"] == []
        assert {hit["file"] for hit in search(page, f"by {target}", target)} == set(FILES)
    with pytest.raises(AppError, match="bench parity"):
        search(page, "by hf", "vllm")
    command = [sys.executable, "-m", "bench", "parity", "--a", hf.url, "--b", vllm.url, "--data", str(data)]
    subprocess.run([*command, "--threshold-pages", "0.95", "--out", str(data / "result.json")], check=True, timeout=170)
    assert {hit["file"] for hit in search(page, "by hf", "vllm")} == set(FILES)
