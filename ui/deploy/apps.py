"""What Dormouse is on Modal: two servers and a page, each an app of its own, and what an hour of each costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class Setup:
    """The settings of a deployment, as the environment has them."""

    servers: Servers
    page: Page

    @property
    def volumes(self) -> tuple[str, ...]:
        return self.servers.weights_volume, self.servers.compiled_volume, self.page.volume

    @property
    def claims(self) -> str:
        """The dictionary that belongs to the page's volume."""
        return f"{self.page.volume}-claims"


def setup() -> Setup:
    """Raises AccountError; ends the program with a sentence for a setting that cannot be."""
    modal_account.import_client()
    from serving.cloud import modal_app as servers
    from ui.deploy import modal_app as cloud

    return Setup(servers.read_deployment(), cloud.deployment())


@dataclass(frozen=True)
class Part:
    name: str
    app: str
    file: str
    """From the project's folder."""

    @property
    def page(self) -> bool:
        return self.name == "page"

    @property
    def missing(self) -> str:
        return f"{self.app} is not deployed: run `modal deploy {self.file}`, or `dormouse deploy`"

    def function(self) -> Any:
        """Its web function, looked up. Raises AccountError."""
        return modal_target.look_up_function(self.app, "Page" if self.page else modal_target.CLASS, self.missing)


def parts(of: Setup, names: Sequence[str] | None = None) -> list[Part]:
    """All, if none is named."""
    servers = [Part(name, app, modal_target.FILES[name]) for name, app in modal_target.APPS.items()]
    every = [*servers, Part("page", of.page.app, "ui/app.py")]
    return [part for part in every if not names or part.name in names]


def price(part: Part, of: Setup, rates: Rates) -> Price:
    """Raises ValueError for a GPU that has no price."""
    deployed = of.page if part.page else of.servers
    gpu = "none" if part.page else of.servers.gpu.rstrip("!") or "none"
    return prices.price_machine(gpu, None, deployed.cpu, deployed.memory / 1024, rates)


def costs(chosen: Sequence[Part], of: Setup, rates: Rates) -> str:
    """What the parts cost up and at zero, before anything is done."""
    lines = [f"An hour while it is up, by {rates.source}, {rates.date}:"]
    for part in chosen:
        try:
            cost = price(part, of, rates)
        except ValueError as error:
            lines.append(f"  {part.app:<22} {error}")
            continue
        window = of.page.scaledown_window if part.page else of.servers.scaledown_window
        machine = cost.gpu.removeprefix("none, with ")
        idle = f"its idle window of {window} s about ${cost.per_s * window:.3f} each time"
        lines.append(f"  {part.app:<22} ${cost.per_hour:.2f} ({machine}); {idle}")
    keeping = f"volumes, where they hold more than 1 TiB in all (${VOLUME_PER_GIB} a GiB a month)"
    return "\n".join([*lines, f"At zero: nothing but {keeping}"])
