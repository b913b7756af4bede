"""`dormouse list`, in a data folder and on a running page."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from tests.support.commands import Dormouse, write_files
from tests.support.files import pdf


def test_collections_and_files_are_listed(anywhere: Dormouse, name: str, tmp_path: Path) -> None:
    manual = pdf([["coffee"], ["swimming"]])
    write_files(tmp_path, {"in/m.pdf": manual})
    anywhere("add", tmp_path / "in", "--collection", name)
    listed = anywhere("list", "--json")
    (found,) = [one for one in listed.select("collection") if one["name"] == name]
    assert found["pages"] == 2 and re.fullmatch(r"c-[0-9a-f]{32}", found["id"]) and found["fingerprint"]
    assert f"{name}  " in anywhere("list").out and found["id"] in anywhere("list", "--collection", name).out
    files = anywhere("list", "--files", "--collection", found["id"], "--json")
    digest = hashlib.sha256(manual).hexdigest()
    assert files.records == [{"type": "file", "file": "in/m.pdf", "pages": 2, "pages_of_file": 2, "sha256": digest}]
    assert {"files": 1, "pages": 2}.items() <= files.summary.items()
    assert anywhere("list", "--files", "--collection", name).out == "     2  in/m.pdf\n"


def test_what_is_not_there_is_told(anywhere: Dormouse, name: str) -> None:
    anywhere("add", Path(__file__).parent / "__init__.py", "--collection", name)  # begins a library
    for words in (("--collection", "nobody's"), ("--files", "--collection", "nobody's")):
        found = anywhere("list", *words)
        assert found.code == 1 and 'there is no collection "nobody\'s"' in found.err
    assert anywhere("list", "--files").code == 2
    gone = anywhere("list", "--files", "--collection", "c-" + 32 * "0")
    assert gone.code == 1 and "no such collection" in gone.err
