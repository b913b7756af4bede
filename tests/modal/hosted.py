"""The page on the local cloud, with the server that it asks: what tests of both ways to keep collections share."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio_client
import requests

from tests.modal.cloud import PROXY_TOKEN, Cloud

ME = ("dormouse", "correct horse")
PAGE, SERVER = "dormouse", "bigemma3-hf-serve"
ADMIN = "admin key of the server"
WAIT_S = 120


@dataclass
class Hosted:
    cloud: Cloud
    folder: Path

    @property
    def url(self) -> str:
        return self.cloud.web_url(PAGE)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DORMOUSE_PAGE_MOUNT": str(self.folder / "kept"),
            "DORMOUSE_PAGE_DATA": str(self.folder / "disk"),
            "DORMOUSE_WORKERS": f"HuggingFace=modal:{SERVER}, vLLM=modal:bigemma3-vllm-serve",
        }

    def add_secret(self) -> None:
        self.cloud.secrets["dormouse-page"] = {
            "DORMOUSE_PAGE_PASSWORD": ME[1], "DORMOUSE_ADMIN_KEY": ADMIN,
            "DORMOUSE_MODAL_KEY": PROXY_TOKEN[0], "DORMOUSE_MODAL_SECRET": PROXY_TOKEN[1],
        }  # fmt: skip

    def deploy(self) -> None:
        self.add_secret()
        done = self.cloud.deploy("ui/app.py", env=self.environment)
        assert done.returncode == 0, done.stdout + done.stderr

    def deploy_server(self) -> None:
        self.cloud.secrets["dormouse"] = {"DORMOUSE_DATA": str(self.folder / "server"), "DORMOUSE_ADMIN_KEY": ADMIN}
        environment = {
            "DORMOUSE_MODAL_CACHE": str(self.folder / "cache"), "DORMOUSE_EMBEDDER": "builtin",
            "DORMOUSE_MODAL_GPU": "", "DORMOUSE_DEVICE": "cpu",
        }  # fmt: skip
        done = self.cloud.deploy("serving/serve_hf_snapshot.py", env=environment)
        assert done.returncode == 0, done.stdout + done.stderr

    def get(self, path: str = "/") -> requests.Response:
        return requests.get(self.url + path, auth=ME, timeout=WAIT_S)

    def call(self, name: str, *arguments: Any) -> dict[str, Any]:
        client = gradio_client.Client(self.url, verbose=False, httpx_kwargs={"auth": ME, "timeout": WAIT_S})
        try:
            found: dict[str, Any] = client.predict(*arguments, api_name=f"/{name}")
            return found
        finally:
            client.close()

    def new_disk(self) -> None:
        """A container's own disk is gone with it; here all have one machine."""
        shutil.rmtree(self.folder / "disk", ignore_errors=True)

    def kill(self) -> None:
        for container in self.cloud.containers(PAGE):
            self.cloud.kill(container.task_id)
        self.cloud.until(lambda: not self.cloud.containers(PAGE))
        self.new_disk()

    def logs(self) -> str:
        return "\n".join(each.log for each in [*self.cloud.past, *self.cloud.running()])[-8000:]
