from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from bench.results.record import RUNS
from serving.client import EmbeddingClient
from serving.library.library import Library
from serving.settings import Settings
from tests.support.servers import ScriptedWorker
from ui.components import about
from ui.core.service import Service
from ui.servers.target import Target, Targets


def test_each_figure_stands_in_a_run_that_was_kept() -> None:
    rows = about.list_measurements(RUNS)
    assert len(rows) == len(about.FIGURES) and rows[-1][4] == "NVIDIA H200"
    recall = orjson.loads((RUNS / "quality-builtin.json").read_bytes())["table"][-1]["recall_at_1"]
    assert rows[0][1:3] == (f"{recall:.0%}", "103")
    for row in rows:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", row[3]) and len(row[4]) > 8


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"environment": 3, "table": []}'])
def test_a_run_that_is_missing_or_damaged_leaves_its_row_out(tmp_path: Path, content: bytes) -> None:
    assert about.list_measurements(tmp_path) == []
    for name, *_ in about.FIGURES:
        (tmp_path / f"{name}.json").write_bytes(content)
    assert about.list_measurements(tmp_path) == []


def test_licences_are_those_of_what_is_installed() -> None:
    found = dict(entry for entry in about.list_licences())
    assert all(len(text) < 120 for text in found.values())
    assert any(name.startswith("gradio ") and "Apache" in text for name, text in found.items())
    assert any(name.startswith("fastapi ") and "MIT" in text for name, text in found.items())
    assert "see the package" not in found.values()


def test_it_names_each_server_and_escapes_what_they_say(
    scripted: ScriptedWorker, settings: Settings, tmp_path: Path
) -> None:
    target = Target(EmbeddingClient(scripted.url), "<b>mine")
    service = Service(Targets([target]), Library(tmp_path / "library"), settings)
    try:
        assert "not known yet" in about.render_about(service)
        target.fetch_info()
        told = about.render_about(service)
    finally:
        service.close()
    assert "Scripted test double" in told and "2560" in told and "&lt;b&gt;mine" in told and "<b>mine" not in told
    assert "cannot be found by words" in told
