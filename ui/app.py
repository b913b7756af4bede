"""Puts the page together, and starts it: `python -m ui.app`."""

from __future__ import annotations

import os

# Before gradio is imported: no usage statistics, no look-ups of its newest version, no hub.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import argparse
import asyncio
import logging
import re
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import orjson
import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from bench.coldstart.result_file import ResultError
from serving.client import EmbeddingClient
from serving.cloud.credentials import Keys, load_keys
from serving.errors import BadValueError, NotFoundError, ServingError
from serving.http.child_server import ProcessFailed
from serving.http.server import Server, bind_listener, is_loopback, parse_port
from serving.library import exporting
from serving.library.library import Library
from serving.settings import Settings
from serving.snapshots.base import NAMES
from ui.access.ownership import Visitors
from ui.access.password import PASSWORD, Door, unguarded
from ui.access.same_origin import SameOrigin
from ui.access.uploads import UploadsOnly, sweep
from ui.api import collections_api, search_api
from ui.coldstart import tab, timeline
from ui.components import about, header, status_pill
from ui.components.theme import theme
from ui.core.service import Service
from ui.search import tab
from ui.servers.engine_process import LocalEngine
from ui.servers.modal_target import ModalTarget, app_name
from ui.servers.state import told
from ui.servers.state_feed import Watch
from ui.servers.target import Target, Targets, named

ASSETS = Path(__file__).parent.parent / "assets"
STYLES = [ASSETS / "style.css", ASSETS / "timeline.css"]
PICTURE = re.compile(r"[0-9a-f]{16}\.(jpg|webp)")
EXPORT = re.compile(r"[0-9a-f]{32}\.zip")
UNREACHABLE_S = 10.0
"""Until a search or an upload says that nothing answers at the address of its server: nobody starts one that is not
ours, and a platform that has to start it takes the connection at once."""
TIDY_S = 600.0
FRESH = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
HEAD = f"""
<meta name="color-scheme" content="light dark">
<script>{(Path(__file__).parent / "keys.js").read_text()}</script>
"""


def blocks(service: Service) -> gr.Blocks:
    page = search_api.Page(title="Dormouse", analytics_enabled=False)
    with page:
        search_api.build(
            service
        )  # first: Gradio gives a name to whoever asks first, and the page has a "search" as well
        collections_api.build(service)
        target = header.build(service)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Search", id="search"):
                tab.build(service, target)
            with gr.Tab("Cold starts", id="cold-starts"):
                tab.build(service, target)
            with gr.Tab("About", id="about"):
                about.build(service)
    page.queue(default_concurrency_limit=16)
    return page


def create_app(service: Service, *, loopback: bool = True) -> FastAPI:
    """The page, its pictures and the engines' states.

    `loopback`: answer to local names only, so that no web page reaches it by DNS.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for target in service.targets:
            target.watch.start()
        tidying = asyncio.create_task(tidy(service))
        yield
        tidying.cancel()
        service.targets.close()
        await asyncio.to_thread(service.close)
        with suppress(OSError):
            await asyncio.to_thread(sweep, uploads_of(service.limits), older_s=0.0)

    app = FastAPI(title="Dormouse", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(UploadsOnly)
    app.add_middleware(Visitors, shelf=service.shelf)
    app.add_middleware(SameOrigin)
    if loopback:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"])

    @app.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/pages/{name}")
    def picture(name: str) -> Response:
        if not PICTURE.fullmatch(name):
            return JSONResponse({"error": "no such page"}, 404)
        path = service.library.pictures.folder / name
        if not path.is_file():
            return JSONResponse({"error": "no such page"}, 404)
        headers = {"Cache-Control": "private, max-age=86400, immutable", "X-Content-Type-Options": "nosniff"}
        return FileResponse(path, headers=headers)

    @app.get("/exports/{name}")
    def exported(name: str) -> Response:
        path = service.exports / name
        if not EXPORT.fullmatch(name) or not path.is_file():
            return JSONResponse({"error": "this export is not there (any more): make it again"}, 404)
        return FileResponse(path, media_type="application/zip", headers={"Content-Disposition": "attachment", **FRESH})

    @app.get("/runs/{name}.{kind}")
    def run(name: str, kind: str, beside: str = "") -> Response:
        if kind not in ("json", "csv", "html"):
            return JSONResponse({"error": "a run is .json, .csv or .html"}, 404)
        try:
            content, media = tab.exported(service, name, kind, beside)
        except NotFoundError as error:
            return JSONResponse({"error": error.message}, 404)
        except ResultError as error:
            return JSONResponse({"error": str(error)}, 422)
        return Response(content, media_type=media, headers=FRESH)

    @app.get("/status")
    async def state(target: str = "") -> Response:
        return JSONResponse(told(service.targets.or_first(target).watch.news), headers=FRESH)

    @app.get("/status/events")
    async def states(target: str = "") -> Response:
        of = service.targets.or_first(target)
        if of.watch.full:
            return JSONResponse({"error": "too many tabs are open"}, 503, {"Retry-After": "5", **FRESH})
        return StreamingResponse(events(service, of), media_type="text/event-stream", headers=FRESH)

    gr.mount_gradio_app(
        app,
        blocks(service),
        path="/",
        theme=theme(),
        css_paths=STYLES,
        head=HEAD,
        footer_links=["api", "settings"],
        # What is no export is held to less when it is opened.
        max_file_size=max(service.limits.max_zip_bytes, service.limits.max_export_bytes),
        ssr_mode=False,
        enable_monitoring=False,
        show_error=True,
    )
    return app


async def tidy(service: Service) -> None:
    """Uploads are copies, the library keeps its own; exports are fetched or made again."""
    while True:
        with suppress(OSError):
            await asyncio.to_thread(sweep, uploads_of(service.limits), service.ingestor.needed())
            await asyncio.to_thread(exporting.sweep, service.exports)
        await asyncio.sleep(TIDY_S)


def uploads_of(limits: Settings) -> Path:
    return (limits.data / "uploads").resolve()


async def events(service: Service, target: Target) -> AsyncIterator[bytes]:
    title = target.title if len(service.targets) > 1 else ""
    yield b"retry: 2000\n\n"
    async with aclosing(target.watch.follow()) as followed:
        async for news in followed:
            run = service.runs.going(target.name)
            more = timeline.message(news, target.watch.past, time.monotonic(), title, run)
            yield b"event: status\ndata: " + orjson.dumps({**status_pill.message(news), **more}) + b"\n\n"


def has_screen() -> bool:
    """Without one, opening a browser would start a text browser in this terminal, or print its complaints."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def wind_down(app: FastAPI, service: Service) -> None:
    """Ends what would not end by itself: jobs, calls that retry, files that are slow to read, and the streams that each
    open tab holds."""
    service.ingestor.cancel_all()
    service.parsers.close()
    service.targets.close()
    for route in app.routes:
        event = getattr(getattr(route, "app", None), "stop_event", None)
        if event is not None:
            event.set()


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
        choices=("auto", *NAMES),
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
    parser = arguments()
    options = parser.parse_args(argv)
    if options.worker and (options.snapshot or options.scaledown_window):
        parser.error("--snapshot and --scaledown-window are for the engine that the page starts: leave out --worker")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    limits = Settings(**given(options))
    uploads = uploads_of(limits)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    try:
        listener = bind_listener(options.host, options.port)
    except OSError as error:
        print(
            f"cannot listen on {options.host}:{options.port}: {error.strerror}. Choose another --port", file=sys.stderr
        )
        return 2
    try:
        library = Library(limits.data, vector_bytes=limits.vector_bytes)
    except ServingError as error:
        print(error.message, file=sys.stderr)
        return 2
    sweep(uploads, older_s=0.0)  # of a page that was killed; this one owns the folder now
    host, port = listener.getsockname()[:2]
    url = f"http://{'localhost' if is_loopback(options.host) else host}:{port}"
    if options.worker:
        try:
            targets = elsewhere(options.worker, limits)
        except ServingError as error:
            print(error.message, file=sys.stderr)
            return 2
        return serve(Service(targets, library, limits), listener, url, options)
    return serve_with_engine(library, limits, listener, url, options)


def given(options: argparse.Namespace) -> dict[str, Any]:
    """What was said on the command line, in place of the environment."""
    data = {} if options.data is None else {"data": options.data}
    return {**data, "read_only": True} if options.read_only else data


def elsewhere(workers: Sequence[tuple[str, str]], limits: Settings, folder: Path | None = None) -> Targets:
    """The servers of `--worker`, as (name, address). `folder`: where those on Modal are remembered; else the data
    folder. Raises ServingError."""
    targets: list[Target] = []
    for number, (name, url) in enumerate(workers, 1):
        if app := app_name(url):
            targets.append(ModalTarget(name, app, access(limits), folder or limits.data))
            continue
        key = os.environ.get("DORMOUSE_WORKER_KEY", "")
        admin = os.environ.get(f"DORMOUSE_ADMIN_KEY_{number}", limits.admin_key.get_secret_value())
        client = EmbeddingClient(url, os.environ.get(f"DORMOUSE_WORKER_KEY_{number}", key), unreachable_s=UNREACHABLE_S)
        targets.append(Target(client, name, Watch(partial(where_and_key, client.url, admin) if admin else None)))
    return Targets(targets)


def access(limits: Settings) -> Keys:
    """To servers on Modal. Raises BadValueError."""
    try:
        return load_keys(limits.data, os.environ)
    except ValueError as error:
        raise BadValueError(str(error)) from None


def where_and_key(url: str, admin_key: str) -> tuple[str, str]:
    """For a Watch, of an engine that has the same all the time."""
    return url, admin_key


def serve_with_engine(
    library: Library, limits: Settings, listener: socket.socket, url: str, options: argparse.Namespace
) -> int:
    try:
        engine = LocalEngine(limits, options.snapshot or "auto", options.scaledown_window)
    except ProcessFailed as error:
        print(error, file=sys.stderr)
        return 1
    try:
        watch = Watch(lambda: (engine.client.url, engine.admin_key))
        targets = Targets([Target(engine.client, "local", watch)])
        return serve(Service(targets, library, limits), listener, url, options)
    finally:
        engine.stop()


def serve(service: Service, listener: socket.socket, url: str, options: argparse.Namespace) -> int:
    loopback = is_loopback(options.host)
    guarded = bool(os.environ.get(PASSWORD))
    if guarded and (problem := unguarded()):
        print(problem, file=sys.stderr)
        return 2
    # What may not change has one shelf: the collections that were made on this machine are what is shown.
    service.shelf.own = not loopback and not guarded and not service.limits.read_only
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
    server = Server(config, "Dormouse", url, lambda: wind_down(app, service))
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
