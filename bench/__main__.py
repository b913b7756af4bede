"""`python -m bench`: cold starts by its own options, everything else by a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import Protocol

from bench import prime
from bench.coldstart import report
from bench.coldstart import run as coldstart
from bench.coldstart.target import TargetError
from bench.cost import bill, simulate
from bench.quality import ablation, parity, recall
from bench.speed import (
    gpu_servers,
    gpu_tiers,
    library,
    page,
    random_weights,
    reading,
    samples,
    snapshots,
    store,
    worker,
    workers,
)
from bench.speed.browser import BrowserFailed
from serving.cloud.modal_account import AccountError
from serving.errors import ServingError
from serving.http.child_server import ProcessFailed
from serving.system.processes import interruptible

ABOUT = "Measures what Dormouse promises: cold starts with the options below, everything else with a command."
FAILURES = (ServingError, ProcessFailed, BrowserFailed, TargetError, AccountError, ValueError, OSError)


class Command(Protocol):
    """A module that is a command."""

    ABOUT: str
    """Its line of help."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def main(self, options: argparse.Namespace) -> int:
        """Run it, and return the exit code. Raises one of `FAILURES`, with a sentence."""


COMMANDS: Mapping[str, Command] = {
    "report": report,
    "prime": prime,
    "cost": bill,
    "simulate": simulate,
    "quality": recall,
    "speed": worker,
    "snapshots": snapshots,
    "page": page,
    "samples": samples,
    "reading": reading,
    "library": library,
    "store": store,
    "ablation": ablation,
    "parity": parity,
    "gpu": gpu_servers,
    "tiers": gpu_tiers,
    "workers": workers,
    "weights": random_weights,
}


def main(argv: list[str] | None = None) -> int:
    """Run a command, and return the exit code: 1 with a sentence for a failure, 2 for wrong options, 130 for Ctrl-C."""
    parser = build_parser()
    given = sys.argv[1:] if argv is None else argv
    if not given:
        parser.print_help()
        return 2
    options = parser.parse_args(given)
    run: Callable[[argparse.Namespace], int]
    run = coldstart.main if options.command is None else COMMANDS[options.command].main
    if options.command is None and options.compare:
        given = [name for name, value in vars(options).items() if value != parser.get_default(name)]
        if others := [f"--{name.replace('_', '-')}" for name in given if name != "compare"]:
            parser.error(f"--compare measures nothing, so it goes with no other option: leave out {', '.join(others)}")
        run, options.files = report.main, []
    try:
        with interruptible():
            return run(options)
    except FAILURES as error:
        reason = "\n".join(report.make_printable(line) for line in str(error).splitlines())
        print(f"{options.command or 'bench'} failed: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=ABOUT)
    coldstart.add_arguments(parser)
    report.add_compare(parser, "measure nothing: print the medians of two result files side by side")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.ABOUT, description=command.ABOUT))
    return parser


if __name__ == "__main__":
    sys.exit(main())
