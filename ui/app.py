"""Starts the page: `python -m ui.app`."""

from __future__ import annotations

import os

# Before gradio is imported: no usage statistics, no look-ups of its newest version, no hub.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import argparse
import logging
import socket
import sys
import threading
import webbrowser
from pathlib import Path
from typing import Any

import uvicorn

from serving.errors import ServingError
from serving.http.child_server import ProcessFailed
from serving.http.server import Server, bind_listener, is_loopback, parse_port
from serving.library.library import Library
from serving.settings import Settings
from serving.snapshots.base import BACKEND_NAMES
from serving.system.processes import interruptible
from ui.access.password import PASSWORD, Door, unguarded
from ui.access.uploads import sweep
from ui.core.service import Service
from ui.server import create_app, stop_streams, uploads_folder
from ui.servers.configured import configure_targets
from ui.servers.engine_process import LocalEngine
from ui.servers.state_feed import Watch
from ui.servers.target import Target, Targets, named


def has_screen() -> bool:
    """Without one, opening a browser would start a text browser in this terminal, or print its complaints."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ui.app",
        description="Opens the search page. Unless --worker names another, starts an engine beside it: the built-in CPU"
        " embedder, which goes when it was idle for a while and comes back with the next search.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s, this machine only")
    parser.add_argument("--port", type=parse_port, default=7860, help="0 takes a free one; default: %(default)s")
    parser.add_argument("--data", type=Path, help="folder of the collections; default: DORMOUSE_DATA or data")
    parser.add_argument(
        "--read-only", action="store_true", help="the page can be searched; nothing is added, changed or deleted"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--snapshot",
        choices=("auto", *BACKEND_NAMES),
        help="how the embedder comes back: from a file (criu), from a process held in memory (fork) or in full (plain);"
        " default: auto, the first of these that works here",
    )
    parser.add_argument(
        "--scaledown-window", type=window, metavar="S", help="idle seconds until the embedder goes; default: 60"
    )
    parser.add_argument(
        "--worker",
        metavar="[NAME=]URL",
        action="append",
        type=worker,
        help="use this worker or engine instead, or modal:APP, the server that was deployed to Modal under that name."
        " Given several times, the page lets choose between them. Its key comes"
        " from DORMOUSE_WORKER_KEY; with DORMOUSE_ADMIN_KEY set, the page tells its state. DORMOUSE_WORKER_KEY_2 and"
        " DORMOUSE_ADMIN_KEY_2 are those of the second alone, and so on",
    )
    parser.add_argument("--until-stdin-closes", action="store_true", help="stop when whoever started this has gone")
    return parser


def worker(text: str) -> tuple[str, str]:
    """For argparse."""
    try:
        return named(text)
    except ServingError as error:
        raise argparse.ArgumentTypeError(error.message) from None


def window(text: str) -> float:
    """For argparse."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 2 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 2 or more")
    return seconds


def main(argv: list[str] | None = None) -> int:
    """Serve the page until it is told to stop, and return the exit code."""
    try:
        with interruptible():
            return run(argv)
    except KeyboardInterrupt:  # before it served
        return 0


def run(argv: list[str] | None) -> int:
    parser = arguments()
    options = parser.parse_args(argv)
    if options.worker and (options.snapshot or options.scaledown_window):
        parser.error("--snapshot and --scaledown-window are for the engine that the page starts: leave out --worker")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings(**given(options))
    uploads = uploads_folder(settings)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    try:
        listener = bind_listener(options.host, options.port)
    except OSError as error:
        print(
            f"cannot listen on {options.host}:{options.port}: {error.strerror}. Choose another --port", file=sys.stderr
        )
        return 2
    try:
        library = Library(settings.data, vector_bytes=settings.vector_bytes)
    except ServingError as error:
        print(error.message, file=sys.stderr)
        return 2
    sweep(uploads, older_s=0.0)  # of a page that was killed; this one owns the folder now
    host, port = listener.getsockname()[:2]
    url = f"http://{'localhost' if is_loopback(options.host) else host}:{port}"
    if options.worker:
        try:
            targets = configure_targets(options.worker, settings)
        except ServingError as error:
            print(error.message, file=sys.stderr)
            return 2
        return serve(Service(targets, library, settings), listener, url, options)
    return serve_with_engine(library, settings, listener, url, options)


def given(options: argparse.Namespace) -> dict[str, Any]:
    """What was said on the command line, in place of the environment."""
    data = {} if options.data is None else {"data": options.data}
    return {**data, "read_only": True} if options.read_only else data


def serve_with_engine(
    library: Library, settings: Settings, listener: socket.socket, url: str, options: argparse.Namespace
) -> int:
    try:
        engine = LocalEngine(settings, options.snapshot or "auto", options.scaledown_window)
    except ProcessFailed as error:
        print(error, file=sys.stderr)
        return 1
    try:
        watch = Watch(lambda: (engine.client.url, engine.admin_key))
        targets = Targets([Target(engine.client, "local", watch)])
        return serve(Service(targets, library, settings), listener, url, options)
    finally:
        engine.stop()


def serve(service: Service, listener: socket.socket, url: str, options: argparse.Namespace) -> int:
    loopback = is_loopback(options.host)
    guarded = bool(os.environ.get(PASSWORD))
    if guarded and (problem := unguarded()):
        print(problem, file=sys.stderr)
        return 2
    # What may not change has one shelf: the collections that were made on this machine are what is shown.
    service.shelf.own = not loopback and not guarded and not service.settings.read_only
    if service.shelf.own:
        print(
            "warning: everybody who reaches this address can add pages, and search with the servers; collections are"
            f" seen by the browser that made them, and by who has their link. {PASSWORD} asks for a password",
            file=sys.stderr,
        )
    app = create_app(service, loopback=loopback)
    config = uvicorn.Config(
        Door(app, lambda: "") if guarded else app,
        log_level="warning",
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
    )
    server = Server(config, "Dormouse", url, lambda: stop_streams(app, service))
    if options.until_stdin_closes:
        server.stop_with_stdin()
    if not options.no_browser and has_screen():
        threading.Timer(1.0, webbrowser.open, [url]).start()
    server.run(sockets=[listener])
    return 0


def __getattr__(name: str) -> Any:
    """`app`, the page as a Modal app: only who asks for it needs Modal's client."""
    if name == "app":
        from ui.deploy.modal_app import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if "modal" in sys.modules:  # `modal serve ui/app.py` and `modal deploy ui/app.py` list what is here
    from ui.deploy.modal_app import app as app

if __name__ == "__main__":
    sys.exit(main())
