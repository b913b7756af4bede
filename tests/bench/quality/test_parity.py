"""`python -m bench parity`, over real sockets, on a corpus of a few pages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.__main__ import main
from bench.quality import parity
from serving.documents.page import Page
from serving.embedders.base import Vectors
from serving.library.fingerprints import Equivalence
from serving.library.library import Library
from tests.support.files import encoded, picture
from tests.support.postgres import PostgresServer
from tests.support.scripted import Scripted, unit
from tests.support.servers import make_settings, running


class Near(Scripted):
    """Another server of the same model: its vectors are off by about `off`."""

    fingerprint = "scripted-2"
    reads_text = False

    def __init__(self, off: float = 0.0, off_pages: float | None = None) -> None:
        super().__init__()
        self.off, self.off_pages = off, off if off_pages is None else off_pages

    def _vector(self, text: str, batch: list[str]) -> Vectors:
        off = self.off_pages if text.startswith("(") else self.off
        found = super()._vector(text, batch) + np.float32(off) * unit(f"off {text}", self.dimension)
        return np.asarray(found / np.linalg.norm(found), np.float32)

    @staticmethod
    def _describe(page: Page) -> str:
        return "(" + Scripted._describe(page)


class First(Near):
    fingerprint = "scripted-1"


class Blurred(Near):
    """Everything lands in nearly one place, as with weights that were never trained."""

    def _vector(self, text: str, batch: list[str]) -> Vectors:
        found = unit("one place", self.dimension) + np.float32(0.1) * super()._vector(text, batch)
        return np.asarray(found / np.linalg.norm(found), np.float32)


class BlurredFirst(Blurred):
    fingerprint = "scripted-1"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(5):
        (folder / f"{number}.png").write_bytes(encoded(picture((60 + number, 40))))
    queries = [{"query": f"query {n}", "kind": "k", "file": f"{n % 5}.png", "page": 1} for n in range(8)]
    (folder / "queries.json").write_text(json.dumps({"queries": [*queries, queries[0]]}))
    return folder


def run(folder: Path, corpus: Path, a: Scripted, b: Scripted, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit code and the result file."""
    out = folder / "result.json"
    with ExitStack() as stack:
        urls = [stack.enter_context(running(server, make_settings(folder / "w")))[0] for server in (a, b)]
        options = ["--a", urls[0], "--b", urls[1], "--corpus", str(corpus), "--data", str(folder), "--out", str(out)]
        code = main(["parity", *options, *more])
    return code, json.loads(out.read_text())


def shown(folder: Path) -> bool:
    return Equivalence(folder).are_equal("scripted-1", "scripted-2")


def test_equal_servers_are_recorded(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "SAY_S", 600.0)  # no progress is told, however slow this machine is
    code, found = run(tmp_path, corpus, First(), Near(1e-3))
    assert code == 0 and shown(tmp_path)
    assert found["kind"] == "parity" and found["schema_version"] == 1 and found["environment"]["cores"] >= 1
    assert found["equal"] is True and found["blurred"] is False
    assert (found["pages"]["n"], found["queries"]["n"]) == (5, 8), "a query that is there twice is asked once"
    assert 0.9999 < found["pages"]["min"] <= found["pages"]["median"] <= 1
    assert len(found["samples"]["queries"]) == 8 and min(found["samples"]["queries"]) == found["queries"]["min"]
    assert found["ranks"] == {"first": 1.0, "first_three": 1.0}
    assert found["a"]["fingerprint"] == "scripted-1" and found["b"]["apart"]["pages"]["max"] < 0.2
    said = capsys.readouterr()
    assert "may share a collection" in said.out and "pages" in said.out and "100.0%" in said.out and said.err == ""
    recorded = json.loads((tmp_path / "parity.json").read_text())["pairs"][0]
    assert recorded["fingerprints"] == ["scripted-1", "scripted-2"] and recorded["queries"] == found["queries"]
    assert recorded["threshold"] == {"pages": 0.999, "queries": 0.9999} and recorded["measured"][:2] == "20"


def test_servers_of_a_store_are_recorded_in_it(
    postgres: PostgresServer, tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = postgres.address(postgres.create_schema())
    monkeypatch.setenv("DORMOUSE_STORE", address)
    assert run(tmp_path, corpus, First(), Near(1e-3))[0] == 0 and not (tmp_path / "parity.json").exists()
    with closing(Library(tmp_path / "library", address=address)) as library:
        assert library.catalogue.are_comparable("scripted-1", "scripted-2")
        assert run(tmp_path, corpus, First(), Near(0.02))[0] == 1
        assert not library.catalogue.are_comparable("scripted-1", "scripted-2")


def test_what_differs_is_refused_and_withdraws_the_proof(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, corpus, First(), Near(0.0))[0] == 0 and shown(tmp_path)
    capsys.readouterr()
    # cosine 1 / sqrt(1 + off^2): 0.9998 for 0.02, enough for pages and not for queries
    code, found = run(tmp_path, corpus, First(), Near(0.02))
    said = capsys.readouterr()
    assert code == 1 and found["equal"] is False and not shown(tmp_path)
    assert "do not compute the same vectors" in said.err and "withdrawn" in said.out
    assert found["pages"]["min"] > 0.999 and found["queries"]["min"] < 0.9999
    assert run(tmp_path, corpus, First(), Near(0.02), "--threshold-queries", "0.999")[0] == 0 and shown(tmp_path)
    assert run(tmp_path, corpus, First(), Near(0.0, off_pages=0.2), "--no-record")[0] == 1 and shown(tmp_path)
    assert run(tmp_path, corpus, First(), Near(0.0, off_pages=0.2))[0] == 1 and not shown(tmp_path)


def test_weights_that_tell_nothing_apart_prove_nothing(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = run(tmp_path, corpus, BlurredFirst(), Blurred())
    assert code == 1 and found["blurred"] is True and found["equal"] is True and not shown(tmp_path)
    assert "cannot tell pages apart, this proves nothing" in capsys.readouterr().err
    assert run(tmp_path, corpus, First(), Near())[0] == 0
    assert run(tmp_path, corpus, BlurredFirst(), Blurred())[0] == 1 and shown(tmp_path), "nor do they disprove"


def test_one_server_twice_has_nothing_to_record(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, corpus, First(), First())[0] == 0
    assert "nothing to record" in capsys.readouterr().out and not (tmp_path / "parity.json").exists()


def test_lines_are_compared_where_both_compare_them(tmp_path: Path, corpus: Path) -> None:
    class Other(Scripted):
        fingerprint = "scripted-2"

    code, found = run(tmp_path, corpus, Scripted(), Other())
    assert code == 0 and found["lines"]["n"] == 5 and found["lines"]["min"] == pytest.approx(1)

    class Misread(Other):
        @staticmethod
        def _describe(page: Page) -> str:
            return Scripted._describe(page).replace("0", "O")

    code, found = run(tmp_path, corpus, Scripted(), Misread())
    assert code == 1 and found["lines"] is None and not shown(tmp_path)


def test_faults_are_told(tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Small(Near):
        dimension, dimensions = 768, (768,)

    def refused(a: Scripted, b: Scripted, *more: str) -> str:
        with pytest.raises(FileNotFoundError):
            run(tmp_path, corpus, a, b, *more)  # no result was written
        return capsys.readouterr().err

    assert "vectors of 768 and 2560 numbers cannot be compared" in refused(First(), Small())
    broken = Near()
    broken.nan = True
    assert "not finite" in refused(First(), broken)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "queries.json").write_text('{"queries": []}')
    assert "two of each are the least" in refused(First(), Near(), "--corpus", str(empty))
    for bad in ("0", "1.1", "nan", "x"):
        with pytest.raises(SystemExit):
            main(["parity", "--a", "http://x", "--b", "http://y", "--threshold-pages", bad])


def test_keys_of_each_server(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        running(First(), make_settings(tmp_path / "a", api_keys="key-of-a")) as (a, _),
        running(Near(), make_settings(tmp_path / "b", api_keys="key-of-b")) as (b, _),
    ):
        options = ["parity", "--a", a, "--b", b, "--corpus", str(corpus), "--data", str(tmp_path)]
        options += ["--out", str(tmp_path / "out.json")]
        assert main(options) == 1 and "wrong or missing key" in capsys.readouterr().err
        monkeypatch.setenv("DORMOUSE_WORKER_KEY", "key-of-a")
        monkeypatch.setenv("DORMOUSE_WORKER_KEY_B", "key-of-b")
        assert main(options) == 0


def test_ranks_and_cosines() -> None:
    rows = np.eye(4, dtype=np.float32)
    assert parity.compute_cosines(
        np.vstack([rows[0], rows[1], 0 * rows[0], 0 * rows[0]]), np.vstack([rows[0], rows[2], 0 * rows[0], rows[0]])
    ).tolist() == [1, 0, 1, 0]
    assert parity.measure_separation(np.stack([rows[0], rows[0] * 3, rows[1]])) == {
        "median": 0.0,
        "max": pytest.approx(1),
    }

    def server(order: Sequence[int]) -> parity.EmbeddedCorpus:
        """One query; the pages stand in this order of nearness to it."""
        pages = np.zeros((len(order), 2), np.float32)
        for rank, page in enumerate(order):
            angle = 0.1 + 0.2 * rank
            pages[page] = np.cos(angle), np.sin(angle)
        none = np.empty((0, 2), np.float32)
        return parity.EmbeddedCorpus(None, pages, np.array([[1, 0]], np.float32), none, (), 0.0)  # type: ignore[arg-type]

    swapped = parity.compare_ranks(server([0, 1, 2, 3, 4]), server([1, 0, 3, 2, 4]))
    assert swapped == {"first": 0.0, "first_three": pytest.approx(2 / 3)}
    assert parity.compare_ranks(server([0, 1, 2, 3]), server([0, 2, 1, 3])) == {"first": 1.0, "first_three": 1.0}
