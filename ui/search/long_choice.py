"""Choices that are too many for a browser: of ten thousand, Gradio's list is busy for seconds with each change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import gradio as gr

from serving.errors import ServingError
from ui.components.events import PRIVATE

SHOWN_CHOICES = 200
TYPED_CHARS = 255
Choices = list[tuple[str, str]]
"""What is shown, and its value."""


class LongChoice:
    """A list of choices that may be longer than a browser can show: it has some, and others as one types."""

    def __init__(self, widget: gr.Dropdown, what: str, list_all: Callable[[str], Choices]) -> None:
        """`list_all` returns all choices for a collection, given as the page has it. Raises ServingError."""
        self.widget = widget
        self._what = what
        self._list_all = list_all
        self._info = widget.info

    def offer(self, choices: Choices, chosen: Sequence[str] = ()) -> dict[str, Any]:
        """Return what the widget gets: the first of the choices, and those that are chosen."""
        if len(choices) <= SHOWN_CHOICES:
            return {"choices": choices, "info": self._info}
        return {
            "choices": keep_chosen(choices[:SHOWN_CHOICES], choices, chosen),
            "info": f"Type to find others of {len(choices):,} {self._what}",
        }

    def connect(self, collection: gr.Dropdown) -> None:
        # Gradio 6.31 tells the last of several events what the first one had typed: the browser's field is read.
        typed = f"document.querySelector('#{self.widget.elem_id} input').value"
        read = f"(chosen, collection) => [{{chosen, typed: {typed}}}, collection]"
        narrowing: dict[str, Any] = {"preprocess": False, "trigger_mode": "always_last", "js": read, **PRIVATE}
        self.widget.key_up(self.narrow, [self.widget, collection], [self.widget], **narrowing)

    def narrow(self, given: object, collection: str) -> Any:
        """Return the choices that have all typed words, as many as are shown. `given`: typed and chosen."""
        choices: Choices = []
        with suppress(ServingError):  # the collection is gone: the next question says so
            choices = self._list_all(collection)
        if len(choices) <= SHOWN_CHOICES or not isinstance(given, dict):
            return gr.skip()
        has_words = match_words(str(given.get("typed", ""))[:TYPED_CHARS])
        found = [choice for choice in choices if has_words(choice[0])]
        chosen = given.get("chosen")
        kept = [str(value) for value in chosen] if isinstance(chosen, list) else []
        return gr.update(choices=keep_chosen(found[:SHOWN_CHOICES], choices, kept))


def match_words(typed: str) -> Callable[[str], bool]:
    """Return what tells whether a name has all typed words in it."""
    words = typed.casefold().split()
    return lambda name: all(word in name.casefold() for word in words)


def keep_chosen(some: Choices, choices: Choices, chosen: Sequence[str]) -> Choices:
    """Return some of the choices and those that are chosen: the browser drops a choice that it does not have."""
    missing = set(chosen) - {value for _, value in some}
    return [*some, *(choice for choice in choices if choice[1] in missing)]
