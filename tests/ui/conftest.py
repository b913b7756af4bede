from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from serving.library.library import Library
from serving.settings import Settings
from tests.support.servers import ScriptedWorker
from tests.support.services import open_service
from ui.core.service import Service


@pytest.fixture
def service(scripted: ScriptedWorker, settings: Settings, tmp_path: Path) -> Iterator[Service]:
    with open_service(Library(tmp_path / "library"), scripted, settings) as service:
        yield service


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
