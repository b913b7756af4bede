"""What the documents promise: their sizes, links, recorded runs, figures of the tiers, and the README's examples."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.results.record import RUNS
from serving.http.child_server import ServerProcess

ROOT = Path(__file__).parent.parent
BYTES = {"README.md": 6_000, "ARCHITECTURE.md": 10_000, "CONTRIBUTING.md": 6_000, "docs/inputs.md": 16_000}
"""inputs.md is a table to look things up in; the others are read."""
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(path: Path) -> set[str]:
    """GitHub's names of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_servers_that_a_document_starts_share_no_data_folder(path: Path) -> None:
    """The second one of a folder refuses to start."""
    commands = re.findall(r"^\S*python -m serving .*", path.read_text(encoding="utf-8"), re.MULTILINE)
    folders = [re.findall(r"--data (\S+)", command) for command in commands]
    assert all(folders) and len({folder for (folder,) in folders}) == len(folders)


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_a_document_is_short_and_its_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    most = 6_000 if path.parent.name == "design" else BYTES.get(named(path), 10_000)
    assert len(text.encode()) <= most
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for link in links:
        if not link.startswith("https://"):
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_each_recorded_run_backs_a_claim_of_a_document_and_none_is_missing() -> None:
    linked = {name for path in DOCUMENTS for name in re.findall(r"assets/runs/([\w.-]+\.\w+)", path.read_text())}
    assert linked == {path.name for path in RUNS.iterdir()}


@pytest.mark.parametrize("card", ["h200", "h100"])
def test_the_table_of_gpu_starts_is_that_of_its_run(card: str) -> None:
    run: dict[str, Any] = orjson.loads((RUNS / f"bench-gpu-{card}.json").read_bytes())
    table = (ROOT / "docs" / "benchmarks.md").read_text().partition("<!-- tiers -->")[2].partition("<!-- /tiers -->")[0]
    column = 2 if card == "h200" else 3
    shown = [line.split("|")[column].replace("*", "").strip() for line in table.strip().splitlines()[2:]]
    for found, name in zip(shown, ("context", "host", "disk", "none", "vllm_host"), strict=True):
        if tier := run["tiers"].get(name):
            fastest, slowest = min(tier["samples_s"]), max(tier["samples_s"])
            assert found == f"{tier['median_s']:.2f} s ({fastest:.2f} to {slowest:.2f})"
        else:
            assert found == "not in this run"


def test_each_module_that_a_document_names_exists() -> None:
    for path in DOCUMENTS:
        for name in re.findall(r"`((?:serving|bench|ui)/[\w/.+]*)`", path.read_text()):
            assert (ROOT / name).exists() or (ROOT / f"{name}.py").exists(), f"{path.name}: {name}"


@pytest.mark.soak
def test_the_readmes_python_answers(page_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    (example,) = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(example.replace("http://localhost:7860", page_url), {})  # noqa: S102
    assert "'file': 'handbook-tarnwell-pump.pdf', 'page': 6," in capsys.readouterr().out


@pytest.mark.soak
def test_the_readmes_curl_answers(builtin_process: ServerProcess) -> None:
    (example,) = (found for found in re.findall(r"```bash\n(.+?)```", README, re.DOTALL) if found.startswith("curl"))
    command = example.replace("localhost:8000", builtin_process.wait().removeprefix("http://"))
    done = subprocess.run(["bash", "-ec", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.count('{"embeddings":[[') == 2 and "x-start-kind:" in done.stdout.lower()
    assert '"lines":[{"text":"' in done.stdout
