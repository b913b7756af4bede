"""Downloads weights of the hub in a process of its own: `python -m serving.embedders.bigemma3.download NAME REVISION`.

A download has threads and connections. A process that is to be snapshotted must have neither, so it only looks into the
cache.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from serving.embedders.bigemma3.checkpoint import download_checkpoint, find_cached, is_hub_name
from serving.embedders.gpu.weight_arena import WeightsError

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
TOKENS = ("HF_TOKEN", "HUGGINGFACE_TOKEN")
"""The hub's own name for it first."""
log = logging.getLogger(__name__)


def ensure_downloaded(weights: str, revision: str = "") -> str:
    """Return the weights' folder; a path stays as it is. The hub is not asked afterwards. Raises WeightsError."""
    if not is_hub_name(weights):
        return weights
    os.environ.update(OFFLINE)
    found = find_cached(weights, revision)
    if found is None:
        log.info("downloading %s; later starts find it here", weights)
        found = download_in_child(weights, revision)
    return str(found)


def download_in_child(weights: str, revision: str) -> Path:
    command = [sys.executable, "-m", "serving.embedders.bigemma3.download", weights, revision]
    answer = subprocess.run(command, stdout=subprocess.PIPE, env=allow_hub(os.environ), check=False)  # noqa: S603
    try:
        result = json.loads(answer.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise WeightsError(f"the download of {weights} ended with exit code {answer.returncode}") from None
    if "failed" in result:
        raise WeightsError(result["failed"])
    return Path(result["folder"])


def allow_hub(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the child's environment: it may ask the hub, knows the token under its usual name, finds this package."""
    found = {name: value for name, value in environment.items() if name not in OFFLINE}
    token = next((environment[name] for name in TOKENS if environment.get(name)), "")
    if token:
        found["HF_TOKEN"] = token
    root = str(Path(__file__).parents[3])
    found["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [environment.get("PYTHONPATH")])])
    return found


def main(weights: str, revision: str) -> int:
    try:
        result = {"folder": str(download_checkpoint(weights, revision))}
    except WeightsError as error:
        result = {"failed": error.message}
    except Exception as error:  # the hub's transfer library raises what it likes, a full disk included
        result = {"failed": f"the download of {weights} failed: {type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(result) + "\n")
    return 1 if "failed" in result else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
