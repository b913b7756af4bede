from __future__ import annotations

import pytest

from bench.cost.prices import LISTED
from ui.deploy.apps import App, describe_costs, list_apps, price_app, read_setup


def test_all_three_are_listed_and_each_can_be_chosen() -> None:
    setup = read_setup()
    apps = list_apps(setup)
    assert [app.kind for app in apps] == ["hf", "vllm", "page"] and apps[2].name == setup.page.app == "dormouse"
    assert list_apps(setup, ["page", "hf"]) == [apps[0], apps[2]] and list_apps(setup, []) == apps
    assert [app.is_page for app in apps] == [False, False, True]
    assert apps[2].advice == "dormouse is not deployed: run `modal deploy ui/app.py`, or `dormouse deploy`"


def test_costs_are_those_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_MODAL_GPU", "L40S!")
    monkeypatch.setenv("DORMOUSE_PAGE_CPU", "2")
    setup = read_setup()
    server, _, page = list_apps(setup)
    assert price_app(server, setup, LISTED).gpu.startswith("L40S, with ")
    assert 0 < price_app(page, setup, LISTED).per_hour < price_app(server, setup, LISTED).per_hour
    words = describe_costs([server, page], setup, LISTED).splitlines()
    assert words[0].startswith("An hour while it is up, by ") and words[-1].startswith("At zero: nothing but volumes")
    window = setup.page.scaledown_window
    assert words[2].split()[0] == "dormouse" and f"its idle window of {window} s about $" in words[2]


def test_a_gpu_without_a_price_is_said_in_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_MODAL_GPU", "X9000")
    setup = read_setup()
    server, *_ = list_apps(setup)
    with pytest.raises(ValueError, match="X9000"):
        price_app(server, setup, LISTED)
    assert "no price is known for 'X9000'" in describe_costs([server], setup, LISTED)


def test_a_wrong_setting_ends_the_program_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_PAGE_TABS", "0")
    with pytest.raises(SystemExit, match="DORMOUSE_PAGE_TABS=0"):
        read_setup()
    assert App("page", "mine", "ui/app.py").name == "mine"
