"""`python -m bench prime`: after a deploy, start and scale down until starts are restored from a snapshot.

Modal makes two or three snapshots of a new deployment, one for each kind of machine, and each start that makes one is
the slowest of all. Priming pays for those before a user waits for them. No result is kept: measuring is the cold-start
command's part.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from bench.coldstart.modal_target import SETTLE_S, open_modal_target
from bench.coldstart.plan import Trial
from bench.coldstart.run import MODAL_TIMEOUT_S, Display, open_display
from bench.coldstart.sample import CREATED, RESTORED, Sample, measure_trial
from bench.coldstart.select_targets import MODES
from bench.coldstart.target import Target, TargetError, attach_target
from bench.cost import prices
from bench.cost.prices import Price
from bench.options import float_between, int_between
from serving.cloud import modal_account
from serving.cloud.credentials import NAMES

ABOUT = "after a deploy: start a server on Modal and scale it down until starts are restored from a snapshot"
MOST_FAILURES = 3
"""Failures in a row after which a target is given up: each may have started a GPU."""


@dataclass
class PrimeProgress:
    """The starts of one target so far."""

    starts: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """Starts counted by the kinds of `classify_start`."""
    outcomes: list[str] = field(default_factory=list)
    up_s: float = 0.0
    """From each request until no container was held any more: nearly what is billed."""

    @property
    def restored(self) -> int:
        return self.kinds[RESTORED]

    @property
    def is_hopeless(self) -> bool:
        """True if the latest starts all failed."""
        return len(self.outcomes) >= MOST_FAILURES and "ok" not in self.outcomes[-MOST_FAILURES:]


def prime_target(
    target: Target, progress: PrimeProgress, wanted: int, most: int, timeout_s: float, price: Price, display: Display
) -> None:
    """Start the target until `wanted` starts were restored, `most` times at most, and leave it at zero.

    Gives up early if it fails again and again. Fills `progress` after each start. Raises TargetError.
    """
    seen: set[str] = set()

    def say(text: str) -> None:
        display.show_phase(f"{target.name}: {text}")

    target.scale_down(say)
    while progress.starts < most and progress.restored < wanted and not progress.is_hopeless:
        began = time.monotonic()
        progress.starts += 1
        say(f"start {progress.starts} of {most} at most, {progress.restored} of {wanted} restored")
        trial = Trial(progress.starts, target.name, "initial" if progress.starts == 1 else "after_scaledown", 1)
        sample = measure_trial(trial, target.url, target.key, timeout_s, seen, target.headers)
        target.note_start(sample.start_kind)
        kind = classify_start(sample)
        progress.outcomes.append(sample.outcome)
        progress.kinds[kind] += 1
        why = f" ({sample.why_not})" if kind in ("failed", "warm") else ""
        tries = f", {sample.retries} tries before" if sample.retries else ""
        display.show_row(
            f"{target.name} {progress.starts}/{most}: {kind}{why}, {sample.client_ms / 1000:.2f} s{tries};"
            f" {progress.restored} of {wanted} restored"
        )
        try:
            target.scale_down(say)
        finally:
            progress.up_s += time.monotonic() - began
        if price.per_hour:
            cost = progress.up_s * price.per_s
            display.show_row(f"{target.name}: about ${cost:.3f} so far, {progress.up_s:.0f} s up")


def classify_start(sample: Sample) -> str:
    """Return the start kind; `failed` without an answer, `warm` for one of a process that was there before."""
    if sample.outcome != "ok":
        return "failed"
    return sample.start_kind if sample.start_kind == CREATED or sample.counts_as_cold else "warm"


def render_verdict(name: str, progress: PrimeProgress, wanted: int, price: Price) -> str:
    """Return how the starts went, what they cost, and what to do if too few were restored."""
    counted = ", ".join(f"{count} {kind}" for kind, count in progress.kinds.most_common()) or "no start"
    cost = f", about ${progress.up_s * price.per_s:.3f} ({price.gpu} at ${price.per_hour:.2f} an hour)"
    some = f"{progress.restored} of {wanted} restored; run it again, or allow more --max-starts"
    refused = bool({"http_401", "http_403"} & set(progress.outcomes))
    advice = (
        (progress.restored, some),
        (progress.kinds[CREATED], "snapshots were made and none was restored yet; run it again in a few minutes"),
        (progress.kinds["plain"], "no snapshot is made; `modal serve` and `modal run` make none, `modal deploy` does"),
        (refused, f"it refused the keys; set {', '.join(NAMES[:4])} to those of the deployment"),
        (True, "see the reasons above"),
    )
    why = next(text for applies, text in advice if applies)
    verdict = "Primed" if progress.restored >= wanted else f"Not primed: {why}"
    return f"{name}: {counted}; {progress.up_s:.0f} s up{cost if price.per_hour else ''}. {verdict}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    modes = tuple(mode for mode in MODES if mode != "builtin")
    add("--mode", choices=modes, default="both", help="which server on Modal; default: %(default)s")
    add("--app", default="", help="the name of its app on Modal, if that is not its file's")
    add("--url", help="any other server instead: an engine by its admin key, others by waiting")
    restores = "restored starts to wait for, of each server; default: %(default)s"
    add("--restores", type=int_between(1, 100), default=3, metavar="N", help=restores)
    most = "starts at most, of each server; default: %(default)s"
    add("--max-starts", type=int_between(1, 1000), default=12, metavar="N", help=most)
    settle = "seconds left to write a snapshot before the container is stopped; default: %(default)g"
    add("--settle", type=float_between(0, 3600), default=SETTLE_S, metavar="S", help=settle)
    timeout = "seconds for one request; default: %(default)g"
    add("--timeout", type=float_between(0.1, 3600), default=MODAL_TIMEOUT_S, metavar="S", help=timeout)
    wait = "seconds without a request after which --url counts as at zero; default: %(default)g"
    add("--scaledown-wait", type=float_between(0, 86_400), default=65.0, metavar="S", help=wait)
    prices.add_arguments(parser)
    parser.set_defaults(gpu=None)


def select_targets(options: argparse.Namespace, stack: ExitStack) -> list[Target]:
    """Return the servers to prime; `stack` closes them. Raises TargetError, ValueError."""
    if options.url:
        key = os.environ.get("DORMOUSE_WORKER_KEY", "")
        return [stack.enter_context(closing(attach_target("server", options.url, key, options.scaledown_wait)))]
    if options.app and options.mode == "both":
        raise ValueError("--app is for one server: give its --mode")
    targets = (open_modal_target(deployment, options.app, options.settle) for deployment in MODES[options.mode])
    return [stack.enter_context(closing(target)) for target in targets]


def choose_price(options: argparse.Namespace) -> Price:
    """Return the price of what is deployed; for a server elsewhere 0, unless one is given. Raises ValueError."""
    if options.gpu is None and options.url:
        options.gpu = "none"
    elif options.gpu is None:
        modal_account.import_client()
        from serving.cloud.modal_app import read_deployment

        deployed = read_deployment()
        options.gpu = deployed.gpu.rstrip("!") or "none"
        options.cores, options.memory_gib = options.cores or deployed.cpu, options.memory_gib or deployed.memory / 1024
    return prices.choose_price(options)


def main(options: argparse.Namespace) -> int:
    """Prime the servers, and return 0 if all are primed; 130 for Ctrl-C."""
    try:
        with ExitStack() as stack:
            price = choose_price(options)
            targets = select_targets(options, stack)
            display = stack.enter_context(open_display())
            for target in targets:
                display.show_row(f"{target.name}: {target.title}")
            return prime_targets(targets, options, price, display)
    except KeyboardInterrupt:
        print("stopped: a container that is up goes to zero by itself after its scaledown window", file=sys.stderr)
        return 130


def prime_targets(targets: Sequence[Target], options: argparse.Namespace, price: Price, display: Display) -> int:
    """Prime one server after the other, print a verdict on each, also if interrupted, and return the exit code."""
    done: dict[str, PrimeProgress] = {}
    try:
        for target in targets:
            progress = done[target.name] = PrimeProgress()
            try:
                prime_target(target, progress, options.restores, options.max_starts, options.timeout, price, display)
            except TargetError as error:
                display.show_row(f"{target.name}: {error}")
    finally:
        display.close()
        for name, progress in done.items():
            print(render_verdict(name, progress, options.restores, price), flush=True)
    return 0 if all(progress.restored >= options.restores for progress in done.values()) else 1
