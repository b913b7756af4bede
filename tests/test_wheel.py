"""What is in the wheel that people install."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Files of a wheel that is built of what is here."""
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"])
    with zipfile.ZipFile(path) as wheel:
        return set(wheel.namelist())


@pytest.mark.parametrize("package", ["serving", "bench", "ui"])
def test_types_are_seen_by_whoever_installs_it(names: set[str], package: str) -> None:
    """The classifier "Typing :: Typed" is no more than a word without this file (PEP 561)."""
    assert f"{package}/py.typed" in names


def test_what_only_the_project_needs_stays_out(names: set[str]) -> None:
    outside = ("assets/sample_maker/", "assets/screenshots/", "tests/", "docs/")
    assert [name for name in names if name.startswith(outside) or "__pycache__" in name] == []


def test_what_the_page_needs_is_in_it(names: set[str]) -> None:
    needed = ("style.css", "samples/queries.json", "samples-read.zip", "runs/cold_start_results_builtin.json")
    assert {f"assets/{name}" for name in needed} <= names
    assert {"ui/app.py", "ui/static/keys.js", "serving/embedders/builtin/language_centering.npz"} <= names
