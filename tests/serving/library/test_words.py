"""The words of a text: what is told apart, and what a question finds by it."""

from __future__ import annotations

import time

import pytest

from serving.documents.page import Line
from serving.library.words import (
    MOST_CHARS,
    MOST_WORDS,
    WeighedWords,
    choose_line_with_words,
    find_identifier,
    split_words,
    weigh_words,
)


@pytest.mark.parametrize(
    ("page", "question"),
    [
        ("Heating costs", "heated"),
        ("DIE STRASSE", "Straße"),
        ("été à Orléans", "ETE"),
        ("cafe\u0301", "café"),
        ("Invoice AL-2024/17.", "al202417"),
        ("No. 1,234.50 due", "1234.50"),
        ("ｆｕｌｌ ｗｉｄｔｈ", "full"),
        ("東京都の人口", "京都"),
        ("인구는 얼마", "인구"),
        ("私の本", "本"),
        ("हिन्दी में", "हिन्दी"),
        ("Η Ελλάδα", "ελλαδα"),
        ("snake_case", "case"),
    ],
)
def test_what_finds_what(page: str, question: str) -> None:
    assert set(split_words(page)) & set(split_words(question))


@pytest.mark.parametrize(
    ("page", "question"), [("sword", "word's"), ("カ", "ガ"), ("12", "125"), ("東京 大阪", "京大阪"), ("!?—…", "!?")]
)
def test_what_does_not_find_all_of_it(page: str, question: str) -> None:
    asked = set(split_words(question))
    assert not asked or not asked <= set(split_words(page))


@pytest.mark.parametrize("text", ["", " \n\t", "\"*-:^()'", "NEAR(", "\x00", "\ud800", "🙂"])
def test_a_text_without_words_has_none(text: str) -> None:
    assert [word for word in split_words(text) if not word.strip("_").isalnum()] == []


def test_only_letters_digits_and_the_mark_are_in_a_word() -> None:
    """What a query of a database would take for an operator or a quote never gets there."""
    every = "".join(map(chr, range(0x3000))) + " ".join(map(chr, range(0x3000, 0x11000, 7)))
    words = set(split_words(every))
    assert words and not {char for word in words for char in word} & set(" '\"*\\:&|!()<>-+^\x00\n")


def test_a_text_that_is_made_to_take_long_does_not() -> None:
    for hostile in ("\u0301" * MOST_CHARS, "a" + "\u0301\u0316" * MOST_CHARS, "x" * MOST_CHARS, "1-" * MOST_CHARS):
        began = time.process_time()
        assert len(split_words(hostile)) < MOST_CHARS
        assert time.process_time() - began < 5


def test_rare_words_weigh_most_and_those_on_no_page_nothing() -> None:
    counts = {"the": 90, "pump": 3, "valve": 1, "nowhere": 0}
    found = weigh_words(counts, counts, 100)
    weights = found.weights
    assert list(weights) == ["valve", "pump", "the"] and weights["valve"] > weights["pump"] > weights["the"] > 0
    assert found.whole > sum(weights.values()) + weights["valve"], "what no page has was asked for as well"
    many = {f"word{number}": number for number in range(1, 100)}
    assert list(weigh_words(many, many, 100).weights) == [f"word{number}" for number in range(1, MOST_WORDS + 1)]
    assert list(weigh_words("ab", {"a": 90_000, "b": 90_000}, 100_000).weights) == ["a"]
    assert weigh_words([], {}, 0) == WeighedWords()


def test_the_line_with_most_of_the_words_is_chosen_the_first_of_equal_ones() -> None:
    lines = [Line("Pump station"), Line("The pump needs a new valve"), Line("a valve for the pump")]
    words = weigh_words(["_pump", "_valve", "_the"], {"_pump": 2, "_valve": 2, "_the": 9}, 10)
    assert choose_line_with_words(lines, words) is lines[1]
    assert choose_line_with_words(lines, WeighedWords({"_tulip": 1.0}, 1.0)) is None
    assert choose_line_with_words(lines, WeighedWords()) is None and choose_line_with_words([], words) is None


def test_a_line_that_says_little_of_a_question_is_not_chosen() -> None:
    lines = [Line("Opening times of the pool")]
    asked = [f"_{word}" for word in ("how", "long", "may", "children", "under", "eight", "swim", "in", "the", "pool")]
    assert choose_line_with_words(lines, weigh_words(asked, {"_pool": 3, "_the": 9}, 10)) is None
    assert choose_line_with_words(lines, weigh_words(["_pool", "_open"], {"_pool": 3}, 10)) is lines[0]


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("AL-2024/17", "_al202417"), (" H07RN-F\n", "_h07rnf"), ("LW-25-03381", "_lw2503381"), ("2024", "_2024"),
        ("HK-550", "_hk550"), ("E4", ""), ("order 17-4", ""), ("pump", ""), ("", ""), ("1-/", ""),
        ("380\u4e07\u5143", ""),
    ],
)  # fmt: skip
def test_an_identifier_is_one_word_with_digits(question: str, word: str) -> None:
    assert find_identifier(question) == word
    assert not word or word in split_words(f"Order {question}, paid")
