"""A real Ray cluster of two nodes on this machine, with the application deployed by `serve run`, as a person does it.

Both nodes' proxies listen on one port, and the kernel gives each new connection to one of them: as a balancer would.
"""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.support.criu import tool
from tests.support.repository import ROOT

with warnings.catch_warnings():  # Ray's own, from its import
    warnings.simplefilter("ignore")
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

KEY = "a-key-of-the-tests"
NODE: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 100 * 1024 * 1024, "include_dashboard": False}
START_S = 180.0
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),  # else Ray writes one into the home folder
    "DORMOUSE_API_KEYS": KEY,
    "DORMOUSE_CRIU": tool() or "",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONPATH": str(ROOT),
}


class Deployed:
    """The cluster, and the application on it."""

    def __init__(self) -> None:
        self.options: dict[str, object] = {}
        """What the application is deployed with, beside what is the same for all tests."""
        self.cluster = Cluster(initialize_head=True, head_node_args=NODE)
        self.second = self.add_node()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        ray.init(address=self.cluster.address, namespace="serve", log_to_driver=False)
        serve.start(http_options={"host": "127.0.0.1", "port": port}, proxy_location="EveryNode")

    def add_node(self) -> Any:
        """Add one, tried again where a busy machine does not start it within Ray's half minute."""
        given = {name: NODE[name] for name in ("num_cpus", "object_store_memory")}
        try:
            self.second = self.cluster.add_node(**given)
        except Exception:
            self.second = self.cluster.add_node(**given)
        return self.second

    def run(self, **options: object) -> str:
        """`serve run serving.serve_ray:app`; returns what it printed."""
        given = {"num_cpus": 1, "scaledown_window": 12, **self.options, **options}
        command = [str(Path(sys.executable).with_name("serve")), "run", "--non-blocking", "-a", self.cluster.address]
        words = [f"{name}={value}" for name, value in given.items()]
        done = subprocess.run(
            [*command, "serving.serve_ray:app", *words], capture_output=True, text=True, timeout=START_S, cwd=ROOT
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def replicas(self, deployment: str = "worker", state: str = "RUNNING") -> int:
        """Replicas in that state."""
        states = serve.status().applications["default"].deployments[deployment].replica_states
        return int(states.get(state, 0))

    def until(self, condition: Callable[[], object], timeout: float = START_S) -> float:
        """Wait; returns how long it took."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < timeout, serve.status()
            time.sleep(0.1)
        return time.monotonic() - began

    def until_zero(self) -> None:
        self.until(lambda: not any(self.replicas(state=state) for state in ("RUNNING", "STARTING", "STOPPING")))

    @staticmethod
    def processes(deployment: str = "worker") -> list[psutil.Process]:
        """The actors of a deployment's replicas, on both nodes."""
        title = f"ray::ServeReplica:default:{deployment}"
        return [found for found in psutil.process_iter(["cmdline"]) if title in " ".join(found.info["cmdline"] or ())]

    def close(self) -> None:
        serve.shutdown()
        ray.shutdown()
        self.cluster.shutdown()
