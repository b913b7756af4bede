"""The report: one page that loads nothing, in which every text from a file is text."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.coldstart.report import render_comparison, render_page
from tests.support.cold_start_results import every_kind, made, sample, written

ROOT = Path(__file__).parents[3]
MARKUP = "</script><img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text.append(data)


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


@pytest.fixture(scope="module")
def page() -> str:
    return render_page([made()], "Cold starts of November")


def test_it_loads_nothing(page: str) -> None:
    tags = parsed(page)
    assert not [tag for tag, attributes in tags.found if "src" in attributes or "href" in attributes]
    assert {"link", "iframe", "object", "img", "base"}.isdisjoint(tag for tag, _ in tags.found)
    policy = next(a["content"] for _, a in tags.found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and "default-src 'none'" in policy
    style = "".join(re.findall(r"<style>.*?</style>", page, re.DOTALL))
    assert "url(" not in style and "@import" not in style
    assert page.count("* plotly.js v") == 1


def test_it_tells_what_was_measured(page: str) -> None:
    tags = parsed(page)
    words = " ".join(" ".join(tags.text).split())
    assert "restored 9.1x faster than plain (95 % " in words
    assert re.search(r"Stored run, not live: measured 20\d\d-\d\d-\d\d \d\d:\d\d UTC on .+, \d+ cores", words)
    assert "6 verified cold, 3 not, 1 made the snapshot (not counted); outcomes: not_scaled_down 1, ok" in words
    assert re.search(r"\(not counted\); outcomes: [^;]+; \d+ failed tries before an answer", words)
    assert "the engine of builtin criu" in words
    rows = re.findall(r'<tr><th scope="row">(\w+)</th><td>(\d+)</td><td>([\d.,]+)</td>', page)
    assert rows == [("plain", "3", "1,000"), ("restored", "3", "110.0"), ("warm", "4", "10.5")]
    assert page.count('class="weak"') == 6
    assert len([tag for tag, _ in tags.found if tag == "figure"]) == 3
    assert "prefers-color-scheme: dark" in page


def test_enough_samples_are_not_marked_weak() -> None:
    page = render_page([made([sample(n, "plain", 100.0 + n) for n in range(100)])], "x")
    assert 'class="weak"' not in page


def test_markup_in_a_file_is_text(tmp_path: Path) -> None:
    hostile = [
        sample(n, kind, 100.0, target=MARKUP, why_not=MARKUP if kind == "created" else "")
        for n, kind in enumerate(("plain", "restored", "created", "plain"), 1)
    ]
    results = [made(hostile, MARKUP, cpu=MARKUP), made(hostile, MARKUP, cpu="other", gpu=MARKUP)]
    tags = parsed(render_page(results, MARKUP))
    assert "img" not in {tag for tag, _ in tags.found}
    assert not [attributes for _, attributes in tags.found if "onerror" in attributes]
    assert "".join(tags.text).count(MARKUP) > 5


@pytest.mark.parametrize("samples", [[], every_kind()[-2:]])
def test_a_page_of_nothing_says_so(samples: list[object]) -> None:
    page = render_page([made(samples)], "x")  # type: ignore[arg-type]
    assert "no sample that counts" in page
    assert "cannot be compared" in page


def test_what_was_never_cold_or_stopped_is_told() -> None:
    found = made([sample(1, "plain", 5.0, verified=False, why_not="the same process answered before")])
    page = render_page([found.model_copy(update={"complete": False})], "x")
    assert "never verified cold in 1 tries" in page
    assert "stopped before its plan was done" in page


def test_compare() -> None:
    half = [
        sample(one.number, "restored", one.client_ms / 2)
        for one in every_kind()
        if one.counts_as_cold and one.client_ms < 200
    ]
    lines = render_comparison(made(), made(half, "other\x1b[2J")).splitlines()
    assert lines[0].startswith("A: builtin, 20") and lines[0].endswith(", restored as builtin criu")
    assert lines[1].startswith("B: other?[2J, ")
    plain, restored, warm = (line.split() for line in lines[3:6])
    assert plain == ["plain", "1,000", "3", "–", "0", "–"]
    assert restored[:6] == ["restored", "110.0", "3", "55.0", "3", "2.00x"]
    assert warm == ["warm", "10.5", "4", "–", "0", "–"]
    assert len(lines) == 6


@pytest.mark.parametrize("other", [{"cpu": "Another"}, {"cores": 999}, {"gpu": "NVIDIA H200, 143771 MiB, 580.159.04"}])
def test_compare_warns_of_another_machine(other: dict[str, object]) -> None:
    last = render_comparison(made(), made(**other)).splitlines()[-1]  # type: ignore[arg-type]
    assert last.startswith("warning: the machines differ (")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = written(tmp_path), tmp_path / "new" / "page.html"
    assert main(["report", str(file), "--out", str(out), "--title", "A & B", "--compare", str(file), str(file)]) == 0
    assert "<title>A &amp; B</title>" in out.read_text(encoding="utf-8")
    said = capsys.readouterr().out
    assert "A over B (95 %)" in said and f"written to {out}" in said


def test_compare_at_the_top_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a process of its own, as a person calls it."""
    file = str(written(tmp_path))
    assert main(["report", "--compare", file, file]) == 0
    expected = capsys.readouterr().out
    command = [sys.executable, "-m", "bench", "--compare", file]
    found = subprocess.run([*command, file], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout) == (0, expected) and expected.count("\n") == 6
    gone = subprocess.run([*command, "none.json"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert gone.returncode == 1 and "none.json" in gone.stderr and "Traceback" not in gone.stderr


def test_command_refuses_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = written(tmp_path), tmp_path / "page.html"
    cut = tmp_path / "cut.json"
    cut.write_text(file.read_text()[:-9])
    before = file.read_bytes()
    for words, why in (
        ([], "name a result file"),
        ([str(cut)], "is not a whole JSON file"),
        ([str(file), str(cut)], "is not a whole JSON file"),
        ([str(tmp_path / "none.json")], "No such file"),
        (["--compare", str(file), str(cut)], "is not a whole JSON file"),
    ):
        assert main(["report", *words, "--out", str(out)]) == 1
        assert why in capsys.readouterr().err
    assert main(["report", str(file), "--out", str(file)]) == 1
    assert file.read_bytes() == before
    assert not out.exists()
