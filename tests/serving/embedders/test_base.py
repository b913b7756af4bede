"""Embedders by their names."""

from __future__ import annotations

import pytest

from serving.embedders.base import EMBEDDERS, find_embedder_class
from serving.embedders.builtin.embedder import BuiltinEmbedder
from serving.errors import BadValueError
from tests.support.scripted_engine import NAME, ScriptedEmbedder


def test_ours_and_those_of_others_are_found() -> None:
    assert find_embedder_class("builtin") is BuiltinEmbedder
    assert find_embedder_class(NAME) is ScriptedEmbedder
    assert all(callable(find_embedder_class(name)) for name in EMBEDDERS), "none needs its libraries to be found"


@pytest.mark.parametrize("name", ["nothing", "", "no.such:Module", "serving.embedders.base:Nothing", ":Class"])
def test_others_are_told_with_the_names_that_there_are(name: str) -> None:
    with pytest.raises(BadValueError, match=r"there is no embedder .*builtin, bigemma3, vllm"):
        find_embedder_class(name)
