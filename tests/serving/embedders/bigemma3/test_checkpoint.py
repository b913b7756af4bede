from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.speed.random_weights import build_checkpoint
from serving.embedders.bigemma3.checkpoint import Checkpoint
from serving.embedders.gpu.weight_arena import WeightsError


def test_it_is_read_without_its_tensors(weights: Path) -> None:
    found = Checkpoint.open(str(weights))
    assert (found.hidden_size, found.image_size, found.image_tokens) == (2560, 224, 256)
    assert found.parameters == sum(math.prod(shape) for shape in shapes(weights).values())


def shapes(weights: Path) -> dict[str, list[int]]:
    with (weights / "model.safetensors").open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return {name: about["shape"] for name, about in header.items() if name != "__metadata__"}


def test_the_digest_tells_weights_apart_wherever_they_lie(weights: Path, tmp_path: Path) -> None:
    digest = Checkpoint.read(weights).digest
    assert Checkpoint.read(shutil.copytree(weights, tmp_path / "a")).digest == digest
    assert Checkpoint.read(build_checkpoint(tmp_path / "b", seed=1)).digest != digest
    tokens = shutil.copytree(weights, tmp_path / "c") / "tokenizer.json"
    tokens.write_text(tokens.read_text().replace("total", "lotat"))
    assert Checkpoint.read(tmp_path / "c").digest != digest


def test_bigemma3s_own_name_is_known(tmp_path: Path) -> None:
    assert Checkpoint.read(build_checkpoint(tmp_path, architecture="BiGemma3")).hidden_size == 2560


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.json", None, r"has no config\.json"),
        ("tokenizer.json", None, r"has no tokenizer\.json"),
        ("config.json", "{", "cannot be read as JSON"),
        ("config.json", '{"architectures": ["Qwen2VLForConditionalGeneration"]}', "holds Qwen2VL.* BiGemma3 needs"),
        ("config.json", '{"architectures": ["BiGemma3"]}', "lacks the sizes"),
        ("model.safetensors", None, "has no safetensors"),
        ("model.safetensors", "short", "is damaged"),
    ],
)
def test_what_is_no_checkpoint_is_refused(
    weights: Path, tmp_path: Path, name: str, content: str | None, told: str
) -> None:
    folder = shutil.copytree(weights, tmp_path / "copy")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(WeightsError, match=told):
        Checkpoint.read(folder)


def test_a_file_cut_short_is_damaged(weights: Path, tmp_path: Path) -> None:
    file = shutil.copytree(weights, tmp_path / "copy") / "model.safetensors"
    os.truncate(file, file.stat().st_size - 10)
    with pytest.raises(WeightsError, match="ends too early"):
        Checkpoint.read(file.parent)


@pytest.mark.parametrize("weights_name", ["/nowhere/at/all", "./here", "one-word"])
def test_a_folder_that_is_not_there_is_told(weights_name: str) -> None:
    with pytest.raises(WeightsError, match="there is no folder"):
        Checkpoint.open(weights_name)


# A hub that answers on this machine; the real client asks it.


@contextmanager
def hub(status: int, code: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", "told by the test")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def asked(endpoint: str, home: Path, name: str = "someone/gated") -> str:
    """What is said when that model is asked for at that hub, in a process of its own."""
    code = (
        "import sys; from serving.embedders.bigemma3.checkpoint import Checkpoint\n"
        "from serving.embedders.gpu.weight_arena import WeightsError\n"
        "try: Checkpoint.open(sys.argv[1])\n"
        "except WeightsError as error: print(error.message)"
    )
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}
    return subprocess.check_output([sys.executable, "-c", code, name], text=True, env=environment, timeout=120)


def test_a_gated_model_without_a_token_says_how_to_get_one(tmp_path: Path) -> None:
    with hub(401, "GatedRepo") as endpoint:
        said = asked(endpoint, tmp_path)
    assert "accepted its terms" in said and "HF_TOKEN" in said


def test_a_model_that_the_hub_does_not_have_is_told(tmp_path: Path) -> None:
    with hub(404, "RepoNotFound") as endpoint:
        assert "the hub has no model someone/gated" in asked(endpoint, tmp_path)


def test_a_hub_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    said = asked("http://127.0.0.1:9", tmp_path)
    assert "is not on this machine, and the hub cannot be asked" in said and "--weights" in said
