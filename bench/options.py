"""Types for argparse: a number that is absurd, or none, ends the command with a sentence and exit code 2."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from functools import partial


def number_between(kind: type[int] | type[float], least: float, most: float) -> Callable[[str], float]:
    """Return a type for argparse that takes numbers from `least` to `most`."""

    def parse(text: str) -> float:
        with suppress(ValueError):
            if least <= (value := kind(text)) <= most:
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least:g} to {most:g}")

    return parse


int_between, float_between = partial(number_between, int), partial(number_between, float)
parse_seed = int_between(0, 2**32 - 1)


def check_counts(text: str) -> str:
    """Return the text if it is a list of counts such as `1,8,32`. Raises ArgumentTypeError."""
    with suppress(ValueError):
        if all(1 <= int(part) <= 100_000 for part in text.split(",")):
            return text
    raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers from 1 to 100000, such as 1,8,32")
