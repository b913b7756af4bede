"""Render what is found, added and listed: the values of the templates in `search` and `pages`. Pure functions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from serving.client import ModelInfo
from serving.documents.page import Line
from serving.errors import ServingError
from serving.library.records import Collection, Hit, StoredPage
from ui.components.open_page import OpenPage, place_lines
from ui.components.templates import render_template
from ui.components.wording import as_sentence, format_count, format_ordinal, format_rough
from ui.core.jobs import IngestJob
from ui.core.service import SearchResult

Ranks = Mapping[str, int]
"""Page ids and ranks, by another number of dimensions."""
NO_RANKS: Ranks = {}
NOTHING = Markup()
ADD_SCRIPT = (
    "For another script, install Tesseract with its language where this server runs (Debian, Ubuntu:"
    " apt install tesseract-ocr-rus for Russian), start the server again and add the pages again."
)


def render_model(info: ModelInfo, name: str = "") -> Markup:
    """Render the model that ranks the pages: its name, and the rest on demand. `name`: the server's, of several."""
    others = ", ".join(str(size) for size in sorted(info.dimensions) if size != info.dimension)
    rows = {
        "Server": name,
        "Model": f"{info.title} ({info.name})",
        "Dimensions": f"{info.dimension}" + (f"; can be reduced to {others}" if others else ""),
        "Reads": f"{', '.join(info.scripts)}. {ADD_SCRIPT}" if info.scripts else "",
        "Fingerprint": info.fingerprint,
    }
    size = f"{info.dimension}-d"
    # Two servers may have the same model: then the end of the fingerprint is what differs.
    brief = [info.name, size, info.fingerprint.rpartition("-")[2][:6]] if name else [info.title, size]
    return render_template("header/model.html", brief=brief, rows=rows)


def name_page(page: StoredPage) -> str:
    return page.file + (f", page {page.page}" if page.pages > 1 else "")


def quote_page(page: StoredPage) -> str:
    return f"“{page.file}”" + (f", page {page.page}" if page.pages > 1 else "")


def describe_place(page: StoredPage) -> str:
    return f"page {page.page} of {page.pages}" if page.pages > 1 else "1 page"


def scale_bars(scores: Sequence[float]) -> list[int]:
    """Return percentages from the weakest hit (12) to the best (100): cosines of one model lie close together."""
    if not scores:
        return []
    low, high = min(scores), max(scores)
    return [100 if high == low else round(12 + 88 * (score - low) / (high - low)) for score in scores]


def describe_move(hit: Hit, was: Ranks) -> str:
    """Return where a page was before, if that was another place."""
    before = was.get(hit.page.id)
    if not was or before == hit.rank:
        return ""
    return f"was {format_ordinal(before)}" if before else f"was behind the {format_ordinal(len(was))}"


def render_gallery(hits: Sequence[Hit], was: Ranks = NO_RANKS, current: str = "", search: str = "") -> Markup:
    """Render the pages found as cards, best first. `current`: the page that is shown in full; `search`: an id."""
    widths = scale_bars([hit.score for hit in hits])
    cards = [
        (hit, width, describe_place(hit.page), describe_move(hit, was)) for hit, width in zip(hits, widths, strict=True)
    ]
    return render_template("search/gallery.html", cards=cards, current=current, search=search)


def render_first_summary(server: str, *, wakes_up: bool) -> Markup:
    """Render the line above pages found by words. `server`: what a person calls the one that is waited for."""
    return render_template("search/first_results.html", server=server, wakes_up=wakes_up, error=None)


def render_first_failed(error: ServingError) -> Markup:
    """Render why the pages found by words are all that there is, and a button to ask again."""
    return render_template("search/first_results.html", error=error)


def render_summary(
    found: SearchResult, collection: Collection, like: str = "", *, filtered: bool, dimension: int | None, was: Ranks
) -> Markup:
    """Render the line above the pages found. `like`: the page that was asked with."""
    among = f"{found.ranked:,} that pass the filter, of {collection.pages:,}" if filtered else f"{collection.pages:,}"
    below = f", {found.below} hidden below the minimum score" if found.below else ""
    figures = [f"{name} {value:.0f} ms" for name, value in found.timings.items()]
    if dimension:
        figures.append(f"compared in {dimension:,} dimensions")
    if was:
        changed = sum(bool(describe_move(hit, was)) for hit in found.hits)
        figures.append(f"{format_count(changed, 'page') if changed else 'no page'} changed places")
    pages = format_count(len(found.hits), "page") + (f" like {like}" if like else "")
    facts = {"found": pages, "among": among, "collection": collection.name}
    return render_template("search/summary.html", below=below, figures=figures, **facts)


def render_notice(title: str, text: str = "", kind: str = "info") -> Markup:
    return render_template("notice.html", title=title, text=text, kind=kind)


def render_error(title: str, error: ServingError) -> Markup:
    """Render what went wrong; a screen reader reads it out at once."""
    return render_notice(title, error.message, "error")


def render_page_gone() -> Markup:
    return render_notice("This page is gone", "It was deleted or moved meanwhile. Search again.", "error")


def locate_original(page: StoredPage) -> str:
    """Return the address of the file that a page is of, a PDF's at that page; empty where it was not kept."""
    fragment = f"#page={page.page}" if page.original == "pdf" else ""
    return f"/originals/{page.id}{fragment}" if page.original else ""


def render_detail(shown: OpenPage, *, overlay: Markup = NOTHING, notes: Markup = NOTHING) -> Markup:
    """Render one page in full with the line that answers; `overlay` is drawn on it, `notes` stand above it."""
    facts = {"where": describe_place(shown.page), "mark": style_mark(shown.line), "text": place_lines(shown)}
    original = locate_original(shown.page)
    return render_template("search/detail.html", shown=shown, original=original, overlay=overlay, notes=notes, **facts)


def style_mark(line: Line | None) -> str:
    """Return the place of the answering line on its page as CSS, a little larger than its box."""
    if line is None or line.box is None:
        return ""
    x0, y0, x1, y1 = line.box
    left, top = max(0.0, x0 - 0.008), max(0.0, y0 - 0.004)
    width, height = min(1.0, x1 + 0.008) - left, min(1.0, y1 + 0.004) - top
    return f"left:{left:.2%};top:{top:.2%};width:{width:.2%};height:{height:.2%}"


def render_jobs(jobs: Sequence[IngestJob]) -> Markup:
    """Render uploads into one collection, each under the name of its files where there are several."""
    names = [name_upload(job) if len(jobs) > 1 else "" for job in jobs]
    return NOTHING.join(render_job(job, name) for job, name in zip(jobs, names, strict=True))


def name_upload(job: IngestJob) -> str:
    first, *rest = [upload.name for upload in job.uploads] or [""]
    return f"{first} and {len(rest):,} more" if rest else first


def prefix_name(name: str, text: str) -> str:
    return f"{name}: {text[:1].lower()}{text[1:]}" if name else text


def render_job(job: IngestJob, name: str = "") -> Markup:
    with job.lock:
        added, skipped, unread = len(job.added), list(job.skipped), list(job.unread)
    if not job.finished.is_set():
        return render_running_job(job, name) + render_template("pages/skipped.html", skipped=skipped)
    if job.state == "failed":
        before = f" {format_count(added, 'page')} added before that are kept." if added else ""
        title, text = prefix_name(name, "The pages could not be added"), as_sentence(job.error) + before
        return render_notice(title, text + describe_kept(job), "error")
    text = describe_end(job, added, nothing=not added and bool(skipped) and job.state == "done")
    values = {"unread": len(unread), "skipped": skipped, "kept": describe_kept(job).strip()}
    return render_template("pages/ended.html", text=prefix_name(name, text), **values)


def describe_end(job: IngestJob, added: int, nothing: bool) -> str:
    """Return how a job that has not failed ended. `nothing`: all of it was skipped."""
    if nothing:
        return "Nothing new to add"
    took = f"in {job.seconds:.0f} s" if job.seconds >= 1 else "in under 1 s"
    rate = f" · {job.pages_per_minute:.0f} pages/min" if added > 1 else ""
    text = f"{format_count(added, 'page')} added {took}{rate}"
    if job.state == "cancelled":
        return f"Cancelled. {text}; what was added is kept"
    if job.state == "stopped":
        return f"Stopped. {text}; it goes on when the page is started again"
    return text


def describe_kept(job: IngestJob) -> str:
    """Return how long the files of what was skipped are kept."""
    left = job.keep_until - time.time()
    if not job.can_retry or left <= 0:
        return ""
    return f" The files are kept for {format_rough(left)} more, to try again."


def render_running_job(job: IngestJob, name: str = "") -> Markup:
    words = prefix_name(name, describe_progress(job))
    rate = f" · {job.pages_per_minute:.0f} pages/min" if job.added and job.state == "running" else ""
    rest = f" · about {format_rough(job.seconds_left)} left" if job.seconds_left is not None else ""
    again = " · continued after a restart" if job.continued else ""
    total = max(job.total, 1) if job.total or job.state == "running" else 0
    return render_progress(words, min(job.done, total), total, "Pages added", rate + rest + again)


def describe_progress(job: IngestJob) -> str:
    if job.cancelled.is_set():
        return f"Cancelling… page {min(job.done + 1, job.total)} of {job.total}"
    if job.state == "paused":
        return f"Paused: {job.done:,} of {format_count(job.total, 'page')}"
    if job.state == "waiting" and not job.total:
        return "Waiting for its turn…"
    return f"Page {min(job.done + 1, max(job.total, 1))} of {job.total}"


def render_step(doing: str, done: int, total: int) -> Markup:
    """Render the progress of a task; `total` is 0 as long as nobody knows it."""
    words = f"{doing}: page {done:,} of {total:,}" if total else f"{doing}…"
    return render_progress(words, done, total, doing)


def render_progress(words: str, done: int = 0, total: int = 0, label: str = "", rate: str | None = None) -> Markup:
    return render_template("pages/running.html", words=words, done=done, total=total, label=label, rate=rate)
