"""A cloud for each test, and one with the sample app that several tests share: a deployment takes seconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.modal.cloud import START_S, Cloud
from tests.modal.containers import Container

APPS = Path(__file__).parent / "apps"
KEYS = {"API_KEY": "key-of-the-tests"}


@dataclasses.dataclass
class Sample:
    """The sample app in a cloud."""

    cloud: Cloud
    mount: Path
    name: str = "sample"

    @property
    def url(self) -> str:
        return self.cloud.web_url(self.name, "web")

    @property
    def env(self) -> dict[str, str]:
        return {"SAMPLE_MOUNT": str(self.mount), "SAMPLE_NAME": self.name}

    @property
    def log(self) -> str:
        """What its hooks wrote into the volume."""
        path = self.cloud.volume("sample-cache") / "log.txt"
        return path.read_text() if path.exists() else ""

    def deploy(self) -> None:
        done = self.cloud.deploy(APPS / "sample.py", env=self.env)
        assert done.returncode == 0, done.stdout + done.stderr

    def get(self, path: str = "/state", **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=START_S, **options)

    def state(self) -> dict[str, Any]:
        response = self.get()
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def container(self) -> Container:
        """The one that serves; starts it if there is none."""
        task_id = self.state()["task"]
        return next(each for each in self.cloud.containers(self.name) if each.task_id == task_id)

    def to_zero(self) -> None:
        self.cloud.stop_containers(self.name)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud() as running:
        yield running


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    with Cloud(grace_s=10) as running:
        running.secrets["sample-keys"] = dict(KEYS)
        sample = Sample(running, tmp_path_factory.mktemp("mounts") / "cache")
        sample.deploy()
        yield sample


@pytest.fixture
def sample(shared: Sample) -> Iterator[Sample]:
    """With the cloud's usual manners, whatever the test before it changed."""
    cloud = shared.cloud
    yield shared
    cloud.redirect_after_s, cloud.retries_lost, cloud.secrets["sample-keys"] = 150, True, dict(KEYS)
    cloud.snapshots_needed, cloud.creator_keeps_task_id = 1, True
    for rpc in list(cloud.plane.faults):
        cloud.mend(rpc)
