"""`python -m bench prime`: after a deploy, start and scale down until starts come back from a snapshot.

The platform makes two or three snapshots of a new deployment, one for each kind of machine, and each start that makes
one is the slowest of all. Who primes pays for those before a user waits for them. Nothing is kept: what is measured is
for the bench itself.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench import account, prices
from bench.account import AccountError
from bench.coldstart import MODAL_TIMEOUT_S, Display, interrupt_on_sigterm, open_display
from bench.keys import NAMES
from bench.measure import CREATED, RESTORED, Sample, measure_trial
from bench.options import float_between, int_between
from bench.plan import Trial
from bench.prices import Price
from bench.targets import MODES, Target, TargetError, attach_target

GIVEN_UP = 3
"""Failures in a row; each may have started a GPU."""


@dataclass
class PrimeProgress:
    """What came of one target so far."""

    starts: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """Of the answers that came; `failed` for those that did not, and `warm` for those of a process that was there."""
    outcomes: list[str] = field(default_factory=list)
    up_s: float = 0.0
    """From each request until nothing was held any more: what is billed, nearly."""

    @property
    def restored(self) -> int:
        return self.kinds[RESTORED]

    @property
    def hopeless(self) -> bool:
        last = self.outcomes[-GIVEN_UP:]
        return len(last) == GIVEN_UP and "ok" not in last


def prime_target(
    target: Target, found: PrimeProgress, wanted: int, most: int, timeout_s: float, price: Price, told: Display
) -> None:  # fmt: skip
    """Starts until `wanted` were restored, `most` of them at most, and leaves it at zero. Raises TargetError.

    `found` is filled as they come. What fails again and again is given up before that.
    """
    seen: set[str] = set()

    def phase(text: str) -> None:
        told.phase(f"{target.name}: {text}")

    target.scale_down(phase)
    while found.starts < most and found.restored < wanted and not found.hopeless:
        began = time.monotonic()
        found.starts += 1
        phase(f"start {found.starts} of {most} at most, {found.restored} of {wanted} restored")
        trial = Trial(found.starts, target.name, "initial" if found.starts == 1 else "after_scaledown", 1)
        sample = measure_trial(trial, target.url, target.key, timeout_s, seen, target.headers)
        target.answered(sample.start_kind)
        found.outcomes.append(sample.outcome)
        found.kinds[classify_start(sample)] += 1
        told.row(render_start(target.name, sample, found, wanted, most))
        try:
            target.scale_down(phase)
        finally:
            found.up_s += time.monotonic() - began
        if price.per_hour:
            told.row(f"{target.name}: about ${found.up_s * price.per_s:.3f} so far, {found.up_s:.0f} s up")


def classify_start(sample: Sample) -> str:
    if sample.outcome != "ok":
        return "failed"
    if sample.start_kind == CREATED or sample.cold:
        return sample.start_kind
    return "warm"


def render_start(name: str, sample: Sample, found: PrimeProgress, wanted: int, most: int) -> str:
    what = classify_start(sample)
    why = "" if what not in ("failed", "warm") else f" ({sample.why_not})"
    tries = f", {sample.retries} tries before" if sample.retries else ""
    return (
        f"{name} {found.starts}/{most}: {what}{why}, {sample.client_ms / 1000:.2f} s{tries};"
        f" {found.restored} of {wanted} restored"
    )


def render_verdict(name: str, found: PrimeProgress, wanted: int, price: Price) -> str:
    """In words: what came, what it cost, and what to do if it was not enough."""
    counted = ", ".join(f"{count} {what}" for what, count in found.kinds.most_common()) or "no start"
    cost = f", about ${found.up_s * price.per_s:.3f} ({price.gpu} at ${price.per_hour:.2f} an hour)"
    text = f"{name}: {counted}; {found.up_s:.0f} s up{cost if price.per_hour else ''}"
    if found.restored >= wanted:
        return f"{text}. Primed"
    if found.kinds[RESTORED]:
        return f"{text}. Not primed: {found.restored} of {wanted} restored; run it again, or allow more --max-starts"
    if found.kinds[CREATED]:
        return f"{text}. Not primed: snapshots were made and none came back yet; run it again in a few minutes"
    if found.kinds["plain"]:
        return f"{text}. Not primed: no snapshot is made; `modal serve` and `modal run` make none, `modal deploy` does"
    if {"http_401", "http_403"} & set(found.outcomes):
        return f"{text}. Not primed: it refused the keys; set {', '.join(NAMES[:4])} to those of the deployment"
    return f"{text}. Not primed: see the reasons above"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    modes = tuple(mode for mode in MODES if mode != "builtin")
    add("--mode", choices=modes, default="both", help="which server on Modal; default: %(default)s")
    add("--app", default="", help="the name of its app on Modal, if that is not its file's")
    add("--url", help="any other server instead: an engine by its admin key, others by waiting")
    add("--restores", type=int_between(1, 100), default=3, metavar="N", help="to see of each; default: %(default)s")
    add("--max-starts", type=int_between(1, 1000), default=12, metavar="N", help="of each; default: %(default)s")
    add(
        "--settle",
        type=float_between(0, 3600),
        metavar="S",
        help="left to write a snapshot before it is stopped; default: 30",
    )
    add("--timeout", type=float_between(0.1, 3600), default=MODAL_TIMEOUT_S, metavar="S", help="default: %(default)g")
    add("--scaledown-wait", type=float_between(0, 86_400), default=65.0, metavar="S", help="as of the bench")
    prices.add_arguments(parser)
    parser.set_defaults(gpu=None)


def select_targets(options: argparse.Namespace, stack: ExitStack) -> list[Target]:
    """Raises TargetError, ValueError."""
    from bench.modal_app import SETTLE_S, open_modal_target

    if options.url:
        found = [
            attach_target("server", options.url, os.environ.get("DORMOUSE_WORKER_KEY", ""), options.scaledown_wait)
        ]
    else:
        if options.app and options.mode == "both":
            raise ValueError("--app is for one server: give its --mode")
        settle = SETTLE_S if options.settle is None else options.settle
        found = [open_modal_target(deployment, options.app, settle) for deployment in MODES[options.mode]]
    for target in found:
        stack.callback(target.close)
    return found


def choose_price(options: argparse.Namespace) -> Price:
    """As the servers are deployed; of one elsewhere only if it is given. Raises ValueError, NotInstalled."""
    if options.gpu is None and options.url:
        options.gpu = "none"
    elif options.gpu is None:
        account.import_client()
        from serving.modal_app import deployment

        deployed = deployment()
        options.gpu = deployed.gpu.rstrip("!") or "none"
        options.cores, options.memory_gib = options.cores or deployed.cpu, options.memory_gib or deployed.memory / 1024
    return prices.choose_price(options)


def main(options: argparse.Namespace) -> int:
    """0 if all are primed; 1 if not, or for what keeps it from running; 130 for Ctrl-C."""
    try:
        with ExitStack() as stack:
            stack.enter_context(interrupt_on_sigterm())
            price = choose_price(options)
            targets = select_targets(options, stack)
            told = stack.enter_context(open_display())
            for target in targets:
                told.row(f"{target.name}: {target.title}")
            return prime_targets(targets, options, price, told)
    except (TargetError, AccountError, ValueError, OSError) as error:
        print(f"not primed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: what runs now goes to zero by itself, when it has idled for its window", file=sys.stderr)
        return 130


def prime_targets(targets: Sequence[Target], options: argparse.Namespace, price: Price, told: Display) -> int:
    """One after the other: one that fails does not keep the others from it. Says at the end what came, also if it is
    interrupted; the exit code."""
    done: dict[str, PrimeProgress] = {}
    try:
        for target in targets:
            found = done[target.name] = PrimeProgress()
            try:
                prime_target(target, found, options.restores, options.max_starts, options.timeout, price, told)
            except TargetError as error:
                told.row(f"{target.name}: {error}")
    finally:
        told.end()
        for name, found in done.items():
            print(render_verdict(name, found, options.restores, price), flush=True)
    return 0 if all(found.restored >= options.restores for found in done.values()) else 1
