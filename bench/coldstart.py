"""How long a server at zero takes to its first answer, proven cold by the answer itself.

Each deployment has a result file, which is whole after every sample. What is not verified is kept in it, marked, and
left out of every cold figure. With several ways of coming back, one run compares them in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import plan as plans
from bench import record
from bench.measure import (
    Sample,
    choose_headline,
    count_outcomes,
    explain_never_cold,
    explain_no_answer,
    measure_trial,
    record_unsent_trial,
    select_times,
)
from bench.options import float_between, int_between, parse_seed
from bench.plan import COLD_KINDS, Trial
from bench.stats import bootstrap_median, bootstrap_ratio, summarise
from bench.targets import MODES, Target, TargetError, parse_snapshots, select_targets
from serving.process import ProcessFailed
from serving.snapshots import NAMES

Keep = Callable[[Sequence[Sample], bool], None]
"""All samples so far, and whether these are all."""


TIMEOUT_S = 120.0
MODAL_TIMEOUT_S = 900.0
"""A start that makes a snapshot takes minutes there, and one that fails is tried again by the platform meanwhile."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    key = "its key comes from DORMOUSE_WORKER_KEY, and an engine's admin key from DORMOUSE_ADMIN_KEY or its data folder"
    add("--mode", choices=tuple(MODES), default="builtin", help="both: vllm and huggingface; default: %(default)s")
    add("--url", help=f"a running server of that mode (default: start an engine); {key}")
    add("--vllm-url", metavar="URL", help="as --url, of vllm")
    add("--hf-url", metavar="URL", help="as --url, of huggingface")
    modal = (
        "its server on Modal, by the name of its app if that is not its file's; keys as `dormouse deploy` keeps them"
    )
    add("--modal", nargs="?", const="", metavar="APP", help=modal)
    add("--num-warmup", type=int_between(0, 1000), default=10, metavar="N", help="warm requests; default: %(default)s")
    add("--test-scaledown", action="store_true", help="scale down once more after the warm ones, and ask again")
    wait = "seconds without a request until a server that is no engine of ours is taken to be at zero; default: 65"
    add("--scaledown-wait", type=float_between(0, 86_400), default=65.0, metavar="S", help=wait)
    add("--repetitions", type=int_between(1, 1000), default=3, metavar="N", help="of all that; default: %(default)s")
    add("--seed", type=parse_seed, default=0, help="of the order and the intervals; default: %(default)s")
    limit = f"of one request; default: {TIMEOUT_S:g}, with --modal {MODAL_TIMEOUT_S:g}"
    add("--timeout", type=float_between(0.1, 3600), metavar="S", help=limit)
    gate = "exit with 1 if a cold median of the one that comes back from a snapshot (else: of the plain one) is above"
    add("--max-cold-ms", type=float_between(0.001, 1e9), metavar="N", help=gate)
    names = ", ".join(("auto", *NAMES))
    back = f"how engines that are started here come back, one engine for each, of {names}; default: plain,auto"
    add("--snapshots", type=parse_snapshots, default=("plain", "auto"), metavar="LIST", help=back)
    add("--weights", metavar="DIR_OR_HUB_ID", help="of huggingface and vllm engines that are started here")
    add("--device", choices=("cuda", "cpu"), help="of those")
    add("--out", type=Path, default=Path(), metavar="DIR", help="folder of the result files; default: this one")
    add("--until-stdin-closes", action="store_true", help="stop, as by Ctrl-C, when whoever started this has gone")


def run_trials(
    trials: Sequence[Trial], targets: Sequence[Target], told: Display, keep: Keep, timeout_s: float
) -> tuple[list[Sample], bool]:  # fmt: skip
    """All samples, and False if Ctrl-C ended it before the plan did. What fails is a row; the rest goes on."""
    named = {target.name: target for target in targets}
    samples: list[Sample] = []
    seen: set[str] = set()
    try:
        for trial in trials:
            samples.append(run_trial(trial, named[trial.target], told.phase, timeout_s, seen))
            keep(samples, False)
            told.row(render_progress(samples, len(trials)))
    except KeyboardInterrupt:
        keep(samples, False)
        return samples, False
    keep(samples, True)
    return samples, True


def run_trial(trial: Trial, target: Target, phase: Callable[[str], None], timeout_s: float, seen: set[str]) -> Sample:
    if trial.kind in COLD_KINDS:
        try:
            target.scale_down(lambda text: phase(f"{target.name}: {text}"))
        except TargetError as error:
            return record_unsent_trial(trial, str(error))
    phase(f"{target.name}: {trial.kind.replace('_', ' ')} request")
    sample = measure_trial(trial, target.url, target.key, timeout_s, seen, target.headers)
    target.answered(sample.start_kind)
    return sample


def build_result(
    deployment: str, samples: Sequence[Sample], titles: Mapping[str, str], seed: int, complete: bool
) -> dict[str, Any]:  # fmt: skip
    """What the file says, without schema version and environment. `titles`: of the deployment's targets, by name.

    The figures at the top are of one target, `headline`: the first that was restored, else the first that was cold.
    """
    ours = [sample for sample in samples if sample.target in titles]
    headline = choose_headline(ours, list(titles))
    of = [sample for sample in ours if sample.target == headline]
    warm = summarise(select_times(of, "warm"))
    each = {name: summarise_target(name, title, ours, seed) for name, title in titles.items()}
    found = {kind: asdict(summarise(select_times(ours, kind))) for kind in ("plain", "restored", "warm")}
    return {
        "deployment_name": deployment,
        "complete": complete,
        "headline": headline,
        "cold_start_ms": summarise([s.client_ms for s in of if s.cold and s.kind == "initial"]).p50,
        "warm_start_avg_ms": warm.mean,
        "warm_start_p50_ms": warm.p50,
        "warm_start_p95_ms": warm.p95,
        "post_scaledown_cold_start_ms": summarise([s.client_ms for s in of if s.cold and s.kind != "initial"]).p50,
        "summary": {
            **found,
            "cold_over_warm": each[headline]["cold_over_warm"] if headline else None,
            "plain_over_restored": compare_times(select_times(ours, "plain"), select_times(ours, "restored"), seed),
            "counts": count_outcomes(ours),
            "targets": each,
        },
        "samples": [asdict(sample) for sample in ours],
    }


def summarise_target(name: str, title: str, samples: Sequence[Sample], seed: int) -> dict[str, Any]:
    of = [sample for sample in samples if sample.target == name]
    plain = select_times(samples, "plain")
    found: dict[str, Any] = {"title": title}
    for kind in ("plain", "restored", "warm"):
        took = select_times(of, kind)
        found[kind] = {**asdict(summarise(took)), "p50_interval": bootstrap_median(took, seed) if took else None}
    cold = select_times(of, "restored") or select_times(of, "plain")
    found["cold_over_warm"] = compare_times(cold, select_times(of, "warm"), seed)
    found["plain_over_restored"] = compare_times(plain, select_times(of, "restored"), seed)
    return {**found, **count_outcomes(of), "never_cold": explain_never_cold(of)}


def compare_times(a: list[float], b: list[float], seed: int) -> dict[str, Any] | None:
    """Of medians, with n of both; None where one of them is missing."""
    if not a or not b:
        return None
    return {**asdict(bootstrap_ratio(a, b, seed)), "n": [len(a), len(b)]}


def explain_too_slow(found: Mapping[str, Any], most_ms: float | None) -> str:
    """In a sentence; empty if it is fast enough or nobody asked."""
    slow = [found[name] for name in ("cold_start_ms", "post_scaledown_cold_start_ms")]
    above = [median for median in slow if median is not None and most_ms is not None and median > most_ms]
    return f"{found['headline']}: a cold median is {max(above):.0f} ms, above {most_ms:g}" if above else ""


class Display:
    """Plain lines: rows, and of a countdown only that it began."""

    def __init__(self) -> None:
        self._said = ""

    def phase(self, text: str) -> None:
        what, counted, _ = text.partition(",")
        if counted and what != self._said:
            self.row(text)
        self._said = what

    def row(self, text: str) -> None:
        print(text, flush=True)

    def end(self) -> None:
        """Before the last words."""


class LiveDisplay(Display):
    """On a terminal: what is going on in the last line, and the latest row above it."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, markup=False)
        self._status = self._console.status("starting")
        self._status.start()

    def phase(self, text: str) -> None:
        from rich.text import Text

        self._status.update(Text(text))

    def row(self, text: str) -> None:
        self._console.print(text)

    def end(self) -> None:
        self._status.stop()


@contextlib.contextmanager
def open_display() -> Iterator[Display]:
    shown = LiveDisplay() if sys.stdout.isatty() else Display()
    try:
        yield shown
    finally:
        shown.end()


def render_progress(samples: Sequence[Sample], total: int) -> str:
    """The latest sample, and the median of its like so far."""
    last = samples[-1]
    kind = "warm" if last.kind == "warm" else last.start_kind
    like = select_times([sample for sample in samples if sample.target == last.target], kind)
    proof = "verified cold" if last.cold else last.why_not
    median = f"; {kind} median {statistics.median(like):.1f} ms (n={len(like)})" if like else ""
    what = last.kind.replace("_", " ")
    return f"[{len(samples)}/{total}] {last.target}, {what}: {last.client_ms:.1f} ms, {proof}{median}"


def render_table(found: Mapping[str, Any]) -> str:
    """Of one deployment's result, in plain text."""
    rows = [f"{'':<34}{'n':>5}{'p50 ms':>10}{'95 % of p50':>20}{'p95 ms':>11}{'max ms':>10}"]
    notes = []
    for name, of in found["summary"]["targets"].items():
        for kind, label in (("plain", "cold, plain"), ("restored", "cold, restored"), ("warm", "warm")):
            if of[kind]["n"]:
                rows.append(render_row(f"{name}: {label}", of[kind]))
        for what, label in (("cold_over_warm", "cold over warm"), ("plain_over_restored", "plain over restored")):
            if r := of[what]:
                within = f"{r['low']:.1f} to {r['high']:.1f}, n={r['n'][0]} and {r['n'][1]}"
                notes.append(f"{name}: {label} {r['value']:.1f}x ({within})")
        notes.append(
            f"{name}: {of['verified']} verified cold, {of['unverified']} not, {of['excluded']} made the snapshot"
        )
        notes += [f"{name}: {of['never_cold']}"] * bool(of["never_cold"])
        notes += [f"{name}: outcomes {of['outcomes']}"] * (set(of["outcomes"]) != {"ok"})
    return "\n".join([*rows, "? too few samples for that percentile", *notes])


def render_row(label: str, of: Mapping[str, Any]) -> str:
    low, high = of["p50_interval"]
    weak = "?" if "p95" in of["weak"] else " "
    within = f"{low:.1f} to {high:.1f}"
    return f"{label:<34}{of['n']:>5}{of['p50']:>10.1f}{within:>20}{of['p95']:>10.1f}{weak}{of['max']:>10.1f}"


def main(options: argparse.Namespace) -> int:
    """0; 1 for a median above `--max-cold-ms`, nothing verified cold, a server that was gone at the end, or what keeps
    it from running; 130 for Ctrl-C."""
    try:
        with ExitStack() as stack:
            stack.enter_context(interrupt_on_sigterm())
            if options.until_stdin_closes:
                threading.Thread(target=interrupt_at_stdin_end, name="stdin", daemon=True).start()
            options.out.mkdir(parents=True, exist_ok=True)
            told = stack.enter_context(open_display())
            return measure_targets(options, stack, told)
    except (TargetError, ProcessFailed, ValueError, OSError) as error:
        print(f"the bench stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was measured", file=sys.stderr)
        return 130


@contextlib.contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """SIGTERM is Ctrl-C: what was started is ended, and what was changed elsewhere is put back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def interrupt_at_stdin_end() -> None:
    """As by Ctrl-C, once standard input has been closed: SIGINT itself is ignored behind the `&` of a shell."""
    with contextlib.suppress(OSError):
        while os.read(0, 65536):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def measure_targets(options: argparse.Namespace, stack: ExitStack, told: Display) -> int:
    where = record.describe_environment()
    found = select_targets(options, stack, told.row)
    everyone = [target for of in found.values() for target in of]
    names = [target.name for target in everyone]
    trials = plans.plan_trials(names, options.num_warmup, options.repetitions, options.test_scaledown, options.seed)
    results: dict[str, dict[str, Any]] = {}

    def keep(samples: Sequence[Sample], complete: bool) -> None:
        for deployment, of in found.items():
            titles = {target.name: target.title for target in of}
            if complete or (samples and samples[-1].target in titles):
                results[deployment] = build_result(deployment, samples, titles, options.seed, complete)
                file = options.out / f"cold_start_results_{deployment}.json"
                record.save_result(file, "cold_start", results[deployment], where)

    timeout_s = options.timeout or (TIMEOUT_S if options.modal is None else MODAL_TIMEOUT_S)
    samples, complete = run_trials(trials, everyone, told, keep, timeout_s)
    lost = {name: explain_no_answer([sample for sample in samples if sample.target == name]) for name in names}
    return conclude_run(options, results, told, f"{len(samples)} of {len(trials)}", complete, lost)


def conclude_run(
    options: argparse.Namespace, results: Mapping[str, dict[str, Any]], told: Display, done: str, complete: bool,
    lost: Mapping[str, str],
) -> int:  # fmt: skip
    """Says what came of it; the exit code. `lost`: of each target, why its last trials tell nothing, or nothing."""
    told.end()
    for deployment, found in results.items():
        print(render_table(found))
        print(f"written to {options.out / f'cold_start_results_{deployment}.json'}")
    if not complete:
        print(f"stopped after {done} trials; what was measured is kept, marked incomplete", file=sys.stderr)
        return 130
    reasons = [reason for found in results.values() if (reason := explain_too_slow(found, options.max_cold_ms))]
    reasons += [f"{name}: nothing was verified cold" for name, found in results.items() if not found["headline"]]
    reasons += [f"{name}: {why}; what was measured before is kept" for name, why in lost.items() if why]
    for reason in reasons:
        print(reason, file=sys.stderr)
    return 1 if reasons else 0
