from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from serving.client import EmbeddingClient, ModelInfo
from serving.documents.page import Line
from serving.library.records import Collection, StoredFile
from serving.system.display_names import display_name
from tests.support.hits import NASTY, hit, opened
from ui.access.uploads import Upload
from ui.components import results
from ui.components.templates import render_template
from ui.core.jobs import IngestJob, SkippedFile
from ui.core.service import SearchResult
from ui.search.file_list import ListView, render_files
from ui.servers.target import Target

NOWHERE = Target(EmbeddingClient("http://127.0.0.1:9"))


def test_nothing_of_a_user_is_markup() -> None:
    job = IngestJob("c", [], NOWHERE)
    job.skipped.append(SkippedFile(NASTY, NASTY))
    job.finished.set()
    job.state = "done"
    line = Line(NASTY, (0, 0, 1, 1))
    collection = Collection(NASTY, 1, "f", "m", 2)
    failed = IngestJob("c", [], NOWHERE, state="failed", error=NASTY)
    failed.finished.set()
    found = SearchResult([hit()], [], 1, 1, np.zeros(2, np.float32), "f", {"embed": 1.0})
    for html in (
        results.render_gallery([hit(line=line)]),
        results.render_detail(opened(hit(line=line), line, Line("other"))),
        results.render_summary(found, collection, NASTY, filtered=True, dimension=1, was={}),
        render_files("c", [StoredFile(NASTY, "s", 1, 1)], 1, ListView(find=NASTY)),
        results.render_jobs([job]),
        results.render_jobs([failed]),
        render_template("search/chips.html", queries=[NASTY]),
        results.render_notice(NASTY, NASTY),
        results.render_model(ModelInfo(NASTY, NASTY, 2, (1, 2), False, NASTY, (NASTY,)), NASTY),
        render_template("header/no_model.html", why=NASTY, bad=True),
    ):
        assert "<img src=x" not in html and 'onerror=alert(1)>"' not in html
        assert "&lt;img" in html


def test_the_models_panel_says_which_scripts_are_read_and_how_to_add_one() -> None:
    info = ModelInfo("m", "M", 2, (2,), True, "f", ("Latin", "Cyrillic"))
    panel = results.render_model(info)
    assert "Latin, Cyrillic." in panel and "apt install tesseract-ocr-rus" in panel
    assert "tesseract" not in results.render_model(ModelInfo("m", "M", 2, (2,), False, "f"))


def test_a_page_leads_to_its_original_where_that_was_kept() -> None:
    assert results.locate_original(hit().page) == "" and "the original" not in results.render_detail(opened())
    shown = results.render_detail(opened(original="pdf"))
    assert 'href="/originals/0123456789abcdef#page=2" target="_blank" rel="noopener">Open the original</a>' in shown
    saved = results.render_detail(opened(original="file"))
    assert 'href="/originals/0123456789abcdef" target="_blank" rel="noopener">Save the original</a>' in saved


def test_bars_are_relative_to_the_result_set() -> None:
    assert results.scale_bars([0.9, 0.8, 0.7]) == [100, 56, 12]
    assert (
        results.scale_bars([0.5]) == [100]
        and results.scale_bars([0.5, 0.5]) == [100, 100]
        and results.scale_bars([]) == []
    )


def test_detail_marks_the_line_on_the_page() -> None:
    answer = Line("answer", (0.1, 0.2, 0.5, 0.25))
    html = results.render_detail(opened(hit(line=answer), answer))
    assert 'class="mark" style="left:9.20%;top:19.60%;width:41.60%;height:5.80%"' in html
    assert "page 2 of 6" in html and "aspect-ratio:100/200" in html
    assert 'class="mark"' not in results.render_detail(opened(hit(line=Line("no box")), Line("no box")))
    assert "No text could be read" in results.render_detail(opened())
    assert "No text could be read" not in results.render_detail(opened(read=False))


def test_progress_of_a_job() -> None:
    job = IngestJob("c", [], NOWHERE)
    assert "Waiting for its turn" in results.render_jobs([job])
    job.state, job.total, job.done, job.seconds_left = "running", 10, 4, 250
    assert "Page 5 of 10" in results.render_jobs([job]) and 'value="4"' in results.render_jobs([job])
    assert "about 4 min left" in results.render_jobs([job]) and "restart" not in results.render_jobs([job])
    job.state, job.continued = "paused", True
    assert "Paused: 4 of 10 pages" in results.render_jobs([job])
    assert "continued after a restart" in results.render_jobs([job])
    other = IngestJob("c", [Upload(Path("a"), NASTY), Upload(Path("b"), "b.png")], NOWHERE, state="paused")
    assert "and 1 more: paused: 0 of 0 pages" in results.render_jobs([job, other])
    assert "<img src=x" not in results.render_jobs([job, other])
    job.state = "running"
    job.cancelled.set()
    assert "Cancelling" in results.render_jobs([job])
    job.state = "cancelled"
    job.finished.set()
    assert "what was added is kept" in results.render_jobs([job])
    job.state, job.keep_until = "done", time.time() + 24 * 3600
    assert "The files are kept for 24 h more, to try again." in results.render_jobs([job])
    assert results.render_jobs([]) == ""


def test_shown_names() -> None:
    assert display_name("../../etc/passwd") == "passwd" and display_name("C:\\x::$DATA") == "x::$DATA"
    assert (
        display_name("a\u202egpj.exe") == "a gpj.exe"
        and display_name("..") == "unnamed"
        and display_name("") == "unnamed"
    )
    assert len(display_name("x" * 300)) == 255 and display_name("Rechnung (März) #1.pdf") == "Rechnung (März) #1.pdf"


def test_welcome_says_where_pages_go() -> None:
    here, elsewhere = (render_template("search/welcome.html", local=local) for local in (True, False))
    assert "stays on this machine" in here and "stays on this machine" not in elsewhere
    assert "{" not in here + elsewhere
