"""Where the keys of the servers on Modal come from, and who can read the file they are kept in."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from serving.cloud.credentials import FILE, Keys, load_keys, save_keys


def test_kept_for_their_owner_alone_and_added_to(tmp_path: Path) -> None:
    data = tmp_path / "new"
    assert load_keys(data, {}) == Keys()
    path = save_keys(data, {"DORMOUSE_WORKER_KEY": "api", "DORMOUSE_ADMIN_KEY": "admin"})
    save_keys(data, {"DORMOUSE_MODAL_KEY": "wk", "DORMOUSE_MODAL_SECRET": "ws", "PATH": "not a key"})
    assert path == data / FILE and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in data.iterdir()] == [FILE]
    found = load_keys(data, {})
    assert (found.api, found.admin) == ("api", "admin")
    assert found.headers == {"Modal-Key": "wk", "Modal-Secret": "ws"}
    assert "api" not in repr(found) and "ws" not in repr(found)


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    save_keys(tmp_path, {"DORMOUSE_WORKER_KEY": "kept", "DORMOUSE_ADMIN_KEY": "kept"})
    found = load_keys(tmp_path, {"DORMOUSE_WORKER_KEY": "given", "DORMOUSE_ADMIN_KEY": ""})
    assert (found.api, found.admin, found.headers) == ("given", "kept", {})
    with pytest.raises(ValueError, match="belong together"):
        load_keys(tmp_path, {"DORMOUSE_MODAL_KEY": "wk"})


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"DORMOUSE_WORKER_KEY": 7}', b"\xff\xfe"])
def test_a_damaged_file_is_told_without_its_content(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError, match="remove it, and deploy again") as told:
        load_keys(tmp_path, {})
    assert "7" not in str(told.value).replace(str(tmp_path), "")
