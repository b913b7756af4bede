"""Prices: the list, what is counted beside the GPU, an account's rates, and numbers that are none."""

from __future__ import annotations

import argparse
import math
from decimal import Decimal

import pytest

from bench.cost import prices
from bench.cost.prices import LISTED, Rates
from serving.cloud.modal_account import AccountError

L40S = prices.price_machine("L40S")


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    prices.add_arguments(parser)
    return parser.parse_args(words)


def test_the_price_list_and_what_is_counted_beside_the_gpu() -> None:
    assert L40S.per_hour == pytest.approx(1.9512) and L40S.date == "2026-11-23" and "Modal" in L40S.source
    assert prices.price_machine("a10").per_hour == pytest.approx(1.1016)
    assert prices.price_machine("L40S", cores=4, memory_gib=32).per_s == pytest.approx(
        0.000542 + 4 * 13.1e-6 + 32 * 2.22e-6
    )
    assert prices.price_machine("anything", 3.6).per_s == pytest.approx(0.001) and not prices.price_machine("x", 1).date


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf, 1e9])
def test_prices_that_are_none(wrong: float) -> None:
    with pytest.raises(ValueError, match="is not from"):
        prices.price_machine("L40S", wrong)
    with pytest.raises(ValueError, match="is not from"):
        prices.price_machine("L40S", cores=wrong)
    with pytest.raises(ValueError, match="no price is known"):
        prices.price_machine("L40")


def test_a_machine_says_what_it_is_made_of() -> None:
    machine = prices.price_machine("none", cores=0.125, memory_gib=0.5)
    assert machine.gpu == "none, with 0.125 cores and 0.5 GiB"
    assert machine.per_s == pytest.approx(0.125 * prices.CORE_PER_S + 0.5 * prices.GIB_PER_S)


def test_each_gpu_of_the_list_has_a_name_in_an_account_s_rates() -> None:
    assert set(prices.GPU_KEYS) == set(prices.GPU_PER_S) - {"none"}
    assert len(set(prices.GPU_KEYS.values())) == len(prices.GPU_KEYS)


def test_a_rate_an_hour_is_dollars_a_second() -> None:
    assert prices.parse_hourly_rate(Decimal("3.6")) == pytest.approx(0.001)
    for wrong in ("-1", "NaN", "1e9"):
        with pytest.raises(ValueError, match="a rate: "):
            prices.parse_hourly_rate(Decimal(wrong))


def test_options_name_a_price() -> None:
    assert prices.choose_price(parse()) == L40S
    assert prices.choose_price(parse("--gpu", "h200", "--cores", "2")).per_s == pytest.approx(
        prices.GPU_PER_S["H200"] + 2 * prices.CORE_PER_S
    )
    assert prices.choose_price(parse("--price-per-hour", "36")).per_s == pytest.approx(0.01)


def test_an_account_that_cannot_be_asked_is_said_and_the_list_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> Rates:
        raise AccountError("there is no token")

    monkeypatch.setattr(prices, "fetch_rates", fail)
    assert prices.fetch_rates_or_list() == (LISTED, "there is no token")
    assert prices.choose_price(parse("--live-prices")) == L40S
    assert capsys.readouterr().err == f"prices are those of the list of {prices.DATE}: there is no token\n"


def test_an_account_s_rates_replace_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Rates({"L40S": 0.0005, "none": 0.0}, 1e-5, 2e-6, "mine", "today")
    monkeypatch.setattr(prices, "fetch_rates", lambda: mine)
    price = prices.choose_price(parse("--live-prices", "--cores", "10"))
    assert price.per_s == pytest.approx(0.0006) and (price.source, price.date) == ("mine", "today")
    assert price.gpu == "L40S, with 10 cores and 0 GiB"
    assert prices.choose_price(parse("--live-prices", "--price-per-hour", "1")).source == "given by the caller"
