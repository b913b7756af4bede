"""Weights from a hub that is on this machine; the real client downloads them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.embedders.bigemma3.download import allow_hub
from tests.support.hubs import COMMIT, MODEL, Hub


def fetched(hub: Hub, cache: Path, name: str = MODEL, revision: str = "", **environment: str) -> list[str]:
    """What a process that is to be snapshotted has afterwards: the folder or the reason, its threads, its switches."""
    code = (
        "import sys, os, threading; from serving.embedders.gpu.weight_arena import WeightsError\n"
        "from serving.embedders.bigemma3.download import ensure_downloaded\n"
        "try: print(ensure_downloaded(*sys.argv[1:]))\n"
        "except WeightsError as error: print(error.message)\n"
        "print(threading.active_count(), os.environ.get('HF_HUB_OFFLINE'))"
    )
    given = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache), "HF_TOKEN": "", **environment}
    told = subprocess.check_output([sys.executable, "-c", code, name, revision], text=True, env=given, timeout=120)
    return told.splitlines()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_downloaded_once_by_a_process_of_its_own(hub: Hub, tmp_path: Path) -> None:
    folder, state = fetched(hub, tmp_path)
    assert contents(Path(folder)) == contents(hub.folder)
    assert state == "1 1", "one thread, and no hub from here on"
    assert any("model-00002" in path for path in hub.asked)
    hub.asked.clear()
    assert fetched(hub, tmp_path) == [folder, "1 1"] and hub.asked == [], "found again without the hub"


def test_what_a_download_left_behind_is_completed(hub: Hub, tmp_path: Path) -> None:
    folder, _ = fetched(hub, tmp_path)
    (Path(folder) / "model-00002-of-00002.safetensors").unlink()
    hub.asked.clear()
    assert fetched(hub, tmp_path)[0] == folder
    assert (Path(folder) / "model-00002-of-00002.safetensors").is_file() and hub.asked


def test_a_revision_is_the_one_that_is_named(hub: Hub, tmp_path: Path) -> None:
    folder, _ = fetched(hub, tmp_path, revision="v2")
    assert Path(folder).name == COMMIT and any("/revision/v2" in path for path in hub.asked)


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGINGFACE_TOKEN"])
def test_the_token_is_used_under_both_names(hub: Hub, tmp_path: Path, name: str) -> None:
    fetched(hub, tmp_path, **{name: "hf_told"})
    assert hub.tokens == {"Bearer hf_told"}


def test_a_token_of_nobody_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.refuses = True
    reason, _ = fetched(hub, tmp_path, HF_TOKEN="hf_wrong")
    assert reason == f"the hub does not accept this HF_TOKEN: set it to one that may read {MODEL}"


def test_what_cannot_be_downloaded_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.url = "http://127.0.0.1:9"
    reason, state = fetched(hub, tmp_path)
    assert f"{MODEL} is not on this machine, and the hub cannot be asked" in reason and state == "1 1"


def test_a_disk_that_is_full_is_told(hub: Hub, tmp_path: Path) -> None:
    """The real error of a file that may not grow, in place of a full disk's."""
    broken = tmp_path / "sitecustomize.py"
    broken.write_text(
        "import errno, huggingface_hub\n"
        "def full(*_, local_files_only=False, **__):\n"
        "    from huggingface_hub.errors import LocalEntryNotFoundError\n"
        "    raise LocalEntryNotFoundError('') if local_files_only else OSError(errno.ENOSPC, 'No space left')\n"
        "huggingface_hub.snapshot_download = full\n"
    )
    reason, _ = fetched(hub, tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    assert reason == f"there is no room for {MODEL} on this disk: it needs 8.6 GB"


def test_a_child_that_dies_is_told(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nif sys.argv[0] == '-m': os._exit(137)\n")
    reason, _ = fetched(hub, tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    assert reason == f"the download of {MODEL} ended with exit code 137"


@pytest.mark.parametrize("name", ["/nowhere", "./here", "one-word", "a/b/c"])
def test_what_is_no_name_on_the_hub_comes_back(hub: Hub, tmp_path: Path, name: str) -> None:
    assert fetched(hub, tmp_path, name) == [name, "1 1"] and hub.asked == []


def test_a_folder_comes_back(hub: Hub, tmp_path: Path) -> None:
    assert fetched(hub, tmp_path, str(hub.folder))[0] == str(hub.folder)


def test_the_child_finds_this_package_and_the_hub() -> None:
    found = allow_hub({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONPATH": "/more", "PATH": "/bin"})
    assert found["PATH"] == "/bin" and found["PYTHONPATH"].endswith(":/more") and "HF_TOKEN" not in found
    assert not {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} & found.keys()
