"""The arguments of the application on Ray Serve. None of them is a secret: Ray logs and shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from serving.settings import Settings


class RayOptions(BaseModel):
    """The arguments of an application, `name=value` after `serve run` or `args` in a configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedder: str = "builtin"
    """builtin, bigemma3, vllm, or package.module:Class of your own."""
    max_replicas: Annotated[int, Field(ge=1)] = 2
    min_replicas: Annotated[int, Field(ge=0)] = 0
    """More than 0 keeps so many workers, and their GPUs."""
    target_ongoing_requests: Annotated[float, Field(gt=0)] = 4.0
    """Requests in flight for each replica: more of them start another one."""
    fronts: Annotated[int, Field(ge=1)] = 2
    """Replicas of the front, on different nodes where there are as many: they hold no model and no GPU."""
    num_cpus: Annotated[int, Field(ge=1)] = 2
    """Cores that Ray reserves for a worker and that the worker uses."""
    snapshot: Literal["auto", "criu", "criu+cuda", "plain"] = "auto"
    """How a replica's worker starts on a node that has started one before."""
    weights: str = ""
    """These four are the environment's of `serve run` if they are not given."""
    device: Literal["", "cuda", "cpu"] = ""
    data: str = ""
    scaledown_window: Annotated[float | None, Field(ge=2)] = None

    def complete(self) -> RayOptions:
        """Return the options with what the environment here has for those that were not given."""
        here = Settings()
        return self.model_copy(
            update={
                "weights": self.weights or here.weights,
                "device": self.device or here.device,
                "data": str(Path(self.data or here.data).resolve()),
                "scaledown_window": self.scaledown_window or here.scaledown_window,
            }
        )

    def read_settings(self) -> Settings:
        """Return the settings of this node: these options, and the rest from its environment, keys among them."""
        return Settings(weights=self.weights, device=self.device or "cuda", data=Path(self.data), cores=self.num_cpus)

    @property
    def num_gpus(self) -> int:
        return 0 if self.embedder == "builtin" or self.device == "cpu" else 1
