"""The targets that options of a cold-start run name: an address, an app on Modal, or engines started here."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack, closing

from bench.coldstart.modal_target import open_modal_target
from bench.coldstart.target import Target, attach_target, start_engine
from bench.results.record import Say
from serving.snapshots.base import BACKEND_NAMES

EMBEDDERS = {"builtin": "builtin", "hf": "bigemma3", "vllm": "vllm"}
MODES = {"builtin": ("builtin",), "huggingface": ("hf",), "vllm": ("vllm",), "both": ("vllm", "hf")}
"""Deployments that each `--mode` measures."""
SNAPSHOTS = ("auto", *BACKEND_NAMES)
WINDOW_S = "3600"
"""Scaledown window of engines started here: only the plan scales them down."""


def select_targets(options: argparse.Namespace, stack: ExitStack, say: Say) -> dict[str, list[Target]]:
    """Return the targets of each deployment; `stack` closes them. Raises TargetError, ProcessFailed, ValueError."""
    check_options(options)
    targets: dict[str, list[Target]] = {}
    for deployment in MODES[options.mode]:
        url = options.url or vars(options).get(f"{deployment}_url")
        if options.modal is not None:
            targets[deployment] = [stack.enter_context(closing(open_modal_target(deployment, options.modal)))]
        elif url:
            target = attach_target(deployment, url, os.environ.get("DORMOUSE_WORKER_KEY", ""), options.scaledown_wait)
            targets[deployment] = [stack.enter_context(closing(target))]
        else:
            targets[deployment] = start_engines(deployment, options, stack, say)
        for target in targets[deployment]:
            say(f"{target.name}: {target.title}")
    return targets


def check_options(options: argparse.Namespace) -> None:
    """Raise ValueError for options that do not go together."""
    given, wanted = {"vllm": options.vllm_url, "hf": options.hf_url}, MODES[options.mode]
    both, modal = options.mode == "both", options.modal is not None
    unused = next((name for name, url in given.items() if url and name not in wanted), "")
    conflicts = (
        (modal and options.mode == "builtin", "--modal is for --mode huggingface, vllm or both"),
        (modal and (options.url or any(given.values())),
         "--modal finds the address by itself: give no address beside it"),
        (modal and options.modal and both,
         "--mode both takes the apps' own names: --modal APP does not say which of them it is"),
        (options.url and both, "--mode both takes --vllm-url and --hf-url: --url does not say which of them it is"),
        (options.url and given.get(wanted[0]),
         f"--url and --{wanted[0]}-url both name the server of {options.mode}: give one of them"),
        (unused, f"--{unused}-url is not for --mode {options.mode}"),
    )  # fmt: skip
    for applies, reason in conflicts:
        if applies:
            raise ValueError(reason)


def start_engines(deployment: str, options: argparse.Namespace, stack: ExitStack, say: Say) -> list[Target]:
    """Start an engine for each of `--snapshots`, without an `auto` whose backend is among them already."""
    engines: dict[str, Target] = {}
    given: dict[str, str | None] = {} if deployment == "builtin" else vars(options)
    for snapshot in sorted(options.snapshots, key="auto".__eq__):
        say(f"starting an engine for {deployment}, snapshots by {snapshot}")
        arguments = ["--embedder", EMBEDDERS[deployment], "--snapshot", snapshot, "--scaledown-window", WINDOW_S]
        arguments += [part for name in ("weights", "device") if given.get(name) for part in (f"--{name}", given[name])]
        engine = stack.enter_context(closing(start_engine(f"{deployment} {snapshot}", arguments)))
        engine.name = f"{deployment} {engine.backend}"
        if engine.backend in engines:
            why = "; ".join(f"{name}: {reason}" for name, reason in engine.refused.items())
            say(f"auto is {engine.backend} here, which is measured already" + (f" ({why})" if why else ""))
            engine.close()
        else:
            engines[engine.backend] = engine
    return list(engines.values())


def parse_snapshots(text: str) -> tuple[str, ...]:
    """Return the backends in a list such as `plain,auto`. Raises ArgumentTypeError."""
    names = tuple(name.strip() for name in text.split(","))
    if len(set(names)) != len(names) or not set(names) <= set(SNAPSHOTS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of different ones of {', '.join(SNAPSHOTS)}")
    return names
