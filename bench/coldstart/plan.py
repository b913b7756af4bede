"""The order of a cold-start run: which target is asked when, as data that a seed fixes.

Targets take turns within each repetition, in an order drawn anew each time: what changes on the machine meanwhile (its
load, its page cache) then meets all of them. This module knows no servers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

TrialKind = Literal["initial", "warm", "after_scaledown"]
COLD_KINDS: tuple[TrialKind, ...] = ("initial", "after_scaledown")
"""Kinds before which a target is scaled down."""


@dataclass(frozen=True)
class Trial:
    """One request to come. `number` counts from 1 through the whole plan, `repetition` from 1."""

    number: int
    target: str
    kind: TrialKind
    repetition: int


def plan_trials(
    targets: Sequence[str], num_warmup: int, repetitions: int, test_scaledown: bool, seed: int
) -> list[Trial]:
    """Return for each repetition and target a cold request, `num_warmup` warm ones, and one more that is cold.

    Raises ValueError for a name that comes twice, negative counts, and a plan without a trial.
    """
    if len(set(targets)) != len(targets):
        raise ValueError("two targets have the same name")
    if not targets or repetitions < 1 or num_warmup < 0:
        raise ValueError("a plan needs a target, a repetition or more, and no negative number of warm requests")
    draw = random.Random(seed)
    kinds: list[TrialKind] = ["initial"]
    kinds += ["warm"] * num_warmup
    kinds += ["after_scaledown"] * test_scaledown
    trials: list[Trial] = []
    for repetition in range(1, repetitions + 1):
        for target in draw.sample(list(targets), len(targets)):
            trials += [Trial(len(trials) + number, target, kind, repetition) for number, kind in enumerate(kinds, 1)]
    return trials
