"""A vLLM worker without our engine around it, as a platform runs one: `python -m tests.vllm.bare_worker`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from serving.embedders.bigemma3.vllm import VllmEmbedder
from serving.http.server import READY
from tests.support.servers import make_settings, running


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", type=Path, required=True)
    options, _ = parser.parse_known_args()
    settings = make_settings(options.data, weights=options.weights, device="cpu")
    with running(VllmEmbedder(settings), settings) as (url, _):
        print(f"the worker {READY}{url}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
