"""Numbers on a command line: what is none, or absurd, is refused by argparse with a sentence and exit code 2."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial


def number_between(kind: type[int] | type[float], least: float, most: float) -> Callable[[str], float]:
    """For argparse's `type`."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least:g} to {most:g}")
        return value

    return read


int_between, float_between = partial(number_between, int), partial(number_between, float)
parse_seed = int_between(0, 2**32 - 1)


def check_counts(text: str) -> str:
    """The same text, if it is a list such as `1,8,32`."""
    try:
        good = all(1 <= int(part) <= 100_000 for part in text.split(","))
    except ValueError:
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers from 1 to 100000, such as 1,8,32")
    return text
