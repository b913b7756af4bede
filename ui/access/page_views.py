"""Which collection each page view shows: a job that writes into a view asks later whether that is still so."""

from __future__ import annotations

from collections import OrderedDict

from gradio.context import LocalContext

from serving.library.records import Collection

VIEWS_KEPT = 4096
"""The latest page views; of older ones nothing is known."""


class PageViews:
    """The collection of each page view, by its key, which stays when it gets another name, else by its new name."""

    def __init__(self) -> None:
        self._shown: OrderedDict[str, str] = OrderedDict()

    @staticmethod
    def current_view() -> str:
        """Return the view that caused the current event; "" for none."""
        request = LocalContext.request.get(None)
        return getattr(request, "session_hash", None) or ""

    def show(self, collection: Collection) -> None:
        """Note that the current view shows this from now on."""
        view = self.current_view()
        self._shown[view] = collection.key or collection.name
        self._shown.move_to_end(view)
        if len(self._shown) > VIEWS_KEPT:
            self._shown.popitem(last=False)

    def leave(self) -> None:
        """Note that the current view is about to show something else."""
        self._shown[self.current_view()] = ""

    def is_at(self, key: str) -> bool:
        """Return whether the current view shows the collection of this key, for all that is known."""
        return self._shown.get(self.current_view(), key) == key

    def is_showing(self, collection: Collection, view: str) -> bool:
        return self._shown.get(view) == (collection.key or collection.name)

    def has_left(self, collection: Collection, view: str) -> bool:
        """Whether the view is known to show another collection by now."""
        return view in self._shown and not self.is_showing(collection, view)
