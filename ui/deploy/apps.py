"""Dormouse on Modal: two servers and a page, each an app of its own, and what an hour of each costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.coldstart import modal_target
from bench.cost import prices
from bench.cost.prices import Price, Rates
from serving.cloud import modal_account

if TYPE_CHECKING:
    from serving.cloud.modal_app import Deployment as Servers
    from ui.deploy.modal_app import Deployment as Page

ROOT = Path(__file__).parents[2]
NAMES = ("hf", "vllm", "page")
VOLUME_PER_GIB = 0.09
"""Dollars a month, above the first TiB."""


class Setup(NamedTuple):
    """The settings of a deployment, as the environment has them."""

    servers: Servers
    page: Page


def read_setup() -> Setup:
    """Return the settings. Raises AccountError; ends the program with a sentence for a wrong setting."""
    modal_account.import_client()
    from serving.cloud import modal_app as servers
    from ui.deploy import modal_app as cloud

    return Setup(servers.read_deployment(), cloud.read_deployment())


class App(NamedTuple):
    """An app on Modal. `kind` is one of NAMES; `file` starts at the project's folder."""

    kind: str
    name: str
    file: str

    @property
    def is_page(self) -> bool:
        return self.kind == "page"

    @property
    def advice(self) -> str:
        """What to do where it is not deployed."""
        return f"{self.name} is not deployed: run `modal deploy {self.file}`, or `dormouse deploy`"

    def look_up_function(self) -> Any:
        """Return its web function. Raises AccountError."""
        return modal_target.look_up_function(self.name, "Page" if self.is_page else modal_target.CLASS, self.advice)


def list_apps(setup: Setup, kinds: Sequence[str] | None = None) -> list[App]:
    """Return the apps of these kinds; all, if none is named."""
    servers = [App(kind, name, modal_target.FILES[kind]) for kind, name in modal_target.APPS.items()]
    every = [*servers, App("page", setup.page.app, "ui/app.py")]
    return [app for app in every if not kinds or app.kind in kinds]


def price_app(app: App, setup: Setup, rates: Rates) -> Price:
    """Return what a second of an app costs. Raises ValueError for a GPU that has no price."""
    deployed = setup.page if app.is_page else setup.servers
    gpu = "none" if app.is_page else setup.servers.gpu.rstrip("!") or "none"
    return prices.price_machine(gpu, None, deployed.cpu, deployed.memory / 1024, rates)


def describe_costs(chosen: Sequence[App], setup: Setup, rates: Rates) -> str:
    """Return what the apps cost up and at zero, in words."""
    lines = [f"An hour while it is up, by {rates.source}, {rates.date}:"]
    for app in chosen:
        try:
            cost = price_app(app, setup, rates)
        except ValueError as error:
            lines.append(f"  {app.name:<22} {error}")
            continue
        window = setup.page.scaledown_window if app.is_page else setup.servers.scaledown_window
        machine = cost.gpu.removeprefix("none, with ")
        idle = f"its idle window of {window} s about ${cost.per_s * window:.3f} each time"
        lines.append(f"  {app.name:<22} ${cost.per_hour:.2f} ({machine}); {idle}")
    keeping = f"volumes, where they hold more than 1 TiB in all (${VOLUME_PER_GIB} a GiB a month)"
    return "\n".join([*lines, f"At zero: nothing but {keeping}"])
