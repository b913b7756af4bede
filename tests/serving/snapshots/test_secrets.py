"""What a snapshot must not hold: whoever can read its files would have the keys of everything else."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psutil
import pytest

from serving.http.child_server import ServerProcess
from serving.system.environment import process_variables
from tests.support import criu
from tests.support.engines import EngineProcess, kind
from tests.support.postgres import PostgresServer
from tests.support.scripted_engine import NAME

SECRET = (
    # ours: keys and passwords of the engine, the page, other workers and Modal, and a variable that nobody knows yet
    "DORMOUSE_API_KEYS", "DORMOUSE_ADMIN_KEY", "dormouse_admin_key", "DORMOUSE_ADMIN_KEY_HF", "DORMOUSE_WORKER_KEY",
    "DORMOUSE_WORKER_KEY_A", "DORMOUSE_PAGE_USER", "DORMOUSE_PAGE_PASSWORD", "DORMOUSE_MODAL_KEY",
    "DORMOUSE_MODAL_SECRET", "DORMOUSE_MODAL_SECRET_NAME", "DORMOUSE_STORE", "DORMOUSE_NEW_THING", "Dormouse_Mixed",
    # other people's, some under the prefixes of libraries that a worker does use
    "MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "HF_TOKEN", "HUGGINGFACE_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_TOKEN",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "VLLM_API_KEY", "NVIDIA_API_KEY", "PGPASSWORD",
    "GITHUB_TOKEN", "HTTPS_PROXY", "https_proxy", "PIP_INDEX_URL", "TORCH_CREDENTIALS", "SSH_AUTH_SOCK",
)  # fmt: skip


def value(name: str) -> str:
    """Told apart from the name, and from that of a variable that differs by its case."""
    return f"planted-{SECRET.index(name)}-in-the-tests"


def leaked(content: bytes) -> set[str]:
    return {name for name in SECRET if value(name).encode() in content}


PLANTED = {name: value(name) for name in SECRET}


@pytest.mark.parametrize(
    ("snapshot", "embedder"), [pytest.param("criu", "builtin", marks=pytest.mark.soak), ("criu", NAME), ("fork", NAME)]
)
def test_no_secret_of_the_engine_is_in_a_snapshot_or_a_worker(tmp_path: Path, snapshot: str, embedder: str) -> None:
    if snapshot == "criu":
        criu.need()
    with EngineProcess(tmp_path, snapshot, embedder=embedder, **PLANTED) as engine:
        assert leaked(Path(f"/proc/{engine.pid}/environ").read_bytes()) == set(SECRET), "they are all planted"
        for expected in ("created", "restored"):
            assert kind(engine.ask(Authorization=f"Bearer {value('DORMOUSE_API_KEYS')}")) == expected
            family = [process for process in engine.family() if process.status() != psutil.STATUS_ZOMBIE]
            assert family
            for process in family:
                environment = Path(f"/proc/{process.pid}/environ").read_bytes()
                assert leaked(environment) == set(), process.cmdline()
                assert b"PATH=" in environment
            worker = engine.worker()
            worker.kill()
            worker.wait(10)
    images = [path for path in (tmp_path / "snapshots").rglob("*") if path.is_file()]
    assert images or snapshot == "fork"
    for path in images:
        assert leaked(path.read_bytes()) == set(), path.name


def test_what_a_process_needs_is_passed_on() -> None:
    needed = (
        "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "SSL_CERT_FILE",
        "HF_HOME", "TESSDATA_PREFIX", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TORCHINDUCTOR_CACHE_DIR", "VLLM_CPU_KVCACHE_SPACE",
        "VLLM_MAX_TOKENS_PER_EXPERT",
    )  # fmt: skip
    environment = {**dict.fromkeys(needed, "x"), **PLANTED}
    assert process_variables(environment) == dict.fromkeys(needed, "x")


@pytest.mark.soak
def test_the_engine_of_a_page_gets_its_settings_and_no_secret_of_the_page(tmp_path: Path) -> None:
    with closing(PostgresServer()) as store:
        address = store.address().replace("//postgres@", f"//postgres:{value('DORMOUSE_STORE')}@")
        planted = {**PLANTED, "DORMOUSE_STORE": address}
        with ServerProcess("ui.app", ["--no-browser", "--data", str(tmp_path)], planted) as page:
            page.wait()
            (engine,) = psutil.Process(page.pid).children()
            environment = Path(f"/proc/{engine.pid}/environ").read_bytes()
            assert value("DORMOUSE_STORE") in Path(f"/proc/{page.pid}/environ").read_text()
    # Its own key is one that the page made.
    assert leaked(environment) == {"DORMOUSE_ADMIN_KEY", "dormouse_admin_key"}
    assert b"PATH=" in environment and b"DORMOUSE_API_KEYS=" in environment


def test_a_forked_worker_gets_its_keys_and_no_other_secret(tmp_path: Path) -> None:
    """Memory of the template, as the system shows it to its owner: what a dump of it would hold."""
    with EngineProcess(tmp_path, "fork", **PLANTED) as engine:
        assert kind(engine.ask(Authorization=f"Bearer {value('DORMOUSE_API_KEYS')}")) == "created"
        worker = engine.worker()
        template = worker.parent()
        assert template is not None
        assert leaked(memory(template.pid)) == set()
        assert leaked(memory(worker.pid)) <= {"DORMOUSE_API_KEYS", "DORMOUSE_ADMIN_KEY", "dormouse_admin_key"}


def memory(pid: int) -> bytes:
    """All that the process can write to."""
    found = bytearray()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as stream:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if rights.startswith("rw"):
                begin, end = (int(part, 16) for part in span.split("-"))
                stream.seek(begin)
                found += stream.read(end - begin)
    return bytes(found)
