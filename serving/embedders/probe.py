"""Compares the probe's vectors of a restored worker with those before the snapshot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GPU_COSINE = 0.999
"""A GPU may choose another kernel after a restore; a wrong weight moves a vector much further."""


def why_unusable(vectors: Sequence[Sequence[float]]) -> str | None:
    """Return why these cannot be a probe's vectors (none, not finite, zeros), or None if they can."""
    found = np.asarray(vectors, dtype=np.float32)
    if found.ndim != 2 or not found.size:
        return "the embedder answered its probe with nothing"
    if not np.isfinite(found).all() or not np.linalg.norm(found, axis=1).all():
        return "the embedder answered its probe with a vector that is not finite or empty"
    return None


def describe_difference(
    before: Sequence[Sequence[float]], after: Sequence[Sequence[float]], *, exact: bool
) -> str | None:
    """Return how two probes differ, or None if they agree: bit for bit if `exact` (a CPU), else by cosine 0.999."""
    reason = why_unusable(after)
    if reason:
        return reason
    old, new = np.asarray(before, dtype=np.float32), np.asarray(after, dtype=np.float32)
    if old.shape != new.shape:
        return f"the probe's vectors have the shape {new.shape}, {old.shape} before the snapshot"
    if exact and old.tobytes() == new.tobytes():
        return None
    cosine = float(((old * new).sum(axis=1) / (np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1))).min())
    if not exact and cosine >= GPU_COSINE:
        return None
    return f"the probe's vectors differ from those before the snapshot (cosine {cosine:.6f})"
