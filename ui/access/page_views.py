"""Which collection each page view shows: what is written into a view later asks whether that is still so."""

from __future__ import annotations

from collections import OrderedDict

from gradio.context import LocalContext

from serving.library.records import Collection

KEPT = 4096
"""Page views, the latest ones."""


class Views:
    def __init__(self) -> None:
        self._shown: OrderedDict[str, str] = OrderedDict()

    @staticmethod
    def current() -> str:
        """The view that caused the event that runs now; "" for none."""
        request = LocalContext.request.get(None)
        return getattr(request, "session_hash", None) or ""

    def turn(self, collection: Collection) -> None:
        """The current view shows this from now on."""
        view = self.current()
        self._shown[view] = mark(collection)
        self._shown.move_to_end(view)
        while len(self._shown) > KEPT:
            self._shown.popitem(last=False)

    def shows(self, collection: Collection, view: str) -> bool:
        return self._shown.get(view) == mark(collection)

    def left(self, collection: Collection, view: str) -> bool:
        """It is known to show another one by now."""
        return view in self._shown and not self.shows(collection, view)


def mark(collection: Collection) -> str:
    """Its key, which stays when it gets another name; the name of one that does not exist yet."""
    return collection.key or collection.name
