"""The command that starts the page: `python -m ui.app`."""

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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvicorn

from serving.errors import ServingError
from serving.http.child_server import ProcessFailed
from serving.http.server import Server, bind_listener, is_loopback, parse_port
from serving.library.library import open_library
from serving.settings import Settings
from serving.snapshots.base import BACKEND_NAMES
from serving.system.processes import interruptible
from ui.access.password import PASSWORD, PasswordGate, explain_closed
from ui.access.uploads import get_uploads_folder, remove_old_uploads
from ui.core.page_address import announce_page
from ui.core.service import Service
from ui.server import create_app, stop_streams
from ui.servers.configured import configure_targets, parse_worker
from ui.servers.engine_process import LocalEngine
from ui.servers.state_feed import EngineStateFeed
from ui.servers.target import Target, Targets


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ui.app",
        description="Opens the search page. Unless --worker names another server, it starts an engine beside it: the"
        " built-in CPU embedder, which stops after some idle time and starts again with the next search.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s, this machine only")
    parser.add_argument("--port", type=parse_port, default=7860, help="0 takes a free one; default: %(default)s")
    parser.add_argument("--data", type=Path, help="folder of the collections; default: DORMOUSE_DATA or data")
    parser.add_argument(
        "--store",
        metavar="URL",
        help="keep the collections in a PostgreSQL with pgvector, for pages on several machines:"
        " postgresql://user@host/database; default: DORMOUSE_STORE, or the folder. A password belongs to that variable"
        " or to ~/.pgpass: others on this machine can read a command",
    )
    parser.add_argument(
        "--read-only", action="store_true", help="search only: nothing can be added, changed or deleted"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--snapshot",
        choices=("auto", *BACKEND_NAMES),
        help="how the embedder starts again: from a file (criu), from a process held in memory (fork) or in full"
        " (plain); default: auto, the first of these that works here",
    )
    parser.add_argument(
        "--scaledown-window", type=parse_window, metavar="S", help="idle seconds until the embedder stops; default: 60"
    )
    parser.add_argument(
        "--worker",
        metavar="[NAME=]URL",
        action="append",
        type=parse_worker,
        help="search with this worker or engine instead, or with modal:APP, a server deployed to Modal under that name."
        " Given several times, the page offers a choice. Its key is DORMOUSE_WORKER_KEY; with DORMOUSE_ADMIN_KEY set,"
        " the page shows its state. DORMOUSE_WORKER_KEY_2 and DORMOUSE_ADMIN_KEY_2 are those of the second alone, and"
        " so on",
    )
    parser.add_argument("--until-stdin-closes", action="store_true", help="stop when the process that started it ends")
    return parser


def parse_window(text: str) -> float:
    """Return the seconds of `--scaledown-window`. Raises ArgumentTypeError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 2 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 2 or more")
    return seconds


def main(argv: list[str] | None = None) -> int:
    """Serve the page until it is told to stop, and return the exit code."""
    parser = make_parser()
    options = parser.parse_args(argv)
    if options.worker and (options.snapshot or options.scaledown_window):
        parser.error("--snapshot and --scaledown-window are for the engine that the page starts: leave out --worker")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        with interruptible():
            return start_page(options)
    except KeyboardInterrupt:  # before it served
        return 0
    except ServingError as error:
        print(error.message, file=sys.stderr)
        return 2
    except ProcessFailed as error:
        print(error, file=sys.stderr)
        return 1


def start_page(options: argparse.Namespace) -> int:
    """Open the port, the library and the servers, then serve. Raises ServingError; ProcessFailed for the engine."""
    chosen = {"data": options.data, "store": options.store, "read_only": options.read_only or None}
    settings = Settings(**{name: value for name, value in chosen.items() if value is not None})
    uploads = get_uploads_folder(settings)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    try:
        listener = bind_listener(options.host, options.port)
    except OSError as error:
        print(
            f"cannot listen on {options.host}:{options.port}: {error.strerror}. Choose another --port", file=sys.stderr
        )
        return 2
    library = open_library(settings)
    if library.read_only:
        settings = settings.model_copy(update={"read_only": True})
    remove_old_uploads(uploads, older_s=0.0)  # of a page that was killed; this one owns the folder now
    with ExitStack() as stack:
        if options.worker:
            targets = configure_targets(options.worker, settings)
        else:
            engine = LocalEngine(settings, options.snapshot or "auto", options.scaledown_window)
            stack.callback(engine.stop)
            watch = EngineStateFeed(lambda: (engine.client.url, engine.admin_key))
            targets = Targets([Target(engine.client, "local", watch)])
        return serve_page(Service(targets, library, settings), listener, options)


def serve_page(service: Service, listener: socket.socket, options: argparse.Namespace) -> int:
    """Serve until told to stop, with the password where one is set, and return the exit code."""
    loopback = is_loopback(options.host)
    guarded = bool(os.environ.get(PASSWORD))
    if guarded and (problem := explain_closed()):
        print(problem, file=sys.stderr)
        return 2
    # A read-only page shows everybody the collections that were made on this machine.
    service.ownership.per_browser = not loopback and not guarded and not service.settings.read_only
    if service.ownership.per_browser:
        print(
            "warning: everybody who reaches this address can add pages and search with the servers. A collection is"
            f" seen by the browser that made it and by everybody with its link. Set {PASSWORD} to ask for a password",
            file=sys.stderr,
        )
    service.library.follow_others()
    service.library.begin_indexing()
    if service.settings.read_pictures:
        service.reading.begin()
    service.ingestor.continue_jobs()
    app = create_app(service, loopback=loopback)
    config = uvicorn.Config(
        PasswordGate(app, lambda: "") if guarded else app,
        log_level="warning",
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,
    )
    host, port = listener.getsockname()[:2]
    url = f"http://{'localhost' if loopback else host}:{port}"
    server = Server(config, "Dormouse", url, lambda: stop_streams(app, service))
    if options.until_stdin_closes:
        server.stop_with_stdin()
    # Without a screen, opening a browser would start a text browser in this terminal, or print its complaints.
    screen = sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if screen and not options.no_browser:
        threading.Timer(1.0, webbrowser.open, [url]).start()
    local, store = url.replace("0.0.0.0", "127.0.0.1"), service.settings.store.get_secret_value()  # noqa: S104
    with announce_page(service.settings.data, local, store):
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
