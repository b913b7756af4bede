"""Proofs that two fingerprints give the same vectors."""

from __future__ import annotations

from serving.library.fingerprints import Proof, Spread, Threshold


def proof(one: str, other: str) -> Proof:
    found = Spread(n=32, min=0.9995, median=0.9999)
    threshold = Threshold(pages=0.999, queries=0.9999)
    return Proof(
        fingerprints=(one, other), pages=found, queries=found, threshold=threshold, measured="2026-01-02T03:04:05+00:00"
    )
