from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from serving.client import EmbeddingClient
from serving.library.library import Library
from tests.support.servers import make_settings
from ui.core.service import Service
from ui.search.layout import TOP_KS, SearchWidgets
from ui.search.question import TOP_K
from ui.servers.target import Target, Targets


@pytest.fixture(params=[False, True], ids=["open", "read-only"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    settings = make_settings(tmp_path, read_only=request.param)
    found = Service(Targets([Target(EmbeddingClient("http://127.0.0.1:9"))]), Library(tmp_path / "library"), settings)
    yield found
    found.close()


def test_a_read_only_page_has_nothing_that_changes(service: Service, blocks: gr.Blocks) -> None:
    w = SearchWidgets(service, gr.State("x"))
    changing = not service.settings.read_only
    assert w.files.visible is w.folder.visible is w.samples.visible is w.tools._archive.visible is changing
    assert w.tools._rename.parent is not None and w.tools._rename.parent.visible is changing
    notes = [
        block for block in blocks.blocks.values() if isinstance(block, gr.HTML) and "read-only" in str(block.value)
    ]
    assert len(notes) == (0 if changing else 1) and w.tools._export.visible is True


def test_the_question_is_bounded_and_the_number_of_pages_is_offered(service: Service, blocks: gr.Blocks) -> None:
    w = SearchWidgets(service, gr.State("x"))
    assert w.query.max_length == service.settings.max_text_chars and w.query.autofocus
    assert w.top_k.value == str(TOP_K) and str(TOP_K) in TOP_KS
    ids = [block.elem_id for block in blocks.blocks.values() if getattr(block, "elem_id", None)]
    assert len(ids) == len(set(ids)), "style sheet and scripts find one widget for each id"
