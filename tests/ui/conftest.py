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


class RecordedLoops(asyncio.DefaultEventLoopPolicy):
    """Remembers the event loops that are made, so that they can be closed."""

    def __init__(self) -> None:
        super().__init__()
        self.loops: list[asyncio.AbstractEventLoop] = []

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        self.loops.append(super().new_event_loop())
        return self.loops[-1]


@pytest.fixture
def blocks() -> Iterator[gr.Blocks]:
    """A page that is being built. Gradio makes an event loop for each of its locks and leaves it open."""
    policy = RecordedLoops()
    asyncio.set_event_loop_policy(policy)
    with gr.Blocks() as page:
        yield page
    asyncio.set_event_loop_policy(None)
    for loop in policy.loops:
        loop.close()
