"""The servers of `--worker`, with the keys that the environment has for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import BadValueError
from serving.settings import Settings
from tests.support.servers import make_settings
from ui.servers.configured import configure_targets
from ui.servers.modal_target import ModalTarget


def test_each_server_has_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"WORKER_KEY": "both", "WORKER_KEY_2": "second", "ADMIN_KEY_2": "admin"}
    for name, value in keys.items():
        monkeypatch.setenv(f"DORMOUSE_{name}", value)
    first, second = configure_targets([("hf", "http://x:1"), ("", "http://x:2")], make_settings(tmp_path))
    assert (first.name, second.name) == ("hf", "x:2")
    assert (first.client.key, second.client.key) == ("both", "second")
    assert first.feed.engine is None and second.feed.engine is not None
    assert second.feed.engine() == ("http://x:2", "admin")


def test_the_admin_key_of_the_settings_is_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_ADMIN_KEY", "of-all")
    monkeypatch.setenv("DORMOUSE_ADMIN_KEY_2", "")
    first, second = configure_targets([("a", "http://x:1"), ("b", "http://x:2")], Settings(data=tmp_path))
    assert first.feed.engine is not None and first.feed.engine() == ("http://x:1", "of-all")
    assert second.feed.engine is None, "an empty key leaves that server out"


def test_what_is_no_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadValueError, match="not an address"):
        configure_targets([("", "ftp://x")], make_settings(tmp_path))
    with pytest.raises(BadValueError, match="two servers have the same name"):
        configure_targets([("a", "http://x:1"), ("a", "http://x:2")], make_settings(tmp_path))


def test_apps_on_modal_stand_beside_others(tmp_path: Path) -> None:
    targets = configure_targets([("HF", "modal:my-app"), ("", "http://127.0.0.1:1")], Settings(data=tmp_path))
    assert [target.name for target in targets] == ["HF", "127.0.0.1:1"]
    assert isinstance(targets.first, ModalTarget) and targets.first.deployment == "hf"
    assert not list(tmp_path.iterdir()), "nothing is remembered before it was learned"


def test_half_a_proxy_token_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORMOUSE_MODAL_KEY", "wk")
    with pytest.raises(BadValueError, match="belong together"):
        configure_targets([("HF", "modal:my-app")], Settings(data=tmp_path))
