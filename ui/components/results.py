"""HTML of what is found, added and listed. Pure functions; every text that is not ours is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from serving.client import ModelInfo
from serving.documents.page import Line
from serving.library.records import Collection, Hit, StoredFile, StoredPage
from ui.core.ingest import Job, Skipped

WHY_NO_TEXT = (
    "it may have none, or be in a script that the built-in embedder does not read"
    " (it reads Latin, Chinese and Japanese)"
)
NO_TEXT = f"No text could be read on this page: {WHY_NO_TEXT}."


NO_RANKS: Mapping[str, int] = {}
WELCOME = """<div class="welcome"><ol>
<li><b>Add pages</b><p>Drop in images and PDFs: scans, slides, photographed receipts. Or load the sample pages.</p></li>
<li><b>Ask</b><p>In words, in your own language. The pages may be in another one.</p></li>
<li><b>See the answer</b><p>Pages come ranked, with the line that answers marked on the page.</p></li>
</ol><small>{where}</small><button type="button" class="plain" data-known>Got it</button></div>
<p class="back">No pages here yet: drop some in, or load the sample pages.</p>"""
"""The steps are for who has not been here before; `keys.js` remembers in the browser who has."""
HERE = "Everything stays on this machine."
THERE = "What you add and ask is kept here, and goes to the server that embeds it and nowhere else."


def welcome(local: bool) -> str:
    """`local`: every server runs on this machine."""
    return WELCOME.replace("{where}", HERE if local else THERE)


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def megabytes(size: int) -> str:
    if size < 1e6:
        return f"{size / 1e3:.0f} kB"
    return f"{size / 1e6:.{1 if size < 1e8 else 0}f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


HEADER = (
    '<header class="masthead"><h1>Dormouse</h1><p>Drop in pages, ask in words, get the pages that answer.</p></header>'
)
STARTING = '<span class="chip">embedder is starting…</span>'


def model(info: ModelInfo, name: str = "") -> str:
    """What ranks the pages, in a line; all of it on demand. `name` is the server's, where there are several."""
    others = ", ".join(str(size) for size in sorted(info.dimensions) if size != info.dimension)
    rows = {
        "Server": name,
        "Model": f"{info.title} ({info.name})",
        "Numbers a page": f"{info.dimension}" + (f"; can be cut to {others}" if others else ""),
        "Fingerprint": info.fingerprint,
    }
    listed = "".join(f"<dt>{label}</dt><dd>{escape(text)}</dd>" for label, text in rows.items() if text)
    size = f"{info.dimension}-d"
    # Two servers may have the same model: then the end of the fingerprint is what differs.
    brief = [info.name, size, info.fingerprint.rpartition("-")[2][:6]] if name else [info.title, size]
    return (
        '<details class="model"><summary class="chip" title="The model that ranks your pages">'
        f"{escape(' · '.join(brief))}</summary>"
        f'<div class="model-panel"><dl>{listed}</dl><p>A collection holds pages of one fingerprint, or of fingerprints'
        " that <code>python -m bench parity</code> has shown to be equal.</p></div></details>"
    )


def no_model(why: str, *, bad: bool = True) -> str:
    """`bad`: something is wrong, rather than not known yet."""
    return (
        f'<details class="model"><summary class="chip{" bad" * bad}" title="The model that ranks your pages">'
        f"model not known{' yet' * (not bad)}</summary>"
        f'<div class="model-panel"><p>{escape(why)}</p></div></details>'
    )


def where(page: StoredPage) -> str:
    return f"page {page.page} of {page.pages}" if page.pages > 1 else "1 page"


def bars(scores: Sequence[float]) -> list[int]:
    """Widths in percent, from the weakest hit (12) to the best (100): cosines of one model lie close together."""
    if not scores:
        return []
    low, high = min(scores), max(scores)
    return [100 if high == low else round(12 + 88 * (score - low) / (high - low)) for score in scores]


def ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def moved(hit: Hit, was: Mapping[str, int]) -> str:
    """Where a page was before, if that was another place; `was` has page ids and ranks."""
    before = was.get(hit.page.id)
    if not was or before == hit.rank:
        return ""
    return f"was {ordinal(before)}" if before else f"was behind the {ordinal(len(was))}"


def gallery(hits: Sequence[Hit], was: Mapping[str, int] = NO_RANKS) -> str:
    cards = []
    for hit, width in zip(hits, bars([hit.score for hit in hits]), strict=True):
        page, name, before = hit.page, escape(hit.page.file, quote=True), moved(hit, was)
        cards.append(
            f'<li><button type="button" class="hit" data-page="{page.id}" title="{name}"'
            f' aria-label="Rank {hit.rank}: {name}, {where(page)}, score {hit.score:.3f}{", " * bool(before)}{before}">'
            f'<span class="frame"><img src="/pages/{page.id}.webp" loading="lazy" alt=""'
            f' width="{page.width}" height="{page.height}"></span>'
            f'<span class="score"><b>#{hit.rank}</b><span class="bar"><i style="width:{width}%"></i></span>'
            f"<span>{hit.score:.3f}</span></span>"
            f'<span class="name">{name}</span><span class="sub">{where(page)}</span>'
            f"{f'<span class=was>{before}</span>' if before else ''}{snippet(hit.line)}</button></li>"
        )
    return f'<ol class="hits">{"".join(cards)}</ol>' if cards else ""


def snippet(line: Line | None) -> str:
    return "" if line is None else f'<span class="line">{escape(line.text)}</span>'


def summary(
    hits: Sequence[Hit], collection: Collection, timings: dict[str, float], hidden: int = 0, like: str = "",
    *, ranked: int | None = None, dimension: int | None = None, was: Mapping[str, int] = NO_RANKS,
) -> str:  # fmt: skip
    """`hidden`: pages below the minimum score. `like`: what the pages are like, if that was asked. `ranked`: pages that
    a filter left. `was`: ranks by another number of dimensions."""
    below = f", {hidden} below the minimum hidden" if hidden else ""
    asked = f" like {escape(like)}" if like else ""
    passing = "" if ranked is None else f" {ranked:,} that pass the filter, of"
    by = f" · by {dimension:,} numbers of each vector" if dimension else ""
    if was:
        changed = sum(bool(moved(hit, was)) for hit in hits)
        by += f" · {plural(changed, 'page')} changed places" if changed else " · no page changed places"
    took = " · ".join(f"{name} {value:.0f} ms" for name, value in timings.items())
    return (
        f'<p class="summary" role="status"><b>{plural(len(hits), "page")}{asked}</b> of{passing}'
        f" {collection.pages:,}{below} in “{escape(collection.name)}” · {took}{by}<br>"
        "<small>Scores rank the pages of one search; they are no"
        " percentages. Bars run from the weakest hit shown to the best.</small></p>"
    )


def notice(title: str, text: str = "", kind: str = "info") -> str:
    role = "alert" if kind == "error" else "status"
    return f'<div class="notice {kind}" role="{role}"><b>{escape(title)}</b><p>{escape(text)}</p></div>'


def detail(hit: Hit, lines: Sequence[Line], *, over: str = "", told: str = "") -> str:
    """One page in full, with the line that answers marked on it.

    `over`: what else is drawn on it, `told`: what is said of it, both HTML.
    """
    page, name = hit.page, escape(hit.page.file, quote=True)
    found = ""
    if hit.line is not None:
        found = f'<p class="answer"><small>The line nearest to your question</small>{escape(hit.line.text)}</p>'
    elif page.read and not lines:
        found = f'<p class="answer"><small>{NO_TEXT}</small></p>'
    text = "".join(f"<p{' class=is-answer' if line == hit.line else ''}>{escape(line.text)}</p>" for line in lines)
    return (
        f'<article class="detail" aria-label="Page in full"><header><h2>{name}</h2>'
        f"<p>#{hit.rank} · {where(page)} · score {hit.score:.3f}</p></header>{found}{told}"
        f'<a class="sheet" href="/pages/{page.id}.jpg" target="_blank" rel="noopener" title="Open at full size"'
        f' style="aspect-ratio:{page.width}/{page.height}"><img src="/pages/{page.id}.jpg"'
        f' alt="{name}, {where(page)}">{mark(hit.line)}{over}</a>'
        + (f'<details class="text"><summary>Text of this page</summary>{text}</details>' if lines else "")
        + f'<div class="acts"><button type="button" class="plain" data-like="{page.id}">More like this</button>'
        + confirm("Delete this page", "Yes, delete it", f'data-delete="{page.id}"')
        + "</div></article>"
    )


def mark(line: Line | None) -> str:
    """The answering line drawn on the page, a little larger than its box."""
    if line is None or line.box is None:
        return ""
    x0, y0, x1, y1 = line.box
    left, top = max(0.0, x0 - 0.008), max(0.0, y0 - 0.004)
    width, height = min(1.0, x1 + 0.008) - left, min(1.0, y1 + 0.004) - top
    return (
        f'<span class="mark" style="left:{left:.2%};top:{top:.2%};width:{width:.2%};height:{height:.2%}"'
        ' aria-hidden="true"></span>'
    )


def confirm(label: str, yes: str, action: str) -> str:
    """A button that asks once more before it acts."""
    return (
        f'<details class="confirm"><summary>{escape(label)}</summary>'
        f'<button type="button" class="danger" {action}>{escape(yes)}</button></details>'
    )


def chips(queries: Sequence[str]) -> str:
    if not queries:
        return ""
    buttons = "".join(
        f'<button type="button" data-query="{escape(query, quote=True)}">{escape(query)}</button>' for query in queries
    )
    return f'<div class="chips" role="group" aria-label="Example questions"><span>Try</span>{buttons}</div>'


def files(found: Sequence[StoredFile], collection: Collection) -> str:
    if not found:
        return '<p class="empty">No pages in this collection yet.</p>'
    rows = "".join(
        f'<li><span title="{escape(file.name, quote=True)}">{escape(file.name)}</span>'
        f"<small>{plural(file.pages, 'page')}</small>"
        + confirm("Delete", "Yes, delete", f'data-file="{file.sha256}"')
        + "</li>"
        for file in found
    )
    return (
        f'<details class="files"><summary>{plural(collection.pages, "page")} from {plural(len(found), "file")}'
        f"</summary><ul>{rows}</ul>"
        + confirm("Delete this collection", f"Yes, delete all {plural(collection.pages, 'page')}", "data-collection")
        + "</details>"
    )


def progress(jobs: Sequence[Job]) -> str:
    return "".join(job_state(job) for job in jobs)


def job_state(job: Job) -> str:
    with job.lock:
        added, skipped, unread = len(job.added), list(job.skipped), list(job.unread)
    if not job.finished.is_set():
        return running(job) + skipped_list(skipped)
    if job.state == "failed":
        kept = f" {plural(added, 'page')} added before that are kept." if added else ""
        return notice("The pages could not be added", job.error + "." * (job.error[-1:] != ".") + kept, "error")
    if not added and skipped and job.state == "done":
        return f'<div class="progress done" role="status"><b>Nothing new to add</b>{skipped_list(skipped)}</div>'
    took = f"in {job.seconds:.0f} s" if job.seconds >= 1 else "at once"
    text = f"{plural(added, 'page')} added {took}" + (f" · {job.pages_per_minute:.0f} pages/min" if added > 1 else "")
    if job.state == "cancelled":
        text = f"Cancelled. {text}; what was added is kept"
    blind = f"<p>{plural(len(unread), 'page')} without readable text: {WHY_NO_TEXT}.</p>" if unread else ""
    return f'<div class="progress done" role="status"><b>{text}</b>{blind}{skipped_list(skipped)}</div>'


def running(job: Job) -> str:
    if job.state == "waiting":
        return '<div class="progress" role="status"><b>Waiting for the upload before this one…</b></div>'
    left = job.seconds_left
    rate = f" · {job.pages_per_minute:.0f} pages/min" if job.added else ""
    rest = f" · about {max(1, round(left))} s left" if left is not None else ""
    stopping = "Cancelling… " if job.cancelled.is_set() else ""
    return (
        f'<div class="progress" role="status"><b>{stopping}Page {min(job.done + 1, max(job.total, 1))} of {job.total}'
        f"</b><span>{rate}{rest}</span>"
        f'<progress max="{max(job.total, 1)}" value="{job.done}" aria-label="Pages added"></progress></div>'
    )


def step(doing: str, done: int, total: int) -> str:
    """`total` is 0 as long as nobody knows it."""
    if not total:
        return f'<div class="progress" role="status"><b>{doing}…</b></div>'
    return (
        f'<div class="progress" role="status"><b>{doing}: page {done:,} of {total:,}</b>'
        f'<progress max="{total}" value="{done}" aria-label="{doing}"></progress></div>'
    )


LISTED = 100
"""Skipped files that are named: a folder of thousands is told of at each change."""


def skipped_list(skipped: Sequence[Skipped]) -> str:
    known = [item for item in skipped if item.known]
    bad = [item for item in skipped if not item.known]
    html = ""
    if bad:
        html += details(f"{plural(len(bad), 'file')} could not be read", bad, "skipped")
    if known:
        html += details(f"{plural(len(known), 'file')} here already", known, "known")
    return html


def details(title: str, items: Sequence[Skipped], kind: str) -> str:
    rows = "".join(f"<li><b>{escape(item.file)}</b>: {escape(item.reason)}</li>" for item in items[:LISTED])
    rows += f"<li>and {len(items) - LISTED:,} more</li>" if len(items) > LISTED else ""
    return f'<details class="{kind}"{" open" * (kind == "skipped")}><summary>{title}</summary><ul>{rows}</ul></details>'
