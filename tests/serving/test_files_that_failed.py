"""Files of kinds that users of such tools report as broken: each is the first hit for what is written on it.

They are no part of the repository. `DORMOUSE_CASES` names their folder, whose `cases.json` has the questions; without
it, they are looked for beside the repository.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.documents.archives import is_zip, unpack_members
from serving.documents.files import open_file
from serving.documents.page import Page
from serving.documents.parser_pool import ParserPool
from serving.embedders.base import PageResult
from serving.embedders.builtin.embedder import BuiltinEmbedder
from serving.library.search import LINE_WEIGHT
from serving.settings import Settings
from tests.support.repository import ROOT

CASES = Path(os.environ.get("DORMOUSE_CASES") or ROOT.parent / "shared" / "cases")
FOUND: dict[str, Any] = json.loads((CASES / "cases.json").read_text()) if (CASES / "cases.json").is_file() else {}
QUESTIONS: dict[str, list[str]] = FOUND.get("questions", {})
NOTES: list[list[str]] = FOUND.get("delivery_notes", [])

pytestmark = pytest.mark.skipif(not FOUND, reason=f"there is no {CASES / 'cases.json'}")


class Corpus:
    """Embeds files as a worker does, whose limits a page keeps."""

    def __init__(self, settings: Settings, parsers: ParserPool) -> None:
        self.settings, self.parsers = settings, parsers
        self.embedder = BuiltinEmbedder(settings)
        self.embedder.load()
        self.others = self.embed(CASES / "other_pages.pdf")

    def embed(self, path: Path) -> list[PageResult]:
        if is_zip(path):
            members = unpack_members(path, self.settings.data, self.settings)
            return [
                result for member in members if isinstance(member.found, Path) for result in self.embed(member.found)
            ]
        pages = list(open_file(path, self.settings, self.parsers.run))
        assert all(isinstance(page, Page) for page in pages), pages
        return self.embedder.embed_pages([replace(page, explain=True) for page in pages if isinstance(page, Page)])

    def score(self, question: str, pages: list[PageResult]) -> list[float]:
        """As the library ranks them."""
        (query,) = self.embedder.embed_queries([question])
        scores = []
        for page in pages:
            lines = page.line_vectors
            best = float((lines @ query).max()) if lines is not None and len(lines) else float(page.vector @ query)
            scores.append((1 - LINE_WEIGHT) * float(page.vector @ query) + LINE_WEIGHT * best)
        return scores


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    settings = Settings(data=tmp_path_factory.mktemp("cases"))
    with ParserPool(settings) as parsers:
        yield Corpus(settings, parsers)


@pytest.mark.parametrize("name", QUESTIONS)
def test_each_question_finds_its_file(corpus: Corpus, name: str) -> None:
    pages = corpus.embed(CASES / name)
    for question in QUESTIONS[name]:
        assert max(corpus.score(question, pages)) > max(corpus.score(question, corpus.others)), question


@pytest.mark.parametrize("layout", ["stacked", "inline"])
def test_a_bare_number_finds_its_delivery_note(corpus: Corpus, layout: str) -> None:
    """119 of 120, as measured."""
    pages = corpus.embed(CASES / f"delivery_notes_{layout}.pdf")
    first = [
        int(np.argmax(corpus.score(number, pages))) == note for note, numbers in enumerate(NOTES) for number in numbers
    ]
    assert len(first) == 120 and sum(first) >= 119
