"""What the events of all tabs have in common."""

from __future__ import annotations

from typing import Any

import gradio as gr

PRIVATE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""An event of the page itself: no veil over what changes, and no part of the API."""


def get_current_page() -> gr.Blocks:
    """Return the page that is being built."""
    page = gr.context.Context.root_block
    assert page is not None
    return page
