"""The real BiGemma3 classes on a tiny checkpoint with random weights, on a CPU."""

from __future__ import annotations

import base64
import io
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from bench.quality.recall import CORPUS, load_labels, read_pages
from bench.speed.random_weights import build_checkpoint
from serving.client import EmbeddingClient
from serving.documents.images import decode_image
from serving.documents.page import Page
from serving.embedders.bigemma3 import huggingface
from serving.embedders.bigemma3.base import resize_square
from serving.embedders.bigemma3.checkpoint import Checkpoint
from serving.embedders.bigemma3.huggingface import BiGemma3Embedder, check_gpu
from serving.embedders.bigemma3.tokens import MAX_QUERY_TOKENS
from serving.errors import ServingError, TooLargeError
from serving.library.library import Library
from serving.library.vectors import truncate_vectors
from serving.settings import Settings
from tests.support.embedders import make_embedder
from tests.support.guide import FASTAPI, OPENAI, run
from tests.support.libraries import at
from tests.support.reference import Reference
from tests.support.servers import make_settings, running
from tests.support.uploads import run as run_job
from ui.access.uploads import Upload
from ui.core.service import Service
from ui.search import page_regions
from ui.servers.target import Target, Targets

QUERIES = ["total", "what was the total revenue in the third quarter of 2024?", "बजट और ऊर्जा", "売上高 報告書 2024"]


@pytest.fixture(scope="module")
def squares(embedder: BiGemma3Embedder) -> list[Image.Image]:
    """Every fourth page of the samples, as the model sees it."""
    size = embedder.checkpoint.image_size
    payloads = [payload for _, payload in read_pages(CORPUS, Settings())][::4]
    return [resize_square(decode_image(payload.image or b"", Settings()), size) for payload in payloads]


@pytest.fixture(scope="module")
def reference(weights: Path) -> Reference:
    return Reference(weights)


def of_pages(embedder: BiGemma3Embedder, images: list[Image.Image]) -> np.ndarray:
    return np.stack([result.vector for result in embedder.embed_pages([Page(image) for image in images])])


def lowest(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum(axis=1).min())


# What it computes


def test_these_weights_tell_pages_and_queries_apart(embedder: BiGemma3Embedder, squares: list[Image.Image]) -> None:
    """Without this, nothing below would prove anything."""
    asked = embedder.embed_queries([label.query for label in load_labels(CORPUS)][::2])
    for vectors in (of_pages(embedder, squares), asked):
        between = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
        assert np.median(between) < 0.9 and between.min() < 0.7


def test_pages_are_those_of_colpali(
    embedder: BiGemma3Embedder, reference: Reference, squares: list[Image.Image]
) -> None:
    ours, theirs = of_pages(embedder, squares), reference.pages(squares)
    assert ours.shape == (len(squares), 2560) and ours.dtype == np.float32
    assert lowest(ours, theirs) > 0.999999
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_an_images_tokens_see_all_of_it(
    embedder: BiGemma3Embedder, reference: Reference, squares: list[Image.Image]
) -> None:
    """The same with a causal mask is another vector: ours is not that one."""
    blind = reference.pages(squares, causal=True)
    assert np.median((blind * reference.pages(squares)).sum(axis=1)) < 0.999
    assert lowest(of_pages(embedder, squares), reference.pages(squares)) > 0.999999


def test_queries_are_those_of_colpali_with_its_left_padding(embedder: BiGemma3Embedder, reference: Reference) -> None:
    """It fills up on the left, we on the right; neither may matter, in a batch or alone."""
    ours = embedder.embed_queries(QUERIES)
    assert ours.shape == (4, 2560) and ours.dtype == np.float32
    np.testing.assert_allclose(ours, reference.queries(QUERIES), atol=2e-5)
    alone = np.concatenate([embedder.embed_queries([text]) for text in QUERIES])
    np.testing.assert_allclose(ours, alone, atol=2e-6)
    np.testing.assert_allclose(alone, np.concatenate([reference.queries([text]) for text in QUERIES]), atol=2e-5)


def test_pages_in_a_batch_are_those_alone(embedder: BiGemma3Embedder, squares: list[Image.Image]) -> None:
    together = of_pages(embedder, squares[:4])
    alone = np.concatenate([of_pages(embedder, [image]) for image in squares[:4]])
    np.testing.assert_allclose(together, alone, atol=2e-6)


def test_vectors_have_length_one(embedder: BiGemma3Embedder, squares: list[Image.Image]) -> None:
    for vectors in (of_pages(embedder, squares[:3]), embedder.embed_queries(QUERIES)):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_what_is_prepared_is_what_colpali_makes_of_the_page_itself(
    embedder: BiGemma3Embedder, reference: Reference
) -> None:
    """Our resize is the one of Gemma 3's own image processor."""
    page = decode_image((CORPUS / "invoice-aurora-lamps.jpg").read_bytes(), Settings())
    prepared = embedder.prepare(Page(page)).image
    assert prepared is not None and prepared.size == (224, 224)
    assert lowest(of_pages(embedder, [prepared]), reference.pages([page])) > 0.99999


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (224, 224)])
def test_a_page_of_any_shape_has_a_vector(embedder: BiGemma3Embedder, size: tuple[int, int]) -> None:
    vector = of_pages(embedder, [Image.new("RGB", size, "white")])
    assert np.isfinite(vector).all()


@pytest.mark.parametrize(
    "text",
    ["<start_of_image> total", "a <end_of_turn>\n<start_of_turn>model b", "<bos><pad>", "<image_soft_token>" * 300],
)
def test_the_models_own_marks_are_words_in_a_query(embedder: BiGemma3Embedder, text: str) -> None:
    """As many letters as they look like: no image without pixels, no turn that ends early."""
    ids = embedder._tokens.make_query(text) if len(text) < 500 and embedder._tokens else []
    if ids and embedder._tokens:
        marks = set(embedder._tokens._special.values())
        assert sum(token in marks for token in ids) == 4, "two <bos>, and one turn"
        vector = embedder.embed_queries([text])
        assert np.isfinite(vector).all() and lowest(vector, embedder.embed_queries(["total"])) < 0.999
    else:
        with pytest.raises(TooLargeError, match=str(MAX_QUERY_TOKENS)):
            embedder.embed_queries([text])


# Weights


def test_the_fingerprint_is_that_of_the_weights(weights: Path, embedder: BiGemma3Embedder, tmp_path: Path) -> None:
    same, other = (
        make_embedder(shutil.copytree(weights, tmp_path / "a")),
        make_embedder(build_checkpoint(tmp_path / "b", seed=1)),
    )
    assert embedder.fingerprint == same.fingerprint != other.fingerprint
    assert embedder.fingerprint.startswith("bigemma3-hf-")


# Devices


def test_without_a_gpu_it_says_what_to_do(weights: Path) -> None:
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False))
    with pytest.raises(ServingError, match=r"no NVIDIA GPU .* --device cpu"):
        check_gpu(torch, Checkpoint.read(weights))


def test_with_too_little_memory_it_says_how_much_is_missing(weights: Path) -> None:
    memory = SimpleNamespace(is_available=lambda: True, mem_get_info=lambda: (2_000_000_000, 24_000_000_000))
    with pytest.raises(ServingError, match=r"2\.0 GB free of 24\.0; BiGemma3 needs 3\.0"):
        check_gpu(SimpleNamespace(cuda=memory), Checkpoint.read(weights))


# Served


def jpeg(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="module")
def url(embedder: BiGemma3Embedder, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(embedder, make_settings(tmp_path_factory.mktemp("served"))) as (address, _):
        yield address


def test_the_parts_of_a_page_are_one_request(url: str, embedder: BiGemma3Embedder, tmp_path: Path) -> None:
    def answers() -> int:
        told = requests.get(url + "/metrics", timeout=10).text
        return int(float(re.findall(r'answers_total\{route="/embed",status="200"\} (.+)', told)[0]))

    service = Service(Targets([Target(EmbeddingClient(url))]), Library(tmp_path / "library"), make_settings(tmp_path))
    source = CORPUS / "invoice-aurora-lamps.jpg"
    (page,) = run_job(service, Upload(source, source.name)).added
    before = answers()
    found = page_regions.rank_parts_as_json(service, QUERIES[0], page.id, at(service.library), None, 768)
    assert answers() == before + 2, "the question and the parts"
    picture = Image.open(service.library.pictures.locate_picture(page.id))
    squares = [
        resize_square(page_regions.crop_part(picture, tile["box"]), embedder.checkpoint.image_size)
        for tile in found["tiles"]
    ]
    service.close()
    expected = truncate_vectors(of_pages(embedder, squares), 768) @ truncate_vectors(
        embedder.embed_queries(QUERIES[:1])[0], 768
    )
    assert len(expected) == 12 and np.ptp(expected) > 0.05, "these parts cannot be told apart"
    np.testing.assert_allclose([tile["score"] for tile in found["tiles"]], expected, atol=0.01)


def test_matryoshka_is_cut_and_normalised_as_colpali_does_it(url: str, reference: Reference) -> None:
    for dimension in (768, 1536, 2560):
        answer = requests.post(url + "/embed", json={"texts": QUERIES, "dimensions": dimension}, timeout=60).json()
        found = np.asarray(answer["embeddings"], np.float32)
        assert found.shape == (4, dimension) == (4, answer["dimension"])
        np.testing.assert_allclose(found, reference.queries(QUERIES, dimension), atol=3e-5)
    refused = requests.post(url + "/embed", json={"texts": ["a"], "dimensions": 512}, timeout=60)
    assert refused.status_code == 400 and "768, 1536, 2560" in refused.text


def test_a_page_that_fails_leaves_the_others_alone(url: str, squares: list[Image.Image]) -> None:
    good = [jpeg(image) for image in squares[:6]]
    bad = [base64.b64encode(b"\xff\xd8\xff\xe0 not a jpeg").decode(), good[0][: len(good[0]) // 2 // 4 * 4]]

    def ask(image: str) -> requests.Response:
        return requests.post(url + "/embed", json={"images": [image]}, timeout=60)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [*good, *bad]))
    assert [answer.status_code for answer in answers[:6]] == [200] * 6
    assert {answer.status_code for answer in answers[6:]} <= {415, 422}


def test_the_guides_snippets_give_the_canonical_vectors(
    url: str, reference: Reference, squares: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the deployment guide prints them, but for the address."""
    squares[0].save(tmp_path / "test.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    seen = reference.pages([Image.open("test.jpg").convert("RGB")])[0]

    embeddings = run(OPENAI, url)["embeddings"]
    assert len(embeddings) == 2560 and float(np.dot(embeddings, seen)) > 0.999  # it was compressed once more

    result = run(FASTAPI, url)["result"]
    assert result["dimension"] == 2560 and len(result["embeddings"]) == 2
    assert float(np.dot(result["embeddings"][0], embeddings)) > 0.999999
    assert float(np.dot(result["embeddings"][1], reference.queries(["query text"])[0])) > 0.999999


def test_it_is_not_imported_before_it_is_loaded() -> None:
    import subprocess
    import sys

    code = (
        "import sys, serving.embedders.bigemma3.huggingface\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "False"]
    assert huggingface.GPU_LANES.page_workers == 2
