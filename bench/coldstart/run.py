"""The cold-start command: how long a server at zero takes to its first answer, proven cold by the answer itself.

Each deployment has a result file, which is whole after every sample. What is not verified is kept in it, marked, and
left out of every cold figure. Several targets are measured in turn, in one run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.coldstart.plan import COLD_KINDS, Trial, plan_trials
from bench.coldstart.sample import (
    KINDS,
    Sample,
    choose_headline,
    count_outcomes,
    explain_never_cold,
    explain_no_answer,
    measure_trial,
    record_unsent_trial,
    select_times,
)
from bench.coldstart.select_targets import MODES, SNAPSHOTS, parse_snapshots, select_targets
from bench.coldstart.target import Target, TargetError
from bench.options import float_between, int_between, parse_seed
from bench.results import record
from bench.results.record import Say
from bench.results.stats import bootstrap_median, bootstrap_ratio, summarise

Keep = Callable[[Sequence[Sample], bool], None]
"""Saves all samples so far; the flag says whether these are all."""

TIMEOUT_S = 120.0
MODAL_TIMEOUT_S = 900.0
"""A start that makes a snapshot takes minutes there, and one that fails is tried again by the platform meanwhile."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    key = "its key comes from DORMOUSE_WORKER_KEY, and an engine's admin key from DORMOUSE_ADMIN_KEY or its data folder"
    add("--mode", choices=tuple(MODES), default="builtin", help="both: vllm and huggingface; default: %(default)s")
    add("--url", help=f"a running server of that mode (default: start an engine); {key}")
    add("--vllm-url", metavar="URL", help="a running vllm server, as --url")
    add("--hf-url", metavar="URL", help="a running huggingface server, as --url")
    modal = "a server on Modal, by its app's name if that is not its file's; keys are those of `dormouse deploy`"
    add("--modal", nargs="?", const="", metavar="APP", help=modal)
    warm = "warm requests after a cold one; default: %(default)s"
    add("--num-warmup", type=int_between(0, 1000), default=10, metavar="N", help=warm)
    add("--test-scaledown", action="store_true", help="scale down once more after the warm requests, and ask again")
    wait = "seconds without a request after which a server that is no engine of ours counts as at zero; default: 65"
    add("--scaledown-wait", type=float_between(0, 86_400), default=65.0, metavar="S", help=wait)
    rounds = "rounds of cold and warm requests; default: %(default)s"
    add("--repetitions", type=int_between(1, 1000), default=3, metavar="N", help=rounds)
    add("--seed", type=parse_seed, default=0, help="fixes the order and the intervals; default: %(default)s")
    limit = f"seconds for one request; default: {TIMEOUT_S:g}, with --modal {MODAL_TIMEOUT_S:g}"
    add("--timeout", type=float_between(0.1, 3600), metavar="S", help=limit)
    gate = "exit with 1 if a cold median of the restored target (else of the plain one) is above N"
    add("--max-cold-ms", type=float_between(0.001, 1e9), metavar="N", help=gate)
    back = f"snapshots of engines started here, an engine for each, of {', '.join(SNAPSHOTS)}; default: plain,auto"
    add("--snapshots", type=parse_snapshots, default=("plain", "auto"), metavar="LIST", help=back)
    add("--weights", metavar="DIR_OR_HUB_ID", help="weights of huggingface and vllm engines started here")
    add("--device", choices=("cuda", "cpu"), help="device of engines started here")
    add("--out", type=Path, default=Path(), metavar="DIR", help="folder of the result files; default: this one")
    add("--until-stdin-closes", action="store_true", help="stop as by Ctrl-C once standard input is closed")


def run_trials(
    trials: Sequence[Trial], targets: Sequence[Target], display: Display, keep: Keep, timeout_s: float
) -> tuple[list[Sample], bool]:
    """Return all samples, and False if Ctrl-C ended the run before its plan. What fails is a sample like any other."""
    named = {target.name: target for target in targets}
    samples: list[Sample] = []
    seen: set[str] = set()
    complete = False
    with contextlib.suppress(KeyboardInterrupt):
        for trial in trials:
            samples.append(run_trial(trial, named[trial.target], display.show_phase, timeout_s, seen))
            keep(samples, False)
            display.show_row(render_progress(samples, len(trials)))
        complete = True
    keep(samples, complete)
    return samples, complete


def run_trial(trial: Trial, target: Target, say: Say, timeout_s: float, seen: set[str]) -> Sample:
    """Scale the target down if the trial is a cold one, send its request, and return the sample."""
    if trial.kind in COLD_KINDS:
        try:
            target.scale_down(lambda text: say(f"{target.name}: {text}"))
        except TargetError as error:
            return record_unsent_trial(trial, str(error))
    say(f"{target.name}: {trial.kind.replace('_', ' ')} request")
    sample = measure_trial(trial, target.url, target.key, timeout_s, seen, target.headers)
    target.note_start(sample.start_kind)
    return sample


def build_result(
    deployment: str, samples: Sequence[Sample], titles: Mapping[str, str], seed: int, complete: bool
) -> dict[str, Any]:
    """Return the result file's content, without schema version and environment. `titles`: of targets, by name."""
    ours = [sample for sample in samples if sample.target in titles]
    headline = choose_headline(ours, list(titles))
    warm = summarise(select_times(ours, "warm", headline)) if headline else summarise([])
    cold = [sample for sample in ours if sample.counts_as_cold and sample.target == headline]
    targets = {name: summarise_target(name, title, ours, seed) for name, title in titles.items()}
    kinds = {kind: asdict(summarise(select_times(ours, kind))) for kind in KINDS}
    return {
        "deployment_name": deployment,
        "complete": complete,
        "headline": headline,
        "cold_start_ms": summarise([s.client_ms for s in cold if s.kind == "initial"]).p50,
        "warm_start_avg_ms": warm.mean,
        "warm_start_p50_ms": warm.p50,
        "warm_start_p95_ms": warm.p95,
        "post_scaledown_cold_start_ms": summarise([s.client_ms for s in cold if s.kind != "initial"]).p50,
        "summary": {
            **kinds,
            "cold_over_warm": targets[headline]["cold_over_warm"] if headline else None,
            "plain_over_restored": compare_times(select_times(ours, "plain"), select_times(ours, "restored"), seed),
            "counts": count_outcomes(ours),
            "targets": targets,
        },
        "samples": [asdict(sample) for sample in ours],
    }


def summarise_target(name: str, title: str, samples: Sequence[Sample], seed: int) -> dict[str, Any]:
    """Return the figures of one target; its restores are compared with the plain starts of all."""
    ours = [sample for sample in samples if sample.target == name]
    times = {kind: select_times(ours, kind) for kind in KINDS}
    figures = {
        kind: {**asdict(summarise(took)), "p50_interval": bootstrap_median(took, seed) if took else None}
        for kind, took in times.items()
    }
    return {
        "title": title,
        **figures,
        "cold_over_warm": compare_times(times["restored"] or times["plain"], times["warm"], seed),
        "plain_over_restored": compare_times(select_times(samples, "plain"), times["restored"], seed),
        **count_outcomes(ours),
        "never_cold": explain_never_cold(ours),
    }


def compare_times(a: list[float], b: list[float], seed: int) -> dict[str, Any] | None:
    """Return the ratio of two medians with n of both; None where one of them is missing."""
    if not a or not b:
        return None
    return {**asdict(bootstrap_ratio(a, b, seed)), "n": [len(a), len(b)]}


class Display:
    """Progress as plain lines: each row, and of a countdown only that it began."""

    def __init__(self) -> None:
        self._latest = ""

    def show_phase(self, text: str) -> None:
        """Show what is going on until the next row."""
        what, counts_down, _ = text.partition(",")
        if counts_down and what != self._latest:
            self.show_row(text)
        self._latest = what

    def show_row(self, text: str) -> None:
        print(text, flush=True)

    def close(self) -> None:
        """Leave the terminal to the last words."""


class LiveDisplay(Display):
    """Progress on a terminal: what is going on in the last line, rows above it."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, markup=False)
        self._status = self._console.status("starting")
        self._status.start()

    def show_phase(self, text: str) -> None:
        from rich.text import Text

        self._status.update(Text(text))

    def show_row(self, text: str) -> None:
        self._console.print(text)

    def close(self) -> None:
        self._status.stop()


def open_display() -> contextlib.closing[Display]:
    return contextlib.closing(LiveDisplay() if sys.stdout.isatty() else Display())


def render_progress(samples: Sequence[Sample], total: int) -> str:
    """Return the latest sample, and the median of its kind so far, in a line."""
    last = samples[-1]
    kind = "warm" if last.kind == "warm" else last.start_kind
    times = select_times(samples, kind, last.target)
    proof = "verified cold" if last.counts_as_cold else last.why_not
    median = f"; {kind} median {statistics.median(times):.1f} ms (n={len(times)})" if times else ""
    what = last.kind.replace("_", " ")
    return f"[{len(samples)}/{total}] {last.target}, {what}: {last.client_ms:.1f} ms, {proof}{median}"


def render_table(result: Mapping[str, Any]) -> str:
    rows = [f"{'':<34}{'n':>5}{'p50 ms':>10}{'95 % of p50':>20}{'p95 ms':>11}{'max ms':>10}"]
    notes = []
    for name, target in result["summary"]["targets"].items():
        for kind, label in (("plain", "cold, plain"), ("restored", "cold, restored"), ("warm", "warm")):
            if (times := target[kind])["n"]:
                within = "{:.1f} to {:.1f}".format(*times["p50_interval"])
                weak = "?" if "p95" in times["weak"] else " "
                head = f"{f'{name}: {label}':<34}{times['n']:>5}{times['p50']:>10.1f}{within:>20}"
                rows.append(f"{head}{times['p95']:>10.1f}{weak}{times['max']:>10.1f}")
        for what in ("cold_over_warm", "plain_over_restored"):
            if ratio := target[what]:
                within = f"{ratio['low']:.1f} to {ratio['high']:.1f}, n={ratio['n'][0]} and {ratio['n'][1]}"
                notes.append(f"{name}: {what.replace('_', ' ')} {ratio['value']:.1f}x ({within})")
        counts = "{verified} verified cold, {unverified} not, {excluded} made the snapshot".format(**target)
        failed = f"outcomes {target['outcomes']}" if set(target["outcomes"]) != {"ok"} else ""
        notes += [f"{name}: {note}" for note in (counts, target["never_cold"], failed) if note]
    return "\n".join([*rows, "? too few samples for that percentile", *notes])


def interrupt_at_stdin_end() -> None:
    """Wait until standard input is closed, then act as Ctrl-C."""
    with contextlib.suppress(OSError):
        while os.read(0, 65536):
            pass
    os.kill(os.getpid(), signal.SIGINT)


def main(options: argparse.Namespace) -> int:
    """Measure, write the result files, and return the exit code.

    It is 1 for a median above `--max-cold-ms`, nothing verified cold, or a server that was gone at the end; 130 for a
    run that Ctrl-C ended after its first sample.
    """
    if options.until_stdin_closes:
        threading.Thread(target=interrupt_at_stdin_end, name="stdin", daemon=True).start()
    options.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack, open_display() as display:
        environment = record.describe_environment()
        return measure_targets(options, select_targets(options, stack, display.show_row), environment, display)


def measure_targets(
    options: argparse.Namespace, deployments: Mapping[str, list[Target]], environment: dict[str, Any], display: Display
) -> int:
    paths = {deployment: options.out / f"cold_start_results_{deployment}.json" for deployment in deployments}
    targets = [target for ours in deployments.values() for target in ours]
    names = [target.name for target in targets]
    trials = plan_trials(names, options.num_warmup, options.repetitions, options.test_scaledown, options.seed)
    results: dict[str, dict[str, Any]] = {}

    def keep(samples: Sequence[Sample], complete: bool) -> None:
        for deployment, ours in deployments.items():
            titles = {target.name: target.title for target in ours}
            if complete or (samples and samples[-1].target in titles):
                results[deployment] = build_result(deployment, samples, titles, options.seed, complete)
                record.save_result(paths[deployment], "cold_start", results[deployment], environment)

    timeout_s = options.timeout or (TIMEOUT_S if options.modal is None else MODAL_TIMEOUT_S)
    samples, complete = run_trials(trials, targets, display, keep, timeout_s)
    display.close()
    for deployment, result in results.items():
        print(render_table(result))
        print(f"written to {paths[deployment]}")
    if not complete:
        done = f"{len(samples)} of {len(trials)}"
        print(f"stopped after {done} trials; what was measured is kept, marked incomplete", file=sys.stderr)
        return 130
    faults = [fault for name, result in results.items() for fault in list_faults(name, result, options.max_cold_ms)]
    for name in names:
        if lost := explain_no_answer([sample for sample in samples if sample.target == name]):
            faults.append(f"{name}: {lost}; what was measured before is kept")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def list_faults(deployment: str, result: Mapping[str, Any], most_ms: float | None) -> list[str]:
    """Return in sentences that nothing was verified cold, or that a cold median is above `most_ms`."""
    if not result["headline"]:
        return [f"{deployment}: nothing was verified cold"]
    slowest = max(result["cold_start_ms"] or 0.0, result["post_scaledown_cold_start_ms"] or 0.0)
    too_slow = most_ms is not None and slowest > most_ms
    return [f"{result['headline']}: a cold median is {slowest:.0f} ms, above {most_ms:g}"] if too_slow else []
