"""`python -m serving`: one worker, loaded and warmed up, then bound and answering."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import socket
import sys
import tempfile
from pathlib import Path

import uvicorn

from serving.app import create_app
from serving.embedders import Embedder
from serving.errors import ServingError
from serving.server import Server, address, bound, is_loopback, port_number
from serving.settings import Settings
from serving.worker import Worker

EMBEDDERS = ("builtin",)
SNAPSHOTS = ("plain",)
LAST_BATCH_S = 3.0
"""What has been started by then is finished within the grace."""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving",
        description="Serves one embedder over HTTP: /embed, /v1/embeddings, /v1/models, /health, /ready, /metrics.",
        epilog="Keys: DORMOUSE_API_KEYS (comma-separated) and DORMOUSE_ADMIN_KEY. Limits: DORMOUSE_<NAME>.",
    )
    parser.add_argument("--embedder", choices=EMBEDDERS, default="builtin", help="default: %(default)s")
    parser.add_argument(
        "--snapshot", choices=SNAPSHOTS, default="plain", help="plain: every start is a full one (default)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s; another one needs DORMOUSE_API_KEYS")
    parser.add_argument("--port", type=port_number, default=8000, help="0 takes a free one; default: %(default)s")
    parser.add_argument("--data", type=Path, help="folder of the admin key and caches; default: DORMOUSE_DATA or data")
    parser.add_argument("--until-stdin-closes", action="store_true", help="stop when whoever started this has gone")
    return parser


def main(argv: list[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings() if options.data is None else Settings(data=options.data)
    if not settings.keys and not is_loopback(options.host):
        print(f"refused: --host {options.host} is open to others; set DORMOUSE_API_KEYS first", file=sys.stderr)
        return 2
    try:
        listener = bound(options.host, options.port)
    except OSError as error:
        print(
            f"cannot listen on {options.host}:{options.port}: {error.strerror}. Choose another --port", file=sys.stderr
        )
        return 2
    try:
        worker = Worker(embedder(options.embedder, settings), settings)
        worker.start()
        key = admin_key(settings)
    except ServingError as error:
        print(f"the embedder did not start: {error.message}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot use the folder {settings.data}: {error.strerror}. Choose another --data", file=sys.stderr)
        return 2
    return serve(worker, key, listener, options.until_stdin_closes)


def embedder(name: str, settings: Settings) -> Embedder:
    from serving.embedders.builtin import Builtin

    return {"builtin": Builtin}[name](settings)


def serve(worker: Worker, key: str, listener: socket.socket, until_stdin_closes: bool) -> int:
    settings = worker.settings
    server: Server
    app = create_app(worker, key, lambda: server.stop())
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        log_level="warning",
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=round(settings.drain_s),
    )
    server = Server(config, f"the worker {worker.embedder.name}", address(listener), lambda: wind_down(worker))
    if until_stdin_closes:
        server.stop_with_stdin()
    server.run(sockets=[listener])
    return 0


def wind_down(worker: Worker) -> None:
    """What still waits when the grace is nearly over is refused, so that its client hears of it."""
    asyncio.get_running_loop().call_later(max(0.0, worker.settings.drain_s - LAST_BATCH_S), worker.refuse_waiting)


def admin_key(settings: Settings) -> str:
    """The configured one, else the one in the data folder, made at the first start and readable by its owner only.

    Raises OSError.
    """
    configured = settings.admin_key.get_secret_value()
    if configured:
        return configured
    path = settings.data / "admin.key"
    settings.data.mkdir(parents=True, exist_ok=True)
    if not path.exists() or not path.read_text().strip():
        descriptor, name = tempfile.mkstemp(dir=settings.data)  # 0600
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(32))
        # Of two workers that start together the later one wins for both: each reads it back below.
        Path(name).replace(path)
    return path.read_text().strip()


if __name__ == "__main__":
    sys.exit(main())
