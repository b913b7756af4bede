"""The bench of the page: that it measures what it says, on few pages. How quick the page is, no test says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest

from bench.__main__ import main
from serving.documents.files import open_file
from serving.documents.parser_pool import Parse
from serving.settings import Settings
from ui.components import about
from ui.core import sample_pages

ROOT = Path(__file__).parents[3]
PAGES, QUESTIONS = 12, 2
TIMES = ("open", "enter_to_hits", "same_by_api", "hit_to_detail", "filter_to_hits")


@pytest.mark.browser
@pytest.mark.long
@pytest.mark.soak
@pytest.mark.timeout(300)
def test_few_pages_through_a_browser(tmp_path: Path) -> None:
    out = tmp_path / "page-builtin.json"
    words = f"page --pages {PAGES} --questions {QUESTIONS} --out {out}".split()
    with TemporaryDirectory() as scratch:  # a browser's sockets need a short path
        done = subprocess.run(
            [sys.executable, "-m", "bench", *words],
            cwd=ROOT, env={**os.environ, "TMPDIR": scratch}, capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert not list(Path(scratch).glob("dormouse-bench-*"))
    assert done.returncode == 0, done.stderr
    assert f"written to {out}" in done.stdout and "goal: p50 under 500 ms" in done.stdout
    run = orjson.loads(out.read_bytes())
    for name in TIMES:
        assert run[name]["n"] == len(run[name]["samples_ms"]) == QUESTIONS and min(run[name]["samples_ms"]) > 0, name
    phases = run["enter_to_hits"]["phases_p50_ms"]
    assert 0 < phases["sent"] < phases["answered"]
    assert 0 <= run["cores_busy_with_other_work"] < 1000
    assert run["right_page_first"] == {"n": QUESTIONS, "first": QUESTIONS}
    assert run["ingest"]["pages"] == PAGES and run["per_search"]["kb_p50"] > 0
    assert run["gallery"]["hits"] == run["gallery"]["loaded_at_end"] == PAGES
    assert run["uploads"]["sent"] == run["uploads"]["after_ingest"] and run["uploads"]["after_stop"]["files"] == 0
    if sys.platform == "linux":  # elsewhere a worker may not be restored, and is left out then
        assert run["enter_to_hits_asleep"]["n"] == QUESTIONS
        assert run["enter_to_hits_asleep"]["backend"] in ("criu", "fork")
    ((what, value, count, *_),) = about.list_measurements(tmp_path)
    assert what.startswith("from Enter") and count == str(QUESTIONS)
    assert value == f"{run['enter_to_hits']['p50_ms']:.0f} ms"


def test_the_page_says_how_many_sample_pages_there_are(tmp_path: Path, parse: Parse) -> None:
    found = [open_file(path, Settings(data=tmp_path), parse).count for path in sample_pages.list_sample_files()]
    assert sum(found) == sample_pages.SAMPLE_PAGES


@pytest.mark.parametrize("missing", ["playwright.sync_api", "reportlab.pdfgen.canvas"])
def test_what_is_not_installed_is_told(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["page", "--pages", "10", "--out", str(tmp_path / "page.json")]) == 1
    told = capsys.readouterr().err
    assert "make bench" in told and "dormouse-search[test]" in told and not (tmp_path / "page.json").exists()
