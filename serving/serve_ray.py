"""The embedders on a Ray cluster: `serve run serving.serve_ray:app embedder=bigemma3 max_replicas=4`.

Ray Serve does the engine's job: it decides how many workers there are and where. Two deployments:

    Ray's proxy -> Front     keys, limits; answers what needs no worker; waits for one, tries again when one is lost
                -> Replica   one worker process, started as the local engine does it; none of them while nobody asks

Settings come from the environment of each node, keys among them: Ray logs an application's arguments and shows them on
its dashboard, so no key is one. docs/ray.md says how to deploy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported: this project reports to nobody

from ray import serve
from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from serving.cluster.front import Front
from serving.cluster.options import RayOptions
from serving.cluster.replica import Replica
from serving.settings import Settings

LOOK_BACK_S = 12.0
"""Ray averages over this time how many requests are in flight. It is told of them every ten seconds, and wants more."""
UPSCALE_S = 3.0
"""For so long more replicas must be wanted. The first one is started at once."""


def keep_used(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Return how many replicas Ray's own rule wants, and at least one while there are requests.

    Ray looks at what is in flight every other second, and misses a query of 20 ms: by its rule alone, a worker that is
    asked ten times a minute looks idle, and is taken away.
    """
    wanted, state = replica_queue_length_autoscaling_policy(context)
    used = context.aggregated_metrics.get("used", {}) if context.current_num_replicas else {}
    return max(wanted, float(any(value > 0 for value in used.values()))), state


def make_autoscaling(options: RayOptions) -> AutoscalingConfig:
    idle_s = max(0.0, (options.scaledown_window or Settings().scaledown_window) - LOOK_BACK_S)
    return AutoscalingConfig(
        min_replicas=options.min_replicas,
        max_replicas=max(options.min_replicas, options.max_replicas),
        target_ongoing_requests=options.target_ongoing_requests,
        upscale_delay_s=UPSCALE_S,
        downscale_delay_s=idle_s,
        downscale_to_zero_delay_s=idle_s,
        look_back_period_s=LOOK_BACK_S,
        policy=AutoscalingPolicy(policy_function=f"{__name__}:keep_used"),
    )


def app(arguments: Mapping[str, Any]) -> serve.Application:
    """Return the application, which `serve run` and `serve deploy` deploy. Raises ValidationError."""
    options = RayOptions.model_validate(arguments).complete()
    settings = Settings()
    replicas = serve.deployment(
        Replica,
        name="worker",
        autoscaling_config=make_autoscaling(options),
        ray_actor_options={"num_cpus": options.num_cpus, "num_gpus": options.num_gpus},
        max_ongoing_requests=settings.max_in_flight,
        max_queued_requests=settings.max_waiting,
        graceful_shutdown_timeout_s=settings.drain_s + settings.stop_timeout_s,
    )
    front = serve.deployment(
        serve.ingress()(Front),
        name="front",
        num_replicas=options.fronts,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=settings.max_waiting,
        graceful_shutdown_timeout_s=settings.drain_s,
    )
    return front.bind(options, replicas.bind(options))
