"""The page as a Modal app: `modal serve ui/app.py` to try it out, `modal deploy ui/app.py` to keep it.

It has one container, because Gradio's tabs must find the process that they began with, and Modal sends a request to any
container. That is so with a store as well, which several may have: more pages on it are more apps. This module is
imported on the machine that deploys and again in the container, where the environment says the same: Modal checks that
both made the same objects. `ui/deploy/container.py` is imported in the container only, where that takes seconds, once
for all starts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import modal
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.cloud.credentials import PASSWORD, STORE
from serving.cloud.modal_app import PYTHON, UV, encode_settings, read_pins, read_project, read_settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

NAME = "dormouse"
PREFIX = "DORMOUSE_PAGE_"
PINS = Path(__file__).parent / "pins.txt"
"""The versions of `list_requirements`, as `serving/pins` has the servers'."""
SERVERS = "HuggingFace=modal:bigemma3-hf-serve, vLLM=modal:bigemma3-vllm-serve"
LEFT_OUT = ["**/__pycache__", "**/*.pyc", "screenshots", "sample_maker"]
"""Of our packages; style sheet, scripts, sample pages and recorded runs go along."""
TRIES = 8
PAUSE_S = 0.25


class Deployment(BaseSettings):
    """The settings; each field is `DORMOUSE_PAGE_<NAME>` in the environment of `modal deploy`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True)

    app: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = NAME
    secret_name: str = "dormouse-page"  # noqa: S105 - a name
    """A Modal secret with DORMOUSE_PAGE_PASSWORD, and what the servers ask for: DORMOUSE_MODAL_KEY and
    DORMOUSE_MODAL_SECRET, DORMOUSE_WORKER_KEY, DORMOUSE_ADMIN_KEY."""
    volume: str = "dormouse-pages"
    """Where collections are kept. Pages are two files each; Modal advises against more than 50,000 files."""
    mount: Annotated[str, Field(pattern=r"^/.+")] = "/kept"
    data: Annotated[str, Field(pattern=r"^/.+")] = "/tmp/dormouse"  # noqa: S108 - of a container that nobody else is in
    """Ends with the container: the working copy of the database, and uploads."""
    scaledown_window: Annotated[int, Field(ge=2, le=3600)] = 300
    """Idle seconds until the page stops. It has no GPU, and is restored from its snapshot."""
    cpu: Annotated[float, Field(gt=0, le=64)] = 1.0
    memory: Annotated[int, Field(ge=512)] = 2048
    """MiB: 700 for Gradio, and 5 KB for each page's vector."""
    timeout: Annotated[int, Field(ge=60, le=86_400)] = 3600
    """Seconds of one request: an open tab is one, and connects again."""
    tabs: Annotated[int, Field(ge=1, le=1000)] = 100
    """Requests at once; an open tab has two."""
    keep_originals: bool = False
    """Keep uploaded files too, on the volume: each acknowledgement of a page then waits until they are there."""
    use_store: bool = False
    """The collections are in the PostgreSQL that DORMOUSE_STORE of the secret names, instead of on the volume:
    a page is acknowledged with the database's commit, and there is no volume, no claim and no backup."""
    hosts: str = ""
    """Comma-separated host names that it answers to beside its own: custom domains."""
    workers: str = Field(default=SERVERS, validation_alias="DORMOUSE_WORKERS")
    """The servers it can ask: NAME=modal:APP or NAME=URL, with commas between them."""

    @property
    def claims(self) -> str:
        """The Modal dictionary that belongs to the volume."""
        return f"{self.volume}-claims"

    @property
    def required_keys(self) -> list[str]:
        """What the secret must have."""
        return [PASSWORD, STORE] if self.use_store else [PASSWORD]

    @property
    def environment(self) -> dict[str, str]:
        """The container's environment: this deployment, and settings of the page that follow from it."""
        # Eight pages are embedded at once: a server with a GPU reads them together, and they share a commit.
        return {
            **encode_settings(self),
            "DORMOUSE_CORES": "8",
            "DORMOUSE_KEEP_ORIGINALS": str(int(self.keep_originals)),
            "OMP_NUM_THREADS": "1",
            "GRADIO_ANALYTICS_ENABLED": "False",
        }


def read_deployment() -> Deployment:
    """Return the settings; a wrong one ends the program with a sentence."""
    return read_settings(Deployment, "ui/deploy/modal_app.py")


def list_requirements() -> list[str]:
    """Return those of the base installation, Modal's client, which finds the servers, and that of a store."""
    found = read_project()
    extras = found["optional-dependencies"]
    return [*found["dependencies"], *extras["modal"], *extras["postgres"]]


deployed = read_deployment()
volume = None if deployed.use_store else modal.Volume.from_name(deployed.volume, create_if_missing=True)
image = (
    modal.Image.debian_slim(python_version=PYTHON)
    .uv_pip_install(*(read_pins(PINS) if modal.is_local() else []), uv_version=UV)
    .add_local_python_source("ui", "serving", "bench", "assets", ignore=LEFT_OUT)
)
app = modal.App(deployed.app, include_source=False)


@app.cls(
    image=image,
    cpu=deployed.cpu,
    memory=deployed.memory,
    env=dict(deployed.environment),
    # Without a password there is no deployment: everybody with the address could see, delete and spend.
    secrets=[modal.Secret.from_name(deployed.secret_name, required_keys=deployed.required_keys)],
    volumes={} if volume is None else {deployed.mount: volume},
    max_containers=1,
    scaledown_window=deployed.scaledown_window,
    timeout=deployed.timeout,
    startup_timeout=300,
    enable_memory_snapshot=True,
)
@modal.concurrent(max_inputs=deployed.tabs)
class Page:
    """The page's container."""

    @modal.enter(snap=True)
    def build(self) -> None:
        import aiohttp  # noqa: F401 - what the client imports before the first request, and half a second of a restore

        from serving.library.backup import Backup
        from ui.deploy.container import HostedPage
        from ui.servers.target import split_name_and_url

        backup = None
        if volume is not None:
            commit, reload = partial(retry_while_open, volume.commit), partial(retry_while_open, volume.reload)
            backup = Backup(Path(deployed.mount), commit, reload, VolumeClaims(deployed.claims))
        workers = [split_name_and_url(text.strip()) for text in deployed.workers.split(",") if text.strip()]
        self.page = HostedPage(Path(deployed.data), backup, workers)

    @modal.enter(snap=False)
    def open(self) -> None:
        self.page.open(list_hosts())

    @modal.asgi_app()
    def web(self) -> ASGIApp:
        """Return the app; this runs after each restore, so it builds nothing."""
        return self.page.gate

    @modal.exit()
    def close(self) -> None:
        self.page.close()


def list_hosts() -> list[str]:
    """Return the host names that the page answers to: Modal's, its own wherever that is, and those that were set."""
    own = urlsplit(Page().web.get_web_url() or "").netloc
    return ["*.modal.run", *filter(None, [own, *(name.strip() for name in deployed.hosts.split(","))])]


def retry_while_open(work: Callable[[], object]) -> None:
    """Commit or reload: neither works while a picture is open here, which is soon over. Raises RuntimeError."""
    for left in reversed(range(TRIES)):
        try:
            work()
            return
        except RuntimeError as error:
            if not left or "open files" not in str(error):
                raise
            time.sleep(PAUSE_S)


class VolumeClaims:
    """Claims of the volume, for all containers of all releases: each number is a key that only one can create."""

    def __init__(self, name: str) -> None:
        self._taken: Any = modal.Dict.from_name(name, create_if_missing=True)

    def take_number(self, above: int) -> int:
        number = above + 1
        while not self._taken.put(number, os.environ.get("MODAL_TASK_ID", ""), skip_if_exists=True):
            number += 1
        return number

    def is_superseded(self, number: int) -> bool:
        return bool(self._taken.contains(number + 1))
