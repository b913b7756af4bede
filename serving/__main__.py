"""`python -m serving`: the local engine, a proxy whose worker starts and stops on demand."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import secrets
import socket
import sys
from functools import partial
from pathlib import Path

import uvicorn
from pydantic import ValidationError

from serving.embedders import base
from serving.engine.engine import Engine
from serving.engine.metrics import EngineCollector
from serving.engine.pool import WorkerPool, share_cores
from serving.engine.proxy import EngineProxy
from serving.engine.routes import create_routes
from serving.engine.runtime_dir import make_runtime_dir
from serving.engine.starter import Starter
from serving.engine.status import describe_pool
from serving.errors import ServingError
from serving.http.access import RequestGuard
from serving.http.server import Server, bind_listener, format_address, is_loopback, parse_port
from serving.settings import WEIGHTS, Settings
from serving.snapshots.base import BACKEND_NAMES, WorkerSpec
from serving.snapshots.choose import BackendChoice, UnsupportedBackend, choose_backend, make_backends
from serving.snapshots.store import SnapshotStore
from serving.system import log as logs
from serving.system.files import lock_file, write_file
from serving.system.gpus import list_gpus
from serving.system.processes import interruptible

log = logging.getLogger("serving")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving",
        description="Serve one embedder over HTTP: /embed, /v1/embeddings, /v1/models, /health, /ready, /metrics. The"
        " first request starts its worker, which stops after a while without requests and is restored from a snapshot.",
        epilog="Keys: DORMOUSE_API_KEYS (comma-separated) and DORMOUSE_ADMIN_KEY. Limits: DORMOUSE_<NAME>.",
    )
    known = ", ".join(base.EMBEDDERS)
    parser.add_argument(
        "--embedder",
        default="builtin",
        metavar="NAME",
        help=f"{known}, or package.module:Class of your own; default: %(default)s",
    )
    parser.add_argument(
        "--weights",
        metavar="DIR_OR_HUB_ID",
        help="for bigemma3 and vllm: a folder with config.json, tokenizer and safetensors, or a name on the hub, which"
        f" is downloaded; default: DORMOUSE_WEIGHTS or {WEIGHTS}",
    )
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        help="for bigemma3 and vllm: cpu is for a tiny model, as the real one takes minutes a page;"
        " default: DORMOUSE_DEVICE or cuda",
    )
    parser.add_argument(
        "--snapshot",
        choices=("auto", *BACKEND_NAMES),
        default="auto",
        help="how the worker is restored. criu: from a file, nothing is held at zero (Linux, criu 4.1); fork: from a"
        " process that is held in memory (Linux). On an NVIDIA GPU, criu+cuda and cuda: likewise (driver 570; the"
        " former as root). plain: every start is a full one; auto: the first of these that works here (default)",
    )
    parser.add_argument(
        "--scaledown-window",
        type=float,
        metavar="S",
        help="idle seconds until the worker stops, at least 2; default: 60",
    )
    workers = "workers, on a CPU each with its share of the cores; default: one for each GPU, one on a CPU"
    parser.add_argument("--workers", dest="engine_workers", type=int, metavar="N", help=workers)
    parser.add_argument("--min-containers", type=int, choices=(0, 1), help="1 keeps the worker running; default: 0")
    ahead = "start a worker at once where there is no snapshot yet, so that the first request need not wait for it"
    parser.add_argument("--start-ahead", action="store_true", default=None, help=ahead)
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s; another one needs DORMOUSE_API_KEYS")
    parser.add_argument("--port", type=parse_port, default=8000, help="0 takes a free one; default: %(default)s")
    parser.add_argument("--data", type=Path, help="folder of key, snapshots and caches; default: DORMOUSE_DATA or data")
    parser.add_argument("--until-stdin-closes", action="store_true", help="stop when the starting process has ended")
    return parser


def main(argv: list[str] | None = None) -> int:
    options = make_parser().parse_args(argv)
    try:
        with logs.log_to_stderr(), interruptible():
            return run_engine(options)
    except KeyboardInterrupt:  # before it served
        return 0


def run_engine(options: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(options).items() if name in Settings.model_fields}
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return refuse_start(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
    if not settings.keys and not is_loopback(options.host):
        return refuse_start(f"refused: --host {options.host} is open to others; set DORMOUSE_API_KEYS first")
    try:
        settings.data.mkdir(parents=True, exist_ok=True)
        lock_file(settings.data / "engine.lock")  # held until this process ends
        read_admin_key(settings)
        folder = make_runtime_dir(settings.data)
    except BlockingIOError:
        return refuse_start(f"another engine is using the folder {settings.data}: stop it, or choose another --data")
    except OSError as error:
        return refuse_start(f"cannot use the folder {settings.data}: {error.strerror}. Choose another --data")
    try:
        listener = bind_listener(options.host, options.port)
    except OSError as error:
        return refuse_start(f"cannot listen on {options.host}:{options.port}: {error.strerror}. Choose another --port")
    try:
        return asyncio.run(serve_engine(options, settings, folder, listener))
    except (ServingError, TooManyWorkers, UnsupportedBackend) as error:
        return refuse_start(str(error))


def refuse_start(reason: str) -> int:
    print(reason, file=sys.stderr)
    return 2


async def serve_engine(options: argparse.Namespace, settings: Settings, run: Path, listener: socket.socket) -> int:
    find_embedder = base.find_embedder_class(options.embedder)
    gpus = await asyncio.to_thread(choose_gpus, find_embedder(settings).device == "cpu", settings.engine_workers)
    settings = settings.model_copy(update={"cores": share_cores(settings.cores, len(gpus))})
    embedder = find_embedder(settings)
    store, making, engines = SnapshotStore.of(settings), asyncio.Lock(), list[Engine]()
    for number, gpu in enumerate(gpus):
        spec = WorkerSpec.describe(options.embedder, embedder, settings, gpu)
        choice = await choose_backend(options.snapshot, spec, make_backends(settings, run, store))
        starter = Starter(spec, choice, run, number=number, making=making)
        engines.append(Engine(starter, beside=engines[0] if engines else None))
    log_choice(engines[0].starter.choice)
    pool = WorkerPool(engines, embedder.lanes.page_batch * embedder.lanes.page_workers)
    pool.metrics.registry.register(EngineCollector(partial(describe_pool, pool)))
    proxy = EngineProxy(pool, create_routes(pool, embedder))
    app = RequestGuard(proxy, lambda: settings, lambda: read_admin_key(settings))
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        log_level="warning",
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=round(settings.drain_s),
    )
    workers = f", {len(engines)} workers" if len(engines) > 1 else ""
    name = f"the engine of {embedder.name} ({engines[0].starter.choice.name}{workers})"
    server = Server(config, name, format_address(listener), pool.announce_stop)
    if options.until_stdin_closes:
        server.stop_with_stdin()
    await server.serve(sockets=[listener])
    return 0


class TooManyWorkers(Exception):
    """More workers than GPUs; the message says how many there are."""


def choose_gpus(cpu: bool, workers: int) -> list[str]:
    """Return the GPU of each worker, empty for one that is not told. `workers`: 0 for as many as make sense here.

    Raises TooManyWorkers.
    """
    if cpu:
        return [""] * (workers or 1)
    gpus = list_gpus()
    workers = workers or len(gpus) or 1
    if workers > max(1, len(gpus)):
        raise TooManyWorkers(f"--workers {workers}: each takes a whole GPU, and here is {len(gpus) or 'none'}")
    return gpus[:workers] if len(gpus) > 1 else [""]


def log_choice(choice: BackendChoice) -> None:
    for name, reason in choice.refused.items():
        log.info("snapshots by %s do not work here: %s", name, reason)
    detail = ", ".join(f"{name} {value}" for name, value in choice.detail.items())
    log.info("snapshots by %s%s", choice.name, f" ({detail})" if detail else "")


def read_admin_key(settings: Settings) -> str:
    """Return the configured admin key, else the one in the data folder, made at the first start with mode 0600.

    The file is read each time, so that replacing it changes the key. Raises OSError.
    """
    configured = settings.admin_key.get_secret_value()
    if configured:
        return configured
    path = settings.data / "admin.key"
    with contextlib.suppress(FileNotFoundError):
        if found := path.read_text().strip():
            return found
    write_file(path, secrets.token_urlsafe(32).encode(), 0o600)
    return path.read_text().strip()  # another process may have made one as well


if __name__ == "__main__":
    sys.exit(main())
