"""The servers that a page was started with: `--worker` and the keys in the environment."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from serving.client import EmbeddingClient
from serving.cloud.credentials import load_keys
from serving.errors import BadValueError, ServingError
from serving.settings import Settings
from ui.servers.modal_target import ModalTarget, parse_app_name
from ui.servers.state_feed import EngineStateFeed
from ui.servers.target import Target, Targets, split_name_and_url

UNREACHABLE_S = 10.0
"""Time until a search or an upload reports that nothing answers at the address of its server: nobody starts a server
that is not ours, and a platform that starts it accepts the connection at once."""


def parse_worker(text: str) -> tuple[str, str]:
    """Return name and address of `--worker`. Raises ArgumentTypeError."""
    try:
        return split_name_and_url(text)
    except ServingError as error:
        raise argparse.ArgumentTypeError(error.message) from None


def configure_targets(workers: Sequence[tuple[str, str]], settings: Settings, folder: Path | None = None) -> Targets:
    """Return the servers of `--worker`, given as (name, address).

    `folder`: where those on Modal are remembered; by default the data folder. Raises ServingError.
    """
    targets: list[Target] = []
    for number, (name, url) in enumerate(workers, 1):
        if app := parse_app_name(url):
            try:
                targets.append(ModalTarget(name, app, load_keys(settings.data, os.environ), folder or settings.data))
            except ValueError as error:
                raise BadValueError(str(error)) from None
            continue
        key = os.environ.get("DORMOUSE_WORKER_KEY", "")
        admin = os.environ.get(f"DORMOUSE_ADMIN_KEY_{number}", settings.admin_key.get_secret_value())
        client = EmbeddingClient(url, os.environ.get(f"DORMOUSE_WORKER_KEY_{number}", key), unreachable_s=UNREACHABLE_S)
        locate = partial(locate_engine, client.url, admin) if admin else None
        targets.append(Target(client, name, EngineStateFeed(locate)))
    return Targets(targets)


def locate_engine(url: str, admin_key: str) -> tuple[str, str]:
    """Return the address and admin key of an engine whose address never changes."""
    return url, admin_key
