"""What an installation consists of."""

from __future__ import annotations

import importlib.metadata
import re

from packaging.requirements import Requirement


def installed(name: str, seen: set[str]) -> set[str]:
    """The distributions that `name` needs without extras, as they are installed here."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen:
        return seen
    seen.add(key)
    for line in importlib.metadata.requires(key) or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            installed(requirement.name, seen)
            for extra in requirement.extras:
                for other in importlib.metadata.requires(requirement.name) or []:
                    wanted = Requirement(other)
                    if wanted.marker is not None and wanted.marker.evaluate({"extra": extra}):
                        installed(wanted.name, seen)
    return seen
