"""The address of a running page: believed while the page holds it, and not afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.repository import ROOT
from ui.core.page_address import FILE, announce_page, find_page

URL = "http://localhost:7860"
HOLD = f"""
import sys
from pathlib import Path
from ui.core.page_address import announce_page
with announce_page(Path(sys.argv[1]), "{URL}"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_it_is_known_while_the_page_runs(tmp_path: Path) -> None:
    assert find_page(tmp_path) == ""
    with announce_page(tmp_path, "http://localhost:1"):
        assert find_page(tmp_path) == "http://localhost:1"
        assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert find_page(tmp_path) == "", "a page that has ended is not believed"
    with announce_page(tmp_path, URL):
        assert find_page(tmp_path) == URL
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_who_means_another_store_is_not_led_to_the_page(tmp_path: Path) -> None:
    store = "postgresql://u:pa55word@h/d"
    with announce_page(tmp_path, URL, store):
        assert find_page(tmp_path, store) == URL
        assert find_page(tmp_path) == find_page(tmp_path, "postgresql://u:pa55word@h/e") == ""
        assert "pa55word" not in (tmp_path / FILE).read_text()
    with announce_page(tmp_path, URL):
        assert find_page(tmp_path, store) == "" and find_page(tmp_path) == URL


def test_a_killed_page_is_not_believed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as page:
        assert page.stdout is not None and page.stdout.readline() == "held\n"
        assert find_page(tmp_path) == URL
        page.kill()
        page.wait(20)
        assert (tmp_path / FILE).read_text() == URL and find_page(tmp_path) == ""


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with announce_page(tmp_path / "other", URL):
        (tmp_path / FILE).symlink_to(tmp_path / "other" / FILE)
        assert find_page(tmp_path) == ""
