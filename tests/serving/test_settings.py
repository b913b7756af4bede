from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving.settings import LOADED_WITH, Settings, settings_variables
from serving.system.cores import count_cores
from tests.support.servers import make_settings


def test_settings_are_frozen_and_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_settings(tmp_path).max_pixels = 1  # type: ignore[misc]
    with pytest.raises(ValueError, match="greater than or equal"):
        Settings(max_pixels=0)


def test_a_worker_gets_no_key_before_its_launch(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, api_keys=" a, b ,,", admin_key="c")
    assert set(settings.known_at_load()) == LOADED_WITH and settings.keys == ("a", "b")
    launched = json.loads(json.dumps(settings.known_at_launch()))
    assert Settings(**launched).known_at_launch() == launched
    assert launched["api_keys"] == " a, b ,," and launched["admin_key"] == "c"
    assert "a, b" not in repr(settings)


def test_no_engine_or_worker_gets_the_address_of_the_store(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, store="postgresql://u:pa55word@h/d")
    assert "pa55word" not in f"{settings!r} {settings.known_at_launch()}"
    variables = settings_variables({"DORMOUSE_STORE": "postgresql://u:pa55word@h/d", "DORMOUSE_DATA": "data"})
    assert variables == {"DORMOUSE_DATA": "data"}


def test_each_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_MAX_PIXELS", "7")
    monkeypatch.setenv("DORMOUSE_UNKNOWN", "7")
    assert Settings().max_pixels == 7
    assert 1 <= count_cores() == Settings().cores and 1 <= Settings().pages_ahead <= 8
