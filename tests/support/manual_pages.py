"""The pages of a small manual."""

from __future__ import annotations

MANUAL = [
    ["Descaling the coffee machine", "Fill the tank with vinegar and water, then run two cycles."],
    ["Opening hours of the swimming pool", "The pool is open from seven in the morning until nine at night."],
    ["Return of rented skis", "Bring the skis back before noon on the last day."],
]
