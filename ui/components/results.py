"""Render what is found, added and listed: the values of the templates in `search` and `pages`. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from serving.client import ModelInfo
from serving.documents.page import Line
from serving.library.records import Collection, Hit, StoredFile, StoredPage
from ui.components.templates import render_template
from ui.components.wording import format_count, format_ordinal
from ui.core.ingest import Job, Skipped

WHY_NO_TEXT = (
    "it may have none, or be in a script that the built-in embedder does not read"
    " (it reads Latin, Chinese and Japanese)"
)
LISTED = 100
"""Skipped files that are named: a folder of thousands is told of at each change."""
NO_RANKS: Mapping[str, int] = {}
NOTHING = Markup()


def render_welcome(local: bool) -> Markup:
    """Render the first steps, for a collection without pages. `local`: every server runs on this machine."""
    return render_template("search/welcome.html", local=local)


def render_model(info: ModelInfo, name: str = "") -> Markup:
    """Render the model that ranks the pages: its name, and the rest on demand. `name` is the server's, where there are
    several."""
    others = ", ".join(str(size) for size in sorted(info.dimensions) if size != info.dimension)
    rows = {
        "Server": name,
        "Model": f"{info.title} ({info.name})",
        "Dimensions": f"{info.dimension}" + (f"; can be reduced to {others}" if others else ""),
        "Fingerprint": info.fingerprint,
    }
    size = f"{info.dimension}-d"
    # Two servers may have the same model: then the end of the fingerprint is what differs.
    brief = [info.name, size, info.fingerprint.rpartition("-")[2][:6]] if name else [info.title, size]
    return render_template("header/model.html", brief=brief, rows=rows)


def render_no_model(why: str, *, bad: bool = True) -> Markup:
    """Render why the model is not known. `bad`: something is wrong, rather than not known yet."""
    return render_template("header/no_model.html", why=why, bad=bad)


def describe_place(page: StoredPage) -> str:
    """Return which page of its file it is, in words."""
    return f"page {page.page} of {page.pages}" if page.pages > 1 else "1 page"


def scale_bars(scores: Sequence[float]) -> list[int]:
    """Return percentages from the weakest hit (12) to the best (100): cosines of one model lie close together."""
    if not scores:
        return []
    low, high = min(scores), max(scores)
    return [100 if high == low else round(12 + 88 * (score - low) / (high - low)) for score in scores]


def describe_move(hit: Hit, was: Mapping[str, int]) -> str:
    """Return where a page was before, if that was another place; `was` has page ids and ranks."""
    before = was.get(hit.page.id)
    if not was or before == hit.rank:
        return ""
    return f"was {format_ordinal(before)}" if before else f"was behind the {format_ordinal(len(was))}"


@dataclass(frozen=True)
class Card:
    """One page found, as the gallery shows it. `bar` in percent."""

    hit: Hit
    bar: int
    where: str
    moved: str

    @property
    def label(self) -> str:
        words = f"Rank {self.hit.rank}: {self.hit.page.file}, {self.where}, score {self.hit.score:.3f}"
        return f"{words}, {self.moved}" if self.moved else words


def render_gallery(hits: Sequence[Hit], was: Mapping[str, int] = NO_RANKS) -> Markup:
    """Render the pages found as cards, best first. `was`: their ranks by another number of dimensions."""
    widths = scale_bars([hit.score for hit in hits])
    cards = [
        Card(hit, width, describe_place(hit.page), describe_move(hit, was))
        for hit, width in zip(hits, widths, strict=True)
    ]
    return render_template("search/gallery.html", cards=cards)


def render_summary(
    hits: Sequence[Hit], collection: Collection, timings: dict[str, float], hidden: int = 0, like: str = "",
    *, ranked: int | None = None, dimension: int | None = None, was: Mapping[str, int] = NO_RANKS,
) -> Markup:  # fmt: skip
    """Render the line above the pages found.

    `hidden`: pages below the minimum score. `like`: what the pages are like, if that was asked. `ranked`: pages that a
    filter left. `was`: ranks by another number of dimensions.
    """
    passing = "" if ranked is None else f"{ranked:,} that pass the filter, of "
    below = f", {hidden} hidden below the minimum" if hidden else ""
    figures = [f"{name} {value:.0f} ms" for name, value in timings.items()]
    if dimension:
        figures.append(f"compared by {dimension:,} dimensions")
    if was:
        changed = sum(bool(describe_move(hit, was)) for hit in hits)
        figures.append(f"{format_count(changed, 'page') if changed else 'no page'} changed places")
    return render_template(
        "search/summary.html", found=format_count(len(hits), "page") + (f" like {like}" if like else ""),
        among=f"{passing}{collection.pages:,}{below}", collection=collection.name, figures=figures,
    )  # fmt: skip


def render_notice(title: str, text: str = "", kind: str = "info") -> Markup:
    return render_template("notice.html", title=title, text=text, kind=kind)


def render_detail(hit: Hit, lines: Sequence[Line], *, over: Markup = NOTHING, told: Markup = NOTHING) -> Markup:
    """Render one page in full, with the line that answers marked on it.

    `over`: what else is drawn on it, `told`: what is said of it.
    """
    return render_template(
        "search/detail.html", hit=hit, lines=lines, where=describe_place(hit.page), mark=style_mark(hit.line), over=over,
        told=told, why_no_text=WHY_NO_TEXT,
    )  # fmt: skip


def style_mark(line: Line | None) -> str:
    """Return the place of the answering line on its page as CSS, a little larger than its box."""
    if line is None or line.box is None:
        return ""
    x0, y0, x1, y1 = line.box
    left, top = max(0.0, x0 - 0.008), max(0.0, y0 - 0.004)
    width, height = min(1.0, x1 + 0.008) - left, min(1.0, y1 + 0.004) - top
    return f"left:{left:.2%};top:{top:.2%};width:{width:.2%};height:{height:.2%}"


def render_chips(queries: Sequence[str]) -> Markup:
    return render_template("search/chips.html", queries=queries)


def render_files(found: Sequence[StoredFile], collection: Collection) -> Markup:
    return render_template("pages/files.html", files=found, pages=collection.pages)


def render_jobs(jobs: Sequence[Job]) -> Markup:
    return NOTHING.join(render_job(job) for job in jobs)


def render_job(job: Job) -> Markup:
    with job.lock:
        added, skipped, unread = len(job.added), list(job.skipped), list(job.unread)
    if not job.finished.is_set():
        return render_running_job(job) + render_skipped(skipped)
    if job.state == "failed":
        kept = f" {format_count(added, 'page')} added before that are kept." if added else ""
        return render_notice("The pages could not be added", job.error + "." * (job.error[-1:] != ".") + kept, "error")
    if not added and skipped and job.state == "done":
        text, unread = "Nothing new to add", []
    else:
        took = f"in {job.seconds:.0f} s" if job.seconds >= 1 else "at once"
        rate = f" · {job.pages_per_minute:.0f} pages/min" if added > 1 else ""
        text = f"{format_count(added, 'page')} added {took}{rate}"
        if job.state == "cancelled":
            text = f"Cancelled. {text}; what was added is kept"
    return render_template(
        "pages/ended.html", text=text, unread=len(unread), why_no_text=WHY_NO_TEXT, skipped=render_skipped(skipped)
    )


def render_running_job(job: Job) -> Markup:
    if job.state == "waiting":
        return render_progress("Waiting for the upload before this one…")
    left, total = job.seconds_left, max(job.total, 1)
    rate = f" · {job.pages_per_minute:.0f} pages/min" if job.added else ""
    rest = f" · about {max(1, round(left))} s left" if left is not None else ""
    stopping = "Cancelling… " if job.cancelled.is_set() else ""
    words = f"{stopping}Page {min(job.done + 1, total)} of {job.total}"
    return render_progress(words, job.done, total, "Pages added", rate + rest)


def render_step(doing: str, done: int, total: int) -> Markup:
    """Render the progress of a task; `total` is 0 as long as nobody knows it."""
    words = f"{doing}: page {done:,} of {total:,}" if total else f"{doing}…"
    return render_progress(words, done, total, doing)


def render_progress(words: str, done: int = 0, total: int = 0, label: str = "", rate: str | None = None) -> Markup:
    return render_template("pages/running.html", words=words, done=done, total=total, label=label, rate=rate)


def render_skipped(skipped: Sequence[Skipped]) -> Markup:
    known = [item for item in skipped if item.known]
    bad = [item for item in skipped if not item.known]
    return render_template("pages/skipped.html", bad=bad, known=known, most=LISTED)
