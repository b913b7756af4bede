from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from serving.library.records import Storage
from tests.support.libraries import UNKNOWN, at, made
from ui.components.templates import render_template
from ui.core.service import Service
from ui.search.tab import SearchEvents

REQUEST = gr.Request(session_hash="s")


@pytest.mark.usefixtures("ids")
def test_it_shows_link_size_files_and_the_other_collections(events: SearchEvents, service: Service) -> None:
    tools, key = events.w.tools, at(service.library)
    made(service.library, "other")
    updates = tools.fill("c")
    assert f"/?c={key}" in updates[tools._about] and "for 1,000 pages" in updates[tools._about]
    assert {name for name, _ in updates[tools._files]["choices"]} == {"a.png", "b.png", "c.png"}
    assert [name for name, _ in updates[tools._to]["choices"]] == ["other"]
    assert updates[tools._name] == "c" and tools.fill("c", "c")[tools._name] == gr.skip(), "what is typed there stays"
    assert "created when its first page is added" in tools.fill("never made")[tools._about]
    assert "This collection cannot be shown" in tools.fill(UNKNOWN)[tools._about]


@pytest.mark.usefixtures("ids")
def test_a_collection_gets_another_name(events: SearchEvents, service: Service) -> None:
    tools, key = events.w.tools, at(service.library)
    updates = tools.rename_collection("c", "new name")
    assert "The collection is now called new name" in updates[tools._outcome]
    assert updates[events.w.collection]["value"] == "new name" and at(service.library, "new name") == key
    assert "was not renamed" in tools.rename_collection(key, "\n")[tools._outcome]


@pytest.mark.usefixtures("ids")
def test_files_are_moved_and_those_already_there_stay(events: SearchEvents, service: Service) -> None:
    tools, other = events.w.tools, made(service.library, "other")
    files = [file.sha256 for file in service.library.catalogue.list_files(at(service.library))]
    updates = tools.move_files("c", files[:2], other)
    assert "2 pages moved" in updates[tools._outcome] and "1 page from 1 file" in updates[events.w.listing]
    assert "choose files" in tools.move_files("c", [], other)[tools._outcome]
    assert "Nothing was moved" in tools.move_files("c", files, UNKNOWN)[tools._outcome]


@pytest.mark.usefixtures("ids")
def test_an_export_is_imported_again(
    events: SearchEvents, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = events.w.tools
    *steps, exported = tools.export_collection("c", REQUEST)
    assert steps[0][tools._stop]["visible"] and "Exporting" in steps[0][tools._outcome]
    assert "Download c.zip" in exported[tools._outcome] and not exported[tools._stop]["visible"]
    (archive,) = service.exports_folder.glob("*.zip")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()

    def bring_in(path: Path) -> dict[Any, Any]:
        shutil.copy(path, tmp_path / "uploads" / "c.zip")
        payload = {"path": str(tmp_path / "uploads" / "c.zip"), "orig_name": "c.zip"}
        *_, done = tools.import_collection(payload, "scripted", REQUEST)
        return done

    done = bring_in(archive)
    assert "3 pages imported" in done[tools._outcome] and "3 pages from 3 files" in done[events.w.listing]
    (tmp_path / "bad.zip").write_bytes(b"PK no")
    assert "Nothing was imported" in bring_in(tmp_path / "bad.zip")[tools._outcome]
    *_, failed = tools.export_collection(UNKNOWN, REQUEST)
    assert "The collection was not exported" in failed[tools._outcome]
    tools.stop_task(REQUEST)  # nothing runs any more
    assert tools._tasks == {}


def test_the_use_of_the_disk_counts_original_files() -> None:
    told = render_template("pages/collection.html", key=UNKNOWN, storage=Storage(2, 3_000_000, 1_000_000, 5_000_000))
    assert "Uses 9.0 MB: 3.0 MB pictures, 1.0 MB text and vectors, 5.0 MB original files." in " ".join(told.split())
    assert "original files" not in render_template("pages/collection.html", key=UNKNOWN, storage=Storage(2, 3, 1))
