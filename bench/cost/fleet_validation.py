"""`python -m bench simulate --validate`: the simulated fleet beside a real engine under the same arrivals.

First the engine's own starts and warm answers are measured, proven as in the cold-start bench; then the arrivals are
sent to it; then they are simulated with times drawn from what was measured before. So the simulation has seen nothing
of the run it is compared with. It is one engine of this machine with the built-in embedder: nothing is shown about a
GPU in a cloud, more than one container, or arrivals near the end of a window.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from bench.coldstart.plan import COLD_KINDS, Trial, plan_trials
from bench.coldstart.run import Display, open_display, render_progress
from bench.coldstart.sample import Sample, measure_trial, select_times
from bench.coldstart.target import LocalEngine, start_engine
from bench.cost.fleet import Fleet, simulate_fleet
from bench.results import record
from bench.results.stats import percentile

WINDOW_S = 3.0
SPAN_S = 80.0
APART_S = 1.0
"""The least distance of each pause from the window: nearer, chance decides whether a request meets a start."""
SLOW_S = 2.0
"""Longer than a start takes, on top: a window runs from an answer, not from an arrival."""
VISIT = 6
"""Requests that come close to each other, at most."""
REPETITIONS, WARM = 13, 3
"""Rounds of the measurement before: 12 starts, after the one that makes the snapshot, and 39 warm answers."""
REST_S, PAUSE_S = (2.0, 4.0), (0.0, 1.0)
"""The pause before a start, and before a warm answer; from, to."""
TIMES = 200
"""Simulations of the same arrivals, each with other draws."""
GOAL = 0.15
"""The largest difference of the p95, either way."""
TIMEOUT_S = 60.0
PLACES = 256
FILE = record.RUNS / "simulate_validation.json"

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class EngineTimes:
    """Measured seconds of an engine at rest."""

    starts: list[float]
    """How much longer each took than a warm answer."""
    service: list[float]


def draw_trace(window_s: float, seed: int, span_s: float = SPAN_S) -> list[float]:
    """Draw visits of a few requests, with pauses that keep the engine awake; longer ones between. Raises ValueError."""
    if window_s < 2 * APART_S:
        raise ValueError(f"a window of {window_s:g} s is too short: pauses keep {APART_S:g} s away from it")
    draws = random.Random(seed)
    arrivals, now = [], 0.0
    while now < span_s:
        arrivals.append(now)
        for _ in range(draws.randrange(VISIT)):
            now += draws.choice((0.0, draws.uniform(0.0, window_s - APART_S)))
            arrivals.append(now)
        now += draws.uniform(window_s + APART_S + SLOW_S, window_s + APART_S + SLOW_S + 3)
    return arrivals


def send_requests(arrivals: Sequence[float], ask: Callable[[int], Answer]) -> list[Answer]:
    """Send each request at its second, and return the answers in order. Raises the first error, once all have ended."""
    began, answers = time.monotonic(), []
    with ThreadPoolExecutor(len(arrivals)) as pool:
        for number, arrival in enumerate(arrivals):
            time.sleep(max(0.0, began + arrival - time.monotonic()))
            answers.append(pool.submit(ask, number))
    return [answer.result() for answer in answers]


def measure_engine(engine: LocalEngine, display: Display, repetitions: int, warm: int, seed: int) -> EngineTimes:
    """Measure starts and warm answers, with pauses as the arrivals have them.

    On a machine that rested, a start takes longer than right after another. Raises ValueError where no start or no
    warm answer was proven, TargetError if the engine does not go to zero.
    """
    draws, seen = random.Random(seed), set[str]()
    samples: list[Sample] = []
    for trial in plan_trials([engine.name], warm, repetitions, False, seed):
        if trial.kind in COLD_KINDS:
            engine.scale_down()
        time.sleep(draws.uniform(*(REST_S if trial.kind in COLD_KINDS else PAUSE_S)))
        samples.append(measure_trial(trial, engine.url, engine.key, TIMEOUT_S, seen))
        display.show_row(render_progress(samples, repetitions * (warm + 1)))
    kind = "plain" if engine.backend == "plain" else "restored"
    cold, served = select_times(samples, kind), select_times(samples, "warm")
    if not cold or not served:
        raise ValueError(f"{engine.title}: {len(cold)} starts were verified and {len(served)} warm answers came")
    usual = statistics.median(served)
    return EngineTimes([max(0.0, took - usual) / 1000 for took in cold], [took / 1000 for took in served])


def replay_trace(engine: LocalEngine, arrivals: Sequence[float]) -> list[Sample]:
    """Send the arrivals to an engine at zero. Raises ValueError if a request had no answer: nothing can be compared."""
    engine.scale_down()
    seen: set[str] = set()

    def ask(number: int) -> Sample:
        return measure_trial(Trial(number + 1, engine.name, "warm", 1), engine.url, engine.key, TIMEOUT_S, seen)

    samples = send_requests(arrivals, ask)
    if failed := [sample.outcome for sample in samples if sample.outcome != "ok"]:
        raise ValueError(f"{len(failed)} of {len(samples)} requests had no answer, the first for {failed[0]}")
    return samples


def compare_runs(
    arrivals: Sequence[float], window_s: float, known: EngineTimes, samples: Sequence[Sample], seed: int
) -> dict[str, Any]:
    """Return the result file's content. The engine's cold starts are the processes that its answers came from."""
    real = [sample.client_ms / 1000 for sample in samples]
    fleet = Fleet(concurrency=PLACES, window_s=window_s)
    runs = [simulate_fleet(fleet, arrivals, known.service, known.starts, seed + number) for number in range(TIMES)]
    tails = [run.percentile(95) for run in runs]
    tail, simulated = percentile(real, 95), statistics.median(tails)
    counts = sorted({run.cold_starts for run in runs})
    cold = len({sample.boot_id for sample in samples})
    return {
        "window_s": window_s, "seed": seed, "arrivals_s": [round(moment, 3) for moment in arrivals],
        "measured_before": {"starts_s": known.starts, "service_s": known.service},
        "real": {
            "n": len(real), "cold_starts": cold, "p50_s": percentile(real, 50), "p95_s": tail, "latencies_s": real,
            "boots": [sample.boot_id for sample in samples],
        },
        "simulated": {
            "n": len(real), "times": TIMES, "cold_starts": counts,
            "p50_s": statistics.median(run.percentile(50) for run in runs), "p95_s": simulated,
            "p95_from_s": percentile(tails, 2.5), "p95_to_s": percentile(tails, 97.5),
        },
        "nearest_to_the_window_s": find_nearest_pause(arrivals, real, window_s),
        "same_cold_starts": counts == [cold],
        "p95_difference": simulated / tail - 1,
        "p95_goal": GOAL,
        "p95_goal_met": abs(simulated / tail - 1) <= GOAL,
    }  # fmt: skip


def find_nearest_pause(arrivals: Sequence[float], took: Sequence[float], window_s: float) -> float:
    """Return the seconds between the window and the pause nearest to it, each from an answer to an arrival."""
    ends, distances = 0.0, []
    for moment, seconds in zip(arrivals, took, strict=True):
        if moment > ends > 0:
            distances.append(abs(moment - ends - window_s))
        ends = max(ends, moment + seconds)
    return min(distances, default=0.0)


def render_table(result: dict[str, Any]) -> str:
    real, drawn = result["real"], result["simulated"]
    measured = "; ".join(
        f"{name}: median {statistics.median(took):.3f} s (n={len(took)})"
        for name, took in zip(("starts", "warm answers"), result["measured_before"].values(), strict=True)
    )
    counts = " or ".join(str(count) for count in drawn["cold_starts"])
    same = "the same" if result["same_cold_starts"] else "NOT the same"
    goal = f"within {result['p95_goal']:.0%}: {'met' if result['p95_goal_met'] else 'NOT met'}"
    within = f"95 % of the draws {drawn['p95_from_s']:.3f} to {drawn['p95_to_s']:.3f}"
    tail = f"{result['p95_difference']:+.1%}, {goal}; {within}"
    lines = [
        f"measured before: {measured}",
        f"{'':<14}{'real':>12}{'simulated':>16}   n={real['n']} requests, simulated {drawn['times']} times",
        f"{'cold starts':<14}{real['cold_starts']:>12}{counts:>16}   {same}",
        f"{'p50, s':<14}{real['p50_s']:>12.3f}{drawn['p50_s']:>16.3f}",
        f"{'p95, s':<14}{real['p95_s']:>12.3f}{drawn['p95_s']:>16.3f}   {tail}",
        f"no pause came nearer to the window than {result['nearest_to_the_window_s']:.2f} s",
    ]
    return "\n".join(lines)


def explain_slow_machine(result: dict[str, Any]) -> str:
    """Return what to do where answers took so long that pauses came near the window: chance decided then."""
    slowest = max(*result["real"]["latencies_s"], *result["measured_before"]["starts_s"])
    if slowest <= SLOW_S and result["nearest_to_the_window_s"] >= APART_S:
        return ""
    return f": an answer took {slowest:.1f} s, so pauses came near the window; run it again on an idle machine"


def validate_fleet(window_s: float, seed: int, display: Display) -> dict[str, Any]:
    """Run the trace on an engine and in the simulation, and return the result file's content."""
    arrivals = draw_trace(window_s, seed)
    with closing(start_engine("builtin", ["--embedder", "builtin", "--scaledown-window", f"{window_s:g}"])) as engine:
        display.show_row(f"{engine.title}, window {window_s:g} s")
        known = measure_engine(engine, display, REPETITIONS, WARM, seed)
        display.show_row(f"sending {len(arrivals)} requests in {arrivals[-1]:.0f} s")
        samples = replay_trace(engine, arrivals)
    return {"engine": engine.title, "backend": engine.backend, **compare_runs(arrivals, window_s, known, samples, seed)}


def main(options: argparse.Namespace) -> int:
    """Write the result and print it; return 1 if the cold starts differ, whatever the p95."""
    environment = record.describe_environment()
    with open_display() as display:
        result = validate_fleet(WINDOW_S if options.window is None else options.window, options.seed, display)
    path = record.save_result(options.out or FILE, "simulate_validation", result, environment)
    print(f"{render_table(result)}\nwritten to {path}")
    if result["same_cold_starts"]:
        return 0
    print(f"the simulation does not start as often as the engine did{explain_slow_machine(result)}", file=sys.stderr)
    return 1
