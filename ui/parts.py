"""What Dormouse is on Modal: two servers and a page, each an app of its own, and what an hour of each costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import account, modal_app, prices
from bench.account import asked
from bench.prices import Price, Rates

if TYPE_CHECKING:
    from serving.modal_app import Deployment

ROOT = Path(__file__).parent.parent
VOLUME_PER_GIB = 0.09
"""Dollars a month, above the first TiB."""
PAGE_CORES, PAGE_GIB = 1.0, 2.0


@dataclass(frozen=True)
class Part:
    name: str
    app: str
    """As its file names it."""
    file: str
    """From the project's folder."""
    title: str

    @property
    def page(self) -> bool:
        return self.name == "page"

    def function(self) -> Any:
        """Its web function, looked up. Raises AccountError."""
        if not self.page:
            return modal_app.function(self.app)
        return asked(lambda: account.client().Function.from_name(self.app, PAGE_FUNCTION), self.missing)

    @property
    def missing(self) -> str:
        return f"{self.app} is not deployed: run `modal deploy {self.file}`, or `dormouse deploy`"


PAGE_FUNCTION = "page"
PARTS = (
    Part("hf", modal_app.APPS["hf"], modal_app.FILES["hf"], "BiGemma3 by HuggingFace's libraries"),
    Part("vllm", modal_app.APPS["vllm"], modal_app.FILES["vllm"], "BiGemma3 by vLLM"),
    Part("page", "dormouse", "ui/app.py", "the page"),
)


def chosen(names: Sequence[str] | None) -> list[Part]:
    """All, if none is named."""
    return [part for part in PARTS if not names or part.name in names]


def deployment() -> Deployment:
    """The servers' settings, as the environment has them. Raises NotInstalled; ends the program for a wrong one."""
    account.client()
    from serving import modal_app as servers

    return servers.deployment()


def price(part: Part, servers: Deployment, rates: Rates) -> Price:
    """Raises ValueError for a GPU that has no price."""
    if part.page:
        return prices.price("none", None, PAGE_CORES, PAGE_GIB, rates)
    gpu = servers.gpu.rstrip("!") or "none"
    return prices.price(gpu, None, servers.cpu, servers.memory / 1024, rates)


def costs(parts: Sequence[Part], servers: Deployment, rates: Rates) -> str:
    """What the parts cost up and at zero, before anything is done."""
    lines = [f"Prices: {rates.source}, {rates.date}. Nothing is paid at zero but what volumes hold above 1 TiB:"]
    lines.append(f"  ${VOLUME_PER_GIB} a GiB a month there, and nothing below it")
    for part in parts:
        try:
            cost = price(part, servers, rates)
        except ValueError as error:
            lines.append(f"  {part.app:<22} {error}")
            continue
        idle = f"; each idle window of {servers.scaledown_window} s about ${cost.per_s * servers.scaledown_window:.3f}"
        machine = cost.gpu.removeprefix("none, with ")
        lines.append(
            f"  {part.app:<22} ${cost.per_hour:.2f} an hour while it is up ({machine}){'' if part.page else idle}"
        )
    return "\n".join(lines)
