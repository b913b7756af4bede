"""What events of the page change, as the browser has it in the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def settle(updates: Iterable[dict[Any, Any]]) -> dict[Any, Any]:
    """Return what changes all in all, by widget."""
    changed: dict[Any, Any] = {}
    for update in updates:
        changed |= update
    return changed
