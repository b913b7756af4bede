"""Choices that are too many to show."""

from __future__ import annotations

import gradio as gr
import pytest

from serving.errors import NotFoundError
from ui.search import long_choice
from ui.search.long_choice import Choices, LongChoice


@pytest.mark.usefixtures("blocks")
def test_many_choices_are_shown_as_one_types(monkeypatch: pytest.MonkeyPatch) -> None:
    every: Choices = [(f"file {n}", f"v{n}") for n in range(1_000)]

    def list_all(collection: str) -> Choices:
        if collection != "c":
            raise NotFoundError("gone")
        return every

    found = LongChoice(gr.Dropdown([], multiselect=True, elem_id="x"), "files", list_all)
    offered = found.offer(every, ["v999", "gone"])
    assert offered["choices"] == [*every[:200], ("file 999", "v999")] and "1,000 files" in offered["info"]
    narrowed = found.narrow({"typed": "FILE 99", "chosen": ["v5"]}, "c")["choices"]
    assert [value for _, value in narrowed] == [*(f"v{n}" for n in range(1_000) if "99" in str(n)), "v5"]
    for given, collection in (({"typed": "x"}, "other"), ("x", "c"), (None, "c")):
        assert found.narrow(given, collection) == gr.skip()
    assert found.narrow({"typed": "", "chosen": None}, "c")["choices"] == every[:200]
    monkeypatch.setattr(long_choice, "SHOWN_CHOICES", 1_000)
    assert found.offer(every) == {"choices": every, "info": None} and found.narrow({"typed": "1"}, "c") == gr.skip()
