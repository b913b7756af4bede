from __future__ import annotations

import ast
import re

import gradio as gr

from tests.support.sources import list_modules
from ui.components import events


def test_no_module_holds_a_script() -> None:
    for path, tree in list_modules():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.keyword)
                and node.arg in ("js", "js_on_load")
                and isinstance(node.value, ast.Constant)
            ):
                assert len(str(node.value.value)) < 40, f"{path}:{node.value.lineno} is a script"


def test_each_script_is_loaded_and_each_function_called_is_there() -> None:
    calls = [node for _, tree in list_modules() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    loaded = {argument(node) for node in calls if getattr(node.func, "id", "") == "read_script"}
    assert loaded == {file.name for file in events.STATIC.iterdir()}
    called = {argument(node) for node in calls if getattr(node.func, "id", "") == "call_script"}
    assert called == set(re.findall(r"^  (\w+)\(", events.read_script("events.js"), re.MULTILINE))


def argument(node: ast.Call) -> str:
    first = node.args[0]
    assert isinstance(first, ast.Constant)
    return str(first.value)


def test_a_call_takes_its_own_values_first_and_quotes_them() -> None:
    assert events.call_script("arrive", 8) == "(...inputs) => window.dormouse.arrive(8, ...inputs)"
    assert events.call_script("show", '"') == '(...inputs) => window.dormouse.show("\\"", ...inputs)'


def test_the_current_page_is_the_one_that_is_being_built(blocks: gr.Blocks) -> None:
    with gr.Row():
        assert events.get_current_page() is blocks


def test_the_head_holds_the_scripts_unescaped() -> None:
    head = events.render_head()
    assert events.read_script("keys.js") in head and events.read_script("events.js") in head and "&lt;" not in head
