"""The process that parses: what it imports and holds, and when it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from serving.documents.files import open_file
from serving.documents.parser_pool import ParserPool
from serving.settings import Settings
from tests.support.files import pdf
from tests.support.hostile_pdfs import AMPLE, NESTED, hostile_pdf
from tests.support.readers import list_readers, write_pdf
from tests.support.waiting import until

WORDS = "Some words on an ordinary page"


@pytest.mark.soak
def test_a_reader_that_has_read_much_is_replaced(patient: ParserPool, tmp_path: Path) -> None:
    arguments = {"path": str(write_pdf(tmp_path, pdf([[WORDS]])))}
    seen = set()
    for _ in range(450):
        facts, _ = patient.run("serving.documents.pdfium:count_pages", arguments)
        assert json.loads(facts) == {"count": 1}
        seen |= {process.pid for process in list_readers()}
    assert len(seen) == 3


PARENT = f"""
import sys
from pathlib import Path
from serving.documents.files import open_file
from serving.documents.parser_pool import ParserPool
from serving.settings import Settings
settings = Settings(parser_timeout_s=600, parser_memory_bytes={AMPLE})
open_file(Path(sys.argv[1]), settings, ParserPool(settings).run).read(0)
"""


def test_readers_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    path = write_pdf(tmp_path, hostile_pdf(NESTED))
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(path)], cwd=Path(__file__).parents[3])
    until(lambda: any(child.cpu_times().user > 1 for child in psutil.Process(parent.pid).children()), 60)
    children = psutil.Process(parent.pid).children()
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    assert len(children) == 1 and not psutil.wait_procs(children, timeout=20)[1]


def test_no_key_of_ours_is_in_a_reader(
    patient: ParserPool, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DORMOUSE_API_KEYS", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")
    open_file(write_pdf(tmp_path, pdf([[WORDS]])), settings, patient.run)
    (reader,) = list_readers()
    assert "secret" not in reader.environ().values()


def test_a_reader_imports_little() -> None:
    code = "import sys, serving.documents.parser_process, serving.documents.pdfium; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {name.split(".")[0] for name in found.stdout.split()} & {"gradio", "numpy", "PIL", "pydantic", "ui"}
