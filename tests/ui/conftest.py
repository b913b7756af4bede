from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from serving.client import EmbeddingClient
from serving.library.library import Library
from serving.settings import Settings
from tests.support.servers import ScriptedWorker
from ui.core.service import Service
from ui.servers.target import Target, Targets


@pytest.fixture
def service(scripted: ScriptedWorker, settings: Settings, tmp_path: Path) -> Iterator[Service]:
    targets = Targets([Target(EmbeddingClient(scripted.url, deadline_s=20), "scripted")])
    service = Service(targets, Library(tmp_path / "library"), settings)
    yield service
    scripted.embedder.gate.set()
    service.close()


@pytest.fixture
def blocks() -> Iterator[gr.Blocks]:
    """A page that is being built. Gradio makes locks, which want an event loop, and would leave it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    with gr.Blocks() as page:
        yield page
    asyncio.set_event_loop(None)
    loop.close()
