"""`python -m bench`: cold starts by its own options, everything else by a command."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench import booklets, coldstart, costs, fleet, gpu, gpu_tiers, prime, quality, random_weights, record, report
from bench.browser import BrowserFailed
from bench.options import int_between, parse_seed
from serving import equivalence
from serving.client import EmbeddingClient
from serving.edge import headers_for
from serving.equivalence import Threshold
from serving.errors import ServingError
from serving.process import ProcessFailed, ServerProcess
from serving.settings import Settings


class NotShown(Exception):
    """A result that was written, and is not what the command was to show."""


def arguments() -> argparse.ArgumentParser:
    about = "Measures what Dormouse promises: cold starts with the options below, everything else with a command."
    parser = argparse.ArgumentParser(prog="python -m bench", description=about)
    coldstart.add_arguments(parser)
    report.add_compare(parser, "measure nothing: print the medians of two result files side by side")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    about = "result files of cold starts as one HTML page that needs nothing else"
    report.add_arguments(commands.add_parser("report", help=about, description=about))
    about = "after a deploy: starts a server on Modal and scales it down until starts come back from a snapshot"
    prime.add_arguments(commands.add_parser("prime", help=about, description=about))
    about = "what scale to zero costs a month, beside a server that is always on"
    costs.add_arguments(commands.add_parser("cost", help=about, description=about))
    about = "a fleet under a load that is drawn or replayed: latency, cold share, container-hours, cost"
    fleet.add_arguments(commands.add_parser("simulate", help=about, description=about))
    about = "recall@1, recall@3 and MRR on labelled queries, per kind"
    ranked = commands.add_parser("quality", help=about, description=about)
    ranked.add_argument("--corpus", type=Path, default=quality.CORPUS, help="folder of pages with a queries.json")
    ranked.add_argument("--misses", action="store_true", help="also print the queries whose page is not first")
    about = "ingest, worker overhead and search, each beside the plain thing it wraps"
    fast = commands.add_parser("speed", help=about, description=about)
    fast.add_argument(
        "--rounds", type=int_between(1, 1000), default=3, help="ingests and plain loops to run; default: %(default)s"
    )
    about = "time to the first answer of a sleeping worker: plain, criu and fork beside a plainly written server"
    sleepy = commands.add_parser("snapshots", help=about, description=about)
    sleepy.add_argument(
        "--rounds", type=int_between(1, 10_000), default=24, help="cold first queries of each; default: %(default)s"
    )
    sleepy.add_argument(
        "--pages", type=int_between(0, 10_000), default=10, help="cold first pages of each; default: %(default)s"
    )
    sleepy.add_argument("--criu", default=os.environ.get("DORMOUSE_CRIU", ""), help="its path; default: that on PATH")
    sleepy.add_argument("--out", type=Path, help="result file; default: assets/runs/snapshots-builtin.json")
    about = "the page itself with many pages in a collection, in a real browser: from Enter to the first hit painted"
    page = commands.add_parser("page", help=about, description=about)
    page.add_argument(
        "--pages",
        type=int_between(booklets.LEAST, booklets.MOST),
        default=500,
        help="in the collection; default: %(default)s",
    )
    page.add_argument(
        "--questions", type=int_between(1, 300), default=30,
        help="measured; as many more show what they leave in memory; default: %(default)s",
    )  # fmt: skip
    page.add_argument("--out", type=Path, help="result file; default: assets/runs/page-builtin.json")
    about = "what each part of the built-in ranking brings"
    parts = commands.add_parser("ablation", help=about, description=about)
    parts.add_argument("--corpus", type=Path, default=quality.CORPUS, help="folder of pages with a queries.json")
    parts.add_argument("--out", type=Path, help="result file; default: assets/runs/ablation-builtin.json")
    add_parity(commands)
    about = "BiGemma3's servers side by side on one GPU, over HTTP, beside what the GPU does without them"
    gpu.add_arguments(commands.add_parser("gpu", help=about, description=about))
    about = (
        "time to the first answer after scale to zero on a GPU, by what is held meanwhile, beside the bus's own speed"
    )
    gpu_tiers.add_arguments(commands.add_parser("tiers", help=about, description=about))
    about = "a Gemma 3 checkpoint with random weights, for tests and throughput"
    drawn = commands.add_parser("weights", help=about, description=about)
    drawn.add_argument("folder", type=Path)
    drawn.add_argument("--shape", choices=tuple(random_weights.SHAPES), default="tiny", help="default: %(default)s")
    drawn.add_argument("--layout", choices=tuple(random_weights.LAYOUTS), default="hub", help="of tensor names")
    drawn.add_argument("--seed", type=parse_seed, default=0)
    drawn.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="that draws them")
    for command in (ranked, fast):
        command.add_argument(
            "--url", help="a running worker; its key comes from DORMOUSE_WORKER_KEY (default: start one)"
        )
        command.add_argument("--out", type=Path, help="result file; default: assets/runs/<command>-builtin.json")
    return parser


def add_parity(commands: Any) -> None:
    about = "whether two servers compute the same vectors; if so, their pages may share a collection"
    same = commands.add_parser("parity", help=about, description=about)
    for name in ("a", "b"):
        key = f"its key comes from DORMOUSE_WORKER_KEY_{name.upper()}, else DORMOUSE_WORKER_KEY"
        same.add_argument(f"--{name}", metavar="URL", required=True, help=f"one worker or engine; {key}")
    for kind, least in (("pages", 0.999), ("queries", 0.9999)):
        help = f"the least cosine of {kind} that counts as equal; default: %(default)s"
        same.add_argument(f"--threshold-{kind}", type=cosine, default=least, metavar="C", help=help)
    same.add_argument("--corpus", type=Path, default=quality.CORPUS, help="folder of pages with a queries.json")
    same.add_argument(
        "--data", type=Path, help="folder whose collections may rely on it; default: DORMOUSE_DATA or data"
    )
    same.add_argument("--no-record", action="store_true", help="write the result only, and leave the data folder alone")
    same.add_argument("--out", type=Path, help="result file; default: assets/runs/parity.json")


def cosine(text: str) -> float:
    """For argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a cosine from 0 to 1")
    return value


@contextmanager
def worker(url: str | None) -> Iterator[tuple[str, str]]:
    """Address and key of the named worker, or of one that lives as long as the bench."""
    if url:
        yield url, os.environ.get("DORMOUSE_WORKER_KEY", "")
        return
    with tempfile.TemporaryDirectory() as data, ServerProcess("serving", ["--data", data]) as process:
        yield process.wait(), ""


def run_quality(options: argparse.Namespace) -> Path:
    where = record.describe_environment()
    with worker(options.url) as (url, key):
        client = EmbeddingClient(url, key, headers=headers_for(url, os.environ))
        outcomes = quality.rank_pages(client, options.corpus, Settings())
        found = quality.build_result(client, outcomes)
    print(quality.render_table(quality.summarise_kinds(outcomes)))
    if options.misses:
        for outcome in outcomes:
            if outcome.rank > 1:
                print(f"rank {outcome.rank:>3}  {outcome.label.kind:<11} {outcome.label.query}  ({outcome.label.file})")
    return record.save_result(options.out or record.RUNS / "quality-builtin.json", "quality", found, where)


def run_speed(options: argparse.Namespace) -> Path:
    from bench import speed

    where = record.describe_environment()
    with worker(options.url) as (url, key), tempfile.TemporaryDirectory() as folder:
        found = {
            "overhead": speed.measure_overhead(url, key, Path(folder), print),
            "ingest": speed.measure_ingest(print, options.rounds),
            "search": speed.measure_searches(print),
        }
    return record.save_result(options.out or record.RUNS / "speed-builtin.json", "speed", found, where)


def run_ablation(options: argparse.Namespace) -> Path:
    from bench import ablation

    where = record.describe_environment()
    with tempfile.TemporaryDirectory() as folder:
        found = ablation.run_variants(options.corpus, Settings(data=Path(folder)))
    return record.save_result(options.out or record.RUNS / "ablation-builtin.json", "ablation", found, where)


def run_snapshots(options: argparse.Namespace) -> Path:
    from bench import snapshots

    where = record.describe_environment()
    found = snapshots.measure_backends(options.rounds, options.pages, options.criu)
    snapshots.say_figures(print, found)
    return record.save_result(options.out or record.RUNS / "snapshots-builtin.json", "snapshots", found, where)


def run_page(options: argparse.Namespace) -> Path:
    from bench import page

    where = record.describe_environment()
    found = page.measure_page(options.pages, options.questions, partial(print, flush=True))
    return record.save_result(options.out or record.RUNS / "page-builtin.json", "page", found, where)


def run_parity(options: argparse.Namespace) -> Path:
    from bench import parity

    where = record.describe_environment()
    limits = Settings() if options.data is None else Settings(data=options.data)
    out = options.out or record.RUNS / "parity.json"
    if out.resolve() == (limits.data / equivalence.FILE).resolve():
        raise ValueError(f"{out} is where proofs are kept: write the result elsewhere")
    both = os.environ.get("DORMOUSE_WORKER_KEY", "")
    servers = [
        parity.open_client(url, os.environ.get(f"DORMOUSE_WORKER_KEY_{name}", both))
        for name, url in (("A", options.a), ("B", options.b))
    ]
    a, b = parity.embed_on_both(servers, options.corpus, limits, parity.make_progress())
    threshold = Threshold(pages=options.threshold_pages, queries=options.threshold_queries)
    found = parity.compare_vectors(a, b, threshold)
    print(parity.render_table(found))
    saved = record.save_result(out, "parity", found, where)
    if not options.no_record:
        print(parity.record_proof(found, limits.data, where["time"]))
    if reason := parity.why_not_equal(found):
        raise NotShown(f"{reason} (written to {saved})")
    return saved


def run_gpu(options: argparse.Namespace) -> Path:
    where = record.describe_environment()
    out = options.out or record.RUNS / "gpu.json"
    found = gpu.measure_servers(options, print, lambda so_far: record.save_result(out, "gpu", so_far, where))
    return record.save_result(out, "gpu", found, where)


def run_tiers(options: argparse.Namespace) -> Path:
    where = record.describe_environment()
    out = options.out or record.RUNS / "bench-gpu.json"
    found = gpu_tiers.measure_tiers(options, print, lambda so_far: record.save_result(out, "gpu-tiers", so_far, where))
    return record.save_result(out, "gpu-tiers", found, where)


def run_weights(options: argparse.Namespace) -> Path:
    return random_weights.build_checkpoint(options.folder, options.shape, options.layout, options.seed, options.device)


def main(argv: list[str] | None = None) -> int:
    parser = arguments()
    given = sys.argv[1:] if argv is None else argv
    if not given:
        parser.print_help()
        return 2
    options = parser.parse_args(given)
    if options.command is None and options.compare:
        if others := beside(options, parser):
            parser.error(f"--compare measures nothing, so it goes with no other option: leave out {', '.join(others)}")
        return report.main_compare(options)
    if (command := PRINTING.get(options.command)) is not None:
        return command(options)
    try:
        saved = COMMANDS[options.command](options)
    except (ServingError, ProcessFailed, BrowserFailed, ValueError, OSError) as error:
        print(f"the bench stopped: {error}", file=sys.stderr)
        return 1
    except NotShown as reason:
        print(reason, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    print(f"written to {saved}")
    return 0


def beside(options: argparse.Namespace, parser: argparse.ArgumentParser) -> list[str]:
    """Options that were given a value of their own beside `--compare`."""
    given = {name: value for name, value in vars(options).items() if value != parser.get_default(name)}
    return [f"--{name.replace('_', '-')}" for name in given if name != "compare"]


PRINTING = {
    None: coldstart.main,
    "prime": prime.main,
    "report": report.main,
    "cost": costs.main,
    "simulate": fleet.main,
}
"""Commands that say themselves what came of them."""
COMMANDS = {
    "quality": run_quality,
    "speed": run_speed,
    "ablation": run_ablation,
    "snapshots": run_snapshots,
    "page": run_page,
    "parity": run_parity,
    "gpu": run_gpu,
    "tiers": run_tiers,
    "weights": run_weights,
}

if __name__ == "__main__":
    sys.exit(main())
