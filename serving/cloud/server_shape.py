"""What a server on Modal was deployed with, as tags of its app: reading them wakes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

PREFIX = "dormouse-"


@dataclass(frozen=True)
class ServerShape:
    """One container of a server, and how many there may be."""

    gpu: str
    """Modal's name, "none" without one."""
    cores: float
    memory_gib: float
    containers: int
    """The limit that was deployed; `update_autoscaler` may have changed it since."""
    requests: int
    """That one container has at once before Modal starts another."""

    def as_tags(self) -> dict[str, str]:
        return {PREFIX + name: str(value) for name, value in asdict(self).items()}


def parse_shape(tags: Mapping[str, str]) -> ServerShape | None:
    """Return what an app's tags say; None for an app of an earlier release, or of somebody else."""
    found = {name.removeprefix(PREFIX): value for name, value in tags.items() if name.startswith(PREFIX)}
    try:
        containers, requests = int(found["containers"]), int(found["requests"])
        shape = ServerShape(found["gpu"], float(found["cores"]), float(found["memory_gib"]), containers, requests)
    except (KeyError, ValueError):
        return None
    return shape if shape.containers >= 1 and shape.requests >= 1 else None
