"""The sample pages and the questions about them that the page offers."""

from __future__ import annotations

import json

from serving.documents.files import open_file
from serving.documents.parser_pool import Parse
from serving.settings import Settings
from ui.core.sample_pages import SAMPLE_FOLDER, SAMPLE_PAGES, list_sample_files, pick_sample_questions


def test_the_files_have_as_many_pages_as_the_page_says(settings: Settings, parse: Parse) -> None:
    files = list_sample_files()
    assert files == sorted(files) and {path.suffix for path in files}.isdisjoint({".json", ".md"})
    assert sum(open_file(path, settings, parse).count for path in files) == SAMPLE_PAGES


def test_a_few_short_questions_of_each_kind() -> None:
    picked = pick_sample_questions()
    kinds = {one["query"]: one["kind"] for one in json.loads((SAMPLE_FOLDER / "queries.json").read_text())["queries"]}
    assert [kinds[question] for question in picked] == ["paraphrase"] * 3 + ["language"] * 2 + ["keyword"]
    assert len(set(picked)) == 6 and all(12 <= len(question) <= 48 for question in picked)
