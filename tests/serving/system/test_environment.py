from __future__ import annotations

from pathlib import Path

import pytest

from serving.documents.parser_pool import ParserProcess
from serving.settings import Settings, settings_variables
from serving.system.environment import library_variables, process_variables

NEEDED = {"PATH": "/bin", "LC_ALL": "C", "OMP_NUM_THREADS": "2", "HF_HOME": "/hf"}
SECRETS = {
    "VLLM_API_KEY": "s", "HF_HUB_TOKEN": "s", "HF_TOKEN": "s", "NVIDIA_AUTH": "s", "AWS_SECRET_ACCESS_KEY": "s",
    "DORMOUSE_API_KEYS": "s", "HTTPS_PROXY": "http://user:s@proxy", "ANYTHING": "s",
}  # fmt: skip


def test_processes_get_what_they_need_and_no_secret() -> None:
    assert process_variables({**NEEDED, **SECRETS}) == NEEDED
    assert library_variables({**NEEDED, **SECRETS}) == {"OMP_NUM_THREADS": "2"}


def test_an_engine_gets_the_settings_with_their_keys() -> None:
    given = {
        "DORMOUSE_API_KEYS": "k",
        "dormouse_port": "1",
        "DORMOUSE_DATA": "d",
        "DORMOUSE_CRIU": "c",
        "DORMOUSEX": "x",
    }
    assert settings_variables({**given, **NEEDED}) == {
        "DORMOUSE_API_KEYS": "k", "DORMOUSE_DATA": "d", "DORMOUSE_CRIU": "c"
    }  # fmt: skip


def test_readers_of_files_get_no_secret_either(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their process is the one that a hostile file may take over."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    process = ParserProcess(settings.parser_memory_bytes)
    process.start(lambda: False)
    given = Path(f"/proc/{process._process.pid}/environ").read_text().split("\0")
    process.end()
    names = {line.partition("=")[0] for line in given}
    assert "PATH" in names and not names & set(SECRETS)
