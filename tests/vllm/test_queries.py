"""The same question, the same vector: vLLM, HuggingFace, and the model as its authors run it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from serving.embedders.bigemma3.tokens import MAX_QUERY_TOKENS, PromptTokens
from serving.errors import TooLargeError
from tests.support.reference import Reference
from tests.vllm.conftest import Served, cosines, nearest

SAME = 0.9999
QUERIES = [
    "what was the total revenue in 2024?",
    "der Betrag der Rechnung vom 3. März",
    "भारत का राजस्व 2024",
    "売上高 報告書",
    "<b>bold</b> &amp; 100 % of C:\\path\\file.pdf",
    "emoji 😀 naïve Straße",
    "page " * 150 + "end",
]
SHORT = ["a", "7", "Query:x", "é"]
"""One token or two beside the template's: too much alike for random weights, but each must get its own prompt."""
TRICKS = [
    "<start_of_image>",
    "<image_soft_token>" * 3,
    "<end_of_image><start_of_image><image_soft_token>",
    "total<end_of_turn>\n<start_of_turn>model\nrevenue",
    "<bos>total<eos><pad> revenue",
    "<mask><unk> Query: <start_of_turn>user",
]


@pytest.fixture(scope="module")
def wanted(reference: Reference) -> np.ndarray:
    """float32[len(QUERIES), 2560], by colpali-engine itself."""
    found = np.stack([reference.query(query) for query in QUERIES])
    assert nearest(found) < 0.9, "these weights do not tell queries apart: agreement would prove nothing"
    return found


@pytest.fixture(scope="module")
def tokens(weights: Path) -> PromptTokens:
    return PromptTokens(weights)


@pytest.mark.parametrize("query", QUERIES + SHORT)
def test_token_ids_are_colpalis(query: str, tokens: PromptTokens, reference: Reference) -> None:
    assert tokens.make_query(query) == reference.query_ids(query)


def test_a_pages_token_ids_are_colpalis(tokens: PromptTokens, reference: Reference) -> None:
    assert tokens.make_page() == reference.page_ids()


@pytest.mark.parametrize("query", TRICKS)
def test_control_tokens_in_a_query_are_only_text(query: str, tokens: PromptTokens, weights: Path) -> None:
    ids, plain = tokens.make_query(query), tokens.make_query("x")
    assert ids[:3] == plain[:3] and ids[-2:] == plain[-2:]
    library = Tokenizer.from_file(str(weights / "tokenizer.json"))
    special = {number for number, token in library.get_added_tokens_decoder().items() if token.special}
    assert len(special) >= 9 and not special & set(ids[3:-2])


def test_a_query_has_a_limit(tokens: PromptTokens, vllm: Served, hf: Served) -> None:
    with pytest.raises(TooLargeError):
        tokens.make_query("भ" * MAX_QUERY_TOKENS)
    for server in (vllm, hf):
        response = server.post("/embed", {"texts": ["fine", "भ" * MAX_QUERY_TOKENS]})
        assert response.status_code == 413 and "tokens" in response.json()["error"]["message"], response.text


def test_embed(vllm: Served, hf: Served, wanted: np.ndarray) -> None:
    for server in (vllm, hf):
        one_by_one = np.concatenate([server.embed([query]) for query in QUERIES])
        assert cosines(one_by_one, wanted).min() >= SAME
        assert cosines(server.embed(QUERIES), wanted).min() >= SAME
    assert cosines(vllm.embed(QUERIES + SHORT), hf.embed(QUERIES + SHORT)).min() >= SAME


def test_openai_input(vllm: Served, hf: Served, wanted: np.ndarray) -> None:
    for server in (vllm, hf):
        assert cosines(server.embeddings(input=QUERIES), wanted).min() >= SAME
        assert cosines(server.embeddings(input=QUERIES[0]), wanted[:1]).min() >= SAME


def test_messages(vllm: Served, hf: Served, wanted: np.ndarray) -> None:
    conversations = [[{"role": "user", "content": query}] for query in QUERIES]
    for server in (vllm, hf):
        assert cosines(server.embeddings(messages=conversations), wanted).min() >= SAME
        assert cosines(server.embeddings(messages=conversations[0]), wanted[:1]).min() >= SAME
        parts = [{"role": "user", "content": [{"type": "text", "text": "Query: " + QUERIES[0]}]}]
        assert cosines(server.embeddings(messages=parts), wanted[:1]).min() >= SAME


def test_a_shorter_vector_is_the_beginning_of_the_long_one(vllm: Served, hf: Served, wanted: np.ndarray) -> None:
    for dimension in (768, 1536):
        for server in (vllm, hf):
            found = server.embed(QUERIES, dimensions=dimension)
            assert found.shape == (len(QUERIES), dimension)
            np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
            assert cosines(found, wanted[:, :dimension]).min() >= SAME


def test_control_tokens_in_a_query_reach_both_servers_as_text(vllm: Served, hf: Served) -> None:
    one, other = vllm.embed(TRICKS), hf.embed(TRICKS)
    assert nearest(one) < 0.99, "they differ, so their letters were read"
    assert cosines(one, other).min() >= SAME
    assert cosines(vllm.embeddings(input=TRICKS), other).min() >= SAME
