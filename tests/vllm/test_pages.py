"""The same page, the same vector, whatever file it comes in.

vLLM's CPU backend knows causal attention only, so inside an image it looks back where Gemma 3 looks both ways. Here it
is held against the model run that way; on a GPU the two servers are compared by `python -m bench parity`.
"""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.support.reference import Reference, canonical
from tests.vllm.conftest import Served, cosines, nearest
from tests.vllm.pictures import Picture

SAME = 0.999


@pytest.fixture(scope="module")
def causal(reference: Reference, pages: list[Picture]) -> np.ndarray:
    found = np.stack([reference.page(canonical(page.data), causal=True) for page in pages])
    assert nearest(found) < 0.9, "these weights do not tell pages apart: agreement would prove nothing"
    return found


@pytest.fixture(scope="module")
def both_ways(reference: Reference, pages: list[Picture], causal: np.ndarray) -> np.ndarray:
    found = np.stack([reference.page(canonical(page.data), causal=False) for page in pages])
    assert cosines(found, causal).max() < SAME, "these weights do not tell the two kinds of attention apart"
    return found


def test_vllm_is_the_causal_model(vllm: Served, pages: list[Picture], causal: np.ndarray) -> None:
    found = vllm.embed(images=[page.data for page in pages])
    for page, cosine in zip(pages, cosines(found, causal), strict=True):
        assert cosine >= SAME, page.name
    alone = np.concatenate([vllm.embed(images=[page.data]) for page in pages])
    assert cosines(found, alone).min() >= 0.99999, "a page's vector does not depend on its company"


def test_huggingface_looks_both_ways(hf: Served, pages: list[Picture], both_ways: np.ndarray) -> None:
    found = hf.embed(images=[page.data for page in pages])
    for page, cosine in zip(pages, cosines(found, both_ways), strict=True):
        assert cosine >= SAME, page.name


def test_the_two_servers_differ_by_that_attention_alone(
    vllm: Served, hf: Served, pages: list[Picture], causal: np.ndarray, both_ways: np.ndarray
) -> None:
    data = [page.data for page in pages]
    found, wanted = cosines(vllm.embed(images=data), hf.embed(images=data)), cosines(causal, both_ways)
    for page, one, other in zip(pages, found, wanted, strict=True):
        assert abs(one - other) < 1 - SAME and one > 0.95, page.name


def test_messages_with_an_image_are_pages(vllm: Served, pages: list[Picture], causal: np.ndarray) -> None:
    uris = ["data:image/png;base64," + base64.b64encode(page.data).decode() for page in pages[:4]]
    words = {"type": "text", "text": "whatever is said beside it"}
    conversations = [
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": uri}}, words]}] for uri in uris
    ]
    assert cosines(vllm.embeddings(messages=conversations), causal[:4]).min() >= SAME


def test_pages_and_queries_in_one_request(vllm: Served, pages: list[Picture], causal: np.ndarray) -> None:
    found = vllm.embed(["total revenue"], [page.data for page in pages[:3]])
    assert cosines(found[:3], causal[:3]).min() >= SAME
    assert cosines(found[3:], vllm.embed(["total revenue"])).min() >= 0.99999


def test_a_damaged_image_hurts_nobody_else(vllm: Served, pages: list[Picture], causal: np.ndarray) -> None:
    damaged = pages[0].data[: len(pages[0].data) // 2]

    def ask(number: int) -> tuple[int, float]:
        data = [pages[number % 4].data] + ([damaged] if number % 2 else [])
        response = vllm.post("/embed", {"images": [base64.b64encode(one).decode() for one in data]})
        if response.status_code != 200:
            return response.status_code, 0.0
        return 200, float(cosines(np.asarray(response.json()["embeddings"], np.float32), causal[[number % 4]])[0])

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(ask, range(12)))
    assert [status for status, _ in answers] == [200, 422] * 6
    assert min(cosine for status, cosine in answers if status == 200) >= SAME
