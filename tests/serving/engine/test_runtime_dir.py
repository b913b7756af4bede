from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from serving.engine.runtime_dir import locate_runtime_dir, make_runtime_dir
from tests.support.engines import EngineProcess, is_right, kind


def test_it_is_private_and_empty_and_a_socket_fits(tmp_path: Path) -> None:
    for data in (tmp_path, tmp_path / ("long" * 20) / "data"):
        data.mkdir(parents=True, exist_ok=True)
        folder = make_runtime_dir(data)
        assert oct(folder.stat().st_mode)[-3:] == "700"
        (folder / "restore-1").mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "0123456789ab.sock"))
        assert make_runtime_dir(data) == folder, "the next engine finds the same one"
        assert list(folder.iterdir()) == [], "what a killed engine left is gone"


def test_a_folder_that_somebody_else_laid_out_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name in the temporary folder can be guessed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    data = tmp_path / ("long" * 20)
    data.mkdir()
    folder = make_runtime_dir(data)
    folder.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("not ours")
    folder.symlink_to(elsewhere)
    with pytest.raises(PermissionError, match="somebody else"):
        make_runtime_dir(data)
    assert (elsewhere / "kept").exists()
    folder.unlink()
    folder.mkdir()
    assert make_runtime_dir(data) == folder


@pytest.mark.soak
def test_run_folder_that_was_tidied_away(tmp_path: Path, backend: str) -> None:
    with EngineProcess(tmp_path, backend) as engine:
        assert is_right(engine.ask())
        engine.to_zero()
        shutil.rmtree(locate_runtime_dir(tmp_path))
        answer = engine.ask()
        assert is_right(answer) and kind(answer) == "restored"
