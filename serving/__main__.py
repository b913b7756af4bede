"""`python -m serving`: one worker, loaded and warmed up, then bound and answering."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from serving.app import create_app
from serving.embedders import Embedder
from serving.errors import ServingError
from serving.process import READY
from serving.settings import Settings
from serving.worker import Worker

EMBEDDERS = ("builtin",)
SNAPSHOTS = ("plain",)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving",
        description="Serves one embedder over HTTP: /embed, /v1/embeddings, /v1/models, /health, /ready, /metrics.",
        epilog="Keys come from DORMOUSE_API_KEYS (comma-separated) and DORMOUSE_ADMIN_KEY; limits from DORMOUSE_<NAME>.",
    )
    parser.add_argument("--embedder", choices=EMBEDDERS, default="builtin", help="default: %(default)s")
    parser.add_argument(
        "--snapshot", choices=SNAPSHOTS, default="plain", help="plain: every start is a full one (default)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s; another one needs DORMOUSE_API_KEYS")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one; default: %(default)s")
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
    except ServingError as error:
        print(f"the embedder did not start: {error.message}", file=sys.stderr)
        return 1
    return serve(worker, listener, options.until_stdin_closes)


def embedder(name: str, settings: Settings) -> Embedder:
    from serving.embedders.builtin import Builtin

    return {"builtin": Builtin}[name](settings)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bound(host: str, port: int) -> socket.socket:
    """Bound, not yet listening: a taken port is told before a model is loaded, and nobody waits in the backlog."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on sockets that name their protocol; without it each answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def serve(worker: Worker, listener: socket.socket, until_stdin_closes: bool) -> int:
    settings = worker.settings
    server: Server

    def stop() -> None:
        server.should_exit = True

    config = uvicorn.Config(
        create_app(worker, admin_key(settings), stop),
        loop="asyncio",
        http="h11",
        ws="none",
        log_level="warning",
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=round(settings.drain_s),
        backlog=2048,
    )
    host, port = listener.getsockname()[:2]
    server = Server(config, f"http://{f'[{host}]' if ':' in host else host}:{port}")
    if until_stdin_closes:
        threading.Thread(target=wait_for_eof, args=[stop], name="stdin", daemon=True).start()
    server.run(sockets=[listener])
    return 0


class Server(uvicorn.Server):
    """Says when it answers, and exits 0 after a signal (uvicorn's own raises it again after the shutdown)."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self.url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(f"{READY}{self.url}", flush=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def wait_for_eof(stop: object) -> None:
    while sys.stdin.buffer.read(65536):
        pass
    assert callable(stop)
    stop()


def admin_key(settings: Settings) -> str:
    """The configured one, else the one in the data folder, made at the first start and readable by its owner only."""
    configured = settings.admin_key.get_secret_value()
    if configured:
        return configured
    path = settings.data / "admin.key"
    settings.data.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(32))
    return path.read_text().strip()


if __name__ == "__main__":
    sys.exit(main())
