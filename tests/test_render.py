from __future__ import annotations

from serving.client import EmbeddingClient, ModelInfo
from serving.names import shown_name
from serving.pages import Line
from serving.records import Collection, Hit, StoredFile, StoredPage
from ui import render
from ui.ingest import Job, Skipped
from ui.targets import Target

NOWHERE = Target(EmbeddingClient("http://127.0.0.1:9"))
NASTY = '<img src=x onerror=alert(1)>".png'


def hit(rank: int = 1, score: float = 0.5, line: Line | None = None, **values: object) -> Hit:
    fields: dict[str, object] = {
        "id": "0123456789abcdef", "collection": "c", "file": NASTY, "page": 2, "pages": 6, "width": 100, "height": 200,
        "read": True,
    }  # fmt: skip
    return Hit(rank, score, StoredPage(**{**fields, **values}), line)  # type: ignore[arg-type]


def test_nothing_of_a_user_is_markup() -> None:
    job = Job("c", [], NOWHERE)
    job.skipped.append(Skipped(NASTY, NASTY))
    job.finished.set()
    job.state = "done"
    line = Line(NASTY, (0, 0, 1, 1))
    collection = Collection(NASTY, 1, "f", "m", 2)
    failed = Job("c", [], NOWHERE, state="failed", error=NASTY)
    failed.finished.set()
    for html in (
        render.gallery([hit(line=line)]),
        render.detail(hit(line=line), [line, Line("other")]),
        render.summary([hit()], collection, {"embed": 1.0}),
        render.files([StoredFile(NASTY, "s", 1)], collection),
        render.progress([job]),
        render.progress([failed]),
        render.chips([NASTY]),
        render.notice(NASTY, NASTY),
        render.model(ModelInfo(NASTY, NASTY, 2, (1, 2), False, NASTY), NASTY),
        render.no_model(NASTY),
    ):
        assert "<img src=x" not in html and 'onerror=alert(1)>"' not in html
        assert "&lt;img" in html


def test_bars_are_relative_to_the_result_set() -> None:
    assert render.bars([0.9, 0.8, 0.7]) == [100, 56, 12]
    assert render.bars([0.5]) == [100] and render.bars([0.5, 0.5]) == [100, 100] and render.bars([]) == []


def test_detail_marks_the_line_on_the_page() -> None:
    answer = Line("answer", (0.1, 0.2, 0.5, 0.25))
    html = render.detail(hit(line=answer), [answer])
    assert 'class="mark" style="left:9.20%;top:19.60%;width:41.60%;height:5.80%"' in html
    assert "page 2 of 6" in html and "aspect-ratio:100/200" in html
    assert 'class="mark"' not in render.detail(hit(line=Line("no box")), [Line("no box")])
    assert "No text could be read" in render.detail(hit(), [])
    assert "No text could be read" not in render.detail(hit(read=False), [])


def test_progress_of_a_job() -> None:
    job = Job("c", [], NOWHERE)
    assert "Waiting for the upload" in render.progress([job])
    job.state, job.total, job.done, job.began = "running", 10, 4, 1.0
    assert "Page 5 of 10" in render.progress([job]) and 'value="4"' in render.progress([job])
    job.cancelled.set()
    assert "Cancelling" in render.progress([job])
    job.state, job.ended = "cancelled", 3.0
    job.finished.set()
    assert "what was added is kept" in render.progress([job])
    assert render.progress([]) == ""


def test_shown_names() -> None:
    assert shown_name("../../etc/passwd") == "passwd" and shown_name("C:\\x::$DATA") == "x::$DATA"
    assert shown_name("a\u202egpj.exe") == "a gpj.exe" and shown_name("..") == "unnamed" and shown_name("") == "unnamed"
    assert len(shown_name("x" * 300)) == 255 and shown_name("Rechnung (März) #1.pdf") == "Rechnung (März) #1.pdf"


def test_welcome_says_where_pages_go() -> None:
    assert "stays on this machine" in render.welcome(True) and "stays on this machine" not in render.welcome(False)
    assert "{" not in render.welcome(True) + render.welcome(False)
