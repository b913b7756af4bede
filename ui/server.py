"""The page as an ASGI app: Gradio's tabs, pictures, downloads, the engines' states, and the removal of old files."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from urllib.parse import quote

import gradio as gr
import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from bench.coldstart.result_file import ResultError
from serving.errors import NotFoundError, ServingError
from serving.library import exporting
from serving.library.originals import is_pdf
from ui.access.ownership import BrowserCookies
from ui.access.same_origin import SameOrigin
from ui.access.uploads import UploadsOnly, get_uploads_folder, remove_old_uploads
from ui.api import collections_api, jobs_api, search_api
from ui.coldstart import tab as cold_starts
from ui.coldstart import timeline
from ui.components import about, events, header, status_pill
from ui.components.events import PRIVATE, call_script
from ui.components.theme import make_theme
from ui.core.service import Service
from ui.search import tab as search
from ui.servers.state import ServerState, as_json
from ui.servers.target import Target

ASSETS = Path(__file__).parent.parent / "assets"
STYLES = [ASSETS / "style.css", ASSETS / "timeline.css"]
KEPT = {"Cache-Control": "private, max-age=86400, immutable", "X-Content-Type-Options": "nosniff"}
NO_DOCUMENT = {"Content-Security-Policy": "sandbox; default-src 'none'"}
"""Of a file that anybody may have uploaded: a browser that opens it in spite of its type runs and loads nothing."""
PAGE_ID = re.compile(r"[0-9a-f]{16}")
PICTURE = re.compile(r"([0-9a-f]{16})\.(jpg|webp)")
EXPORT = re.compile(r"[0-9a-f]{32}\.zip")
TIDY_S = 600.0
FRESH = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def build_blocks(service: Service) -> gr.Blocks:
    """Return Gradio's side of the page: the API's calls, the header and three tabs."""
    page = search_api.PageBlocks(title="Dormouse", analytics_enabled=False)
    with page:
        # These come first: Gradio gives a name to the first call that asks for it, and the page has a "search" as well.
        search_api.build(service)
        collections_api.build(service)
        jobs_api.build(service)
        target = header.build(service)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Search", id="search") as searching:
                search.build(service, target)
            with gr.Tab("Cold starts", id="cold-starts") as measuring:
                cold_starts.ColdStartsTab(service, target)
            with gr.Tab("About", id="about") as telling:
                about.build(service)
        for tab in (searching, measuring, telling):
            tab.select(None, None, None, js=call_script("chooseTab", tab.id), **PRIVATE)
    page.queue(default_concurrency_limit=16)
    return page


def create_app(service: Service, *, loopback: bool = True) -> FastAPI:
    """Return the page, its pictures and the engines' states as one app.

    `loopback`: answer to local names only, so that no web page reaches it by DNS.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for target in service.targets:
            target.feed.start()
        tidying = asyncio.create_task(tidy_folders(service))
        yield
        tidying.cancel()
        service.targets.close()
        await asyncio.to_thread(service.close)
        with suppress(OSError):
            await asyncio.to_thread(remove_old_uploads, get_uploads_folder(service.settings), older_s=0.0)

    app = FastAPI(title="Dormouse", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(UploadsOnly)
    app.add_middleware(BrowserCookies, ownership=service.ownership)
    app.add_middleware(SameOrigin)
    if loopback:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"])
    routes = PageRoutes(service)
    app.add_exception_handler(ServingError, answer_error)
    app.get("/healthz")(routes.get_health)
    app.get("/pages/{name}")(routes.get_picture)
    app.get("/originals/{page_id}")(routes.get_original)
    app.get("/exports/{name}")(routes.get_export)
    app.get("/runs/{name}.{kind}")(routes.get_run)
    app.get("/status")(routes.get_state)
    app.get("/status/events")(routes.follow_states)
    gr.mount_gradio_app(
        app,
        build_blocks(service),
        path="/",
        theme=make_theme(),
        css_paths=STYLES,
        head=events.render_head(),
        footer_links=["api", "settings"],
        # Files that are no export are held to less when they are opened.
        max_file_size=max(service.settings.max_zip_bytes, service.settings.max_export_bytes),
        ssr_mode=False,
        enable_monitoring=False,
        show_error=True,
    )
    return app


class PageRoutes:
    """The page's routes beside Gradio's."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def get_health(self) -> Response:
        return JSONResponse({"status": "ok"})

    def get_picture(self, name: str) -> Response:
        if (named := PICTURE.fullmatch(name)) is None:
            return JSONResponse({"error": "no such page"}, 404)
        pictures, (page_id, kind) = self._service.library.pictures, named.groups()
        data = pictures.read_picture(page_id) if kind == "jpg" else pictures.read_thumbnail(page_id)
        if data is None:
            return JSONResponse({"error": "no such page"}, 404)
        return Response(data, media_type="image/jpeg" if kind == "jpg" else "image/webp", headers=KEPT)

    def get_original(self, page_id: str) -> Response:
        """Return the file that a page is of: a PDF to be looked at, all else only to be saved."""
        found = self._service.library.find_original(page_id) if PAGE_ID.fullmatch(page_id) else None
        if found is None:
            return JSONResponse({"error": "the original of this page is not here (any more)"}, 404)
        page, path = found
        name = page.file.rpartition("/")[2] or "original"
        if not is_pdf(path):
            disposition = {"Content-Disposition": write_disposition("attachment", name)}
            return FileResponse(
                path, media_type="application/octet-stream", headers={**KEPT, **disposition, **NO_DOCUMENT}
            )
        name = name if name.lower().endswith(".pdf") else f"{name}.pdf"
        disposition = {"Content-Disposition": write_disposition("inline", name)}
        return FileResponse(path, media_type="application/pdf", headers={**KEPT, **disposition})

    def get_export(self, name: str) -> Response:
        path = self._service.exports_folder / name
        if not EXPORT.fullmatch(name) or not path.is_file():
            return JSONResponse({"error": "this export does not exist (any more): export again"}, 404)
        return FileResponse(path, media_type="application/zip", headers={"Content-Disposition": "attachment", **FRESH})

    def get_run(self, name: str, kind: str, beside: str = "") -> Response:
        if kind not in ("json", "csv", "html"):
            return JSONResponse({"error": "a run is .json, .csv or .html"}, 404)
        try:
            content, media = cold_starts.export_run(self._service, name, kind, beside)
        except NotFoundError as error:
            return JSONResponse({"error": error.message}, 404)
        except ResultError as error:
            return JSONResponse({"error": str(error)}, 422)
        return Response(content, media_type=media, headers=FRESH)

    async def get_state(self, target: str = "") -> Response:
        return JSONResponse(as_json(self._service.targets.get_or_first(target).feed.state), headers=FRESH)

    async def follow_states(self, target: str = "", collection: str | None = None) -> Response:
        chosen = self._service.targets.get_or_first(target)
        if chosen.feed.is_full:
            return JSONResponse({"error": "too many tabs are open"}, 503, {"Retry-After": "5", **FRESH})
        stream = stream_states(self._service, chosen, collection)
        return StreamingResponse(stream, media_type="text/event-stream", headers=FRESH)


async def answer_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ServingError)
    return JSONResponse({"error": error.message}, error.status, {**error.headers(), **FRESH})


def write_disposition(kind: str, name: str) -> str:
    """Return the header of a file's name, whatever is in it."""
    return f"{kind}; filename*=utf-8''{quote(name, safe='', errors='replace')}"


async def tidy_folders(service: Service) -> None:
    """Remove old uploads and exports, forever: the library has copies of its own, and an export can be made again."""
    while True:
        with suppress(OSError):
            folder, needed = get_uploads_folder(service.settings), service.ingestor.needed_files()
            await asyncio.to_thread(remove_old_uploads, folder, needed)
            await asyncio.to_thread(service.ingestor.forget_old)
            await asyncio.to_thread(exporting.remove_old_exports, service.exports_folder)
        await asyncio.sleep(TIDY_S)


async def stream_states(service: Service, target: Target, collection: str | None = None) -> AsyncIterator[bytes]:
    """Yield the target's states as server-sent events, from now on.

    `collection`: a key, "" where there is none yet. What it has by then is told by a `version`, at each change.
    """
    title = target.title if len(service.targets) > 1 else ""
    changes, changed, loop = service.library.changes, asyncio.Event(), asyncio.get_running_loop()

    def wake() -> None:
        with suppress(RuntimeError):  # that loop has ended
            loop.call_soon_threadsafe(changed.set)

    yield b"retry: 2000\n\n"
    following = nullcontext() if collection is None else changes.follow(collection, wake)
    with following:
        async with aclosing(target.feed.follow(changed)) as followed:
            async for state in followed:
                known = {} if collection is None else {"version": changes.version(collection)}
                yield write_state(service, target, title, state, known)


def write_state(service: Service, target: Target, title: str, state: ServerState, known: Mapping[str, str]) -> bytes:
    run = service.runs.latest(target.name)
    feed = target.feed
    parts = timeline.render_parts(state, feed.history, time.monotonic(), title, feed.lanes)
    more = {"timeline": parts, "run": run.id if run is not None and run.is_running else "", **known}
    return b"event: status\ndata: " + orjson.dumps({**status_pill.make_message(state), **more}) + b"\n\n"


def stop_streams(app: FastAPI, service: Service) -> None:
    """End what does not end by itself: work on jobs, calls that retry, files slow to read, streams of open tabs."""
    service.ingestor.stop()
    service.parsers.close()
    service.targets.close()
    for route in app.routes:
        event = getattr(getattr(route, "app", None), "stop_event", None)
        if event is not None:
            event.set()
