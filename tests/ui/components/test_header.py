from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from serving.client import EmbeddingClient
from serving.library.library import Library
from serving.settings import Settings
from tests.support.servers import ScriptedWorker
from ui.components import header
from ui.core.service import Service
from ui.servers.target import Target, Targets


@pytest.fixture
def two(scripted: ScriptedWorker, settings: Settings, tmp_path: Path) -> Iterator[Service]:
    """A page with the server `one`, and `gone`, where nobody is."""
    places = (("one", scripted.url), ("gone", "http://127.0.0.1:9"))
    targets = Targets([Target(EmbeddingClient(url, unreachable_s=0.1), name) for name, url in places])
    found = Service(targets, Library(tmp_path / "two"), settings)
    yield found
    found.close()


@pytest.mark.usefixtures("blocks")
def test_one_server_is_no_choice(service: Service, two: Service) -> None:
    only = header.make_server_selector(service)
    assert isinstance(only, gr.State) and only.value == "scripted"
    several = header.make_server_selector(two)
    assert isinstance(several, gr.Dropdown) and several.value == "one"
    assert [value for _, value in several.choices] == ["one", "gone"]


def test_the_model_is_told_apart_by_its_fingerprint_where_there_are_several(service: Service, two: Service) -> None:
    alone = header.describe_model(service, service.targets.first)
    assert "Scripted test double · 2560-d</summary>" in alone and "<dt>Server</dt>" not in alone
    assert "2560; can be reduced to 768, 1536" in alone
    one = header.describe_model(two, two.targets.get("one"))
    assert "scripted · 2560-d · 1</summary>" in one and "<dt>Server</dt><dd>one</dd>" in one


def test_a_server_that_does_not_answer_has_no_model(two: Service) -> None:
    gone = header.describe_model(two, two.targets.get("gone"))
    assert 'class="chip bad"' in gone and "model not known<" in gone and "http://127.0.0.1:9" in gone


@pytest.mark.usefixtures("blocks")
def test_the_header_follows_the_chosen_server(two: Service) -> None:
    target = header.build(two)
    page = gr.context.Context.root_block
    assert page is not None and target.elem_id == "target"
    ids = {block.elem_id for block in page.blocks.values()}
    assert {"page-header", "header", "model", "engine"} <= ids
    assert any("followServer" in str(function.js) for function in page.fns.values())
