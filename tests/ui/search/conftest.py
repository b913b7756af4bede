from __future__ import annotations

from pathlib import Path

import gradio as gr
import pytest

from tests.support.files import encoded, picture
from tests.support.uploads import run, upload
from ui.core.service import Service
from ui.search.layout import SearchWidgets
from ui.search.tab import SearchEvents


@pytest.fixture
def events(service: Service, blocks: gr.Blocks) -> SearchEvents:
    """The events of the tab, connected to its widgets."""
    found = SearchEvents(service, SearchWidgets(service, gr.State("scripted")))
    found.connect()
    assert len(blocks.fns) > 20
    return found


@pytest.fixture
def ids(service: Service, tmp_path: Path) -> list[str]:
    """Three pages of the collection `c`: a.png, b.png and c.png."""
    files = [upload(tmp_path, f"{name}.png", encoded(picture((60 + n, 60)))) for n, name in enumerate("abc")]
    return [page.id for page in sorted(run(service, *files).added, key=lambda page: page.file)]
