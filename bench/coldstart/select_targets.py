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
    found: dict[str, list[Target]] = {}
    for deployment in MODES[options.mode]:
        url = options.url or vars(options).get(f"{deployment}_url")
        if options.modal is not None:
            found[deployment] = [stack.enter_context(closing(open_modal_target(deployment, options.modal)))]
        elif url:
            key = os.environ.get("DORMOUSE_WORKER_KEY", "")
            target = attach_target(deployment, url, key, options.scaledown_wait)
            found[deployment] = [stack.enter_context(closing(target))]
        else:
            found[deployment] = start_engines(deployment, options, stack, say)
        for target in found[deployment]:
            say(f"{target.name}: {target.title}")
    return found


def check_options(options: argparse.Namespace) -> None:
    """Raise ValueError for options that do not go together."""
    given = {"vllm": options.vllm_url, "hf": options.hf_url}
    wanted = MODES[options.mode]
    if options.modal is not None:
        if options.mode == "builtin":
            raise ValueError("--modal is for --mode huggingface, vllm or both")
        if options.url or any(given.values()):
            raise ValueError("--modal finds the address by itself: give no address beside it")
        if options.modal and options.mode == "both":
            raise ValueError("--mode both takes the apps' own names: --modal APP does not say which of them it is")
    if options.url and options.mode == "both":
        raise ValueError("--mode both takes --vllm-url and --hf-url: --url does not say which of them it is")
    if options.url and given.get(wanted[0]):
        raise ValueError(f"--url and --{wanted[0]}-url both name the server of {options.mode}: give one of them")
    if unused := [name for name, url in given.items() if url and name not in wanted]:
        raise ValueError(f"--{unused[0]}-url is not for --mode {options.mode}")


def start_engines(deployment: str, options: argparse.Namespace, stack: ExitStack, say: Say) -> list[Target]:
    """Start an engine for each of `--snapshots`, without an `auto` whose backend is among them already."""
    found: dict[str, Target] = {}
    given: dict[str, str | None] = {} if deployment == "builtin" else vars(options)
    for snapshot in sorted(options.snapshots, key="auto".__eq__):
        say(f"starting an engine for {deployment}, snapshots by {snapshot}")
        arguments = ["--embedder", EMBEDDERS[deployment], "--snapshot", snapshot, "--scaledown-window", WINDOW_S]
        arguments += [part for name in ("weights", "device") if given.get(name) for part in (f"--{name}", given[name])]
        engine = stack.enter_context(closing(start_engine(f"{deployment} {snapshot}", arguments)))
        engine.name = f"{deployment} {engine.backend}"
        if engine.backend in found:
            why = "; ".join(f"{name}: {reason}" for name, reason in engine.refused.items())
            say(f"auto is {engine.backend} here, which is measured already" + (f" ({why})" if why else ""))
            engine.close()
        else:
            found[engine.backend] = engine
    return list(found.values())


def parse_snapshots(text: str) -> tuple[str, ...]:
    """Return the backends in a list such as `plain,auto`. Raises ArgumentTypeError."""
    found = tuple(name.strip() for name in text.split(","))
    if len(set(found)) != len(found) or not set(found) <= set(SNAPSHOTS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of different ones of {', '.join(SNAPSHOTS)}")
    return found
