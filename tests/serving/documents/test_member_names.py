"""Names in a zip that does not say their encoding: each alone, and all of one zip together."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from serving.documents.archives import unpack_members
from serving.documents.member_names import decode_names
from serving.settings import Settings

NAMES = {
    "cp932": ["領収書.png", "テスト.png", "東京都", "写真/山田.jpg", "りんご.png", "会議資料_2024年.pdf", "表.pdf"],
    "gbk": ["发票.pdf", "合同2024.pdf", "中国电信", "照片/张三.jpg", "增值税专用发票.pdf", "小区物业.jpg"],
    "cp1252": ["Müller.pdf", "Größe.png", "café menu.pdf", "niño.jpg", "Äpfel & Öl.pdf", "São Paulo.pdf", "Ærø.pdf"],
    "cp437": ["Müller.pdf", "Größe.png", "café menu.pdf", "niño.jpg", "pâté.pdf", "garçon.pdf", "ÄÖÜ.pdf"],
    "cp850": ["São.pdf", "Übersicht.pdf", "À propos.pdf"],
    "utf-8": ["Müller.pdf", "領収書.png", "发票.pdf", "영수증.pdf", "счёт.pdf"],
}
EACH = [(encoding, [name]) for encoding, names in NAMES.items() for name in names]


@pytest.mark.parametrize(("encoding", "names"), [*NAMES.items(), *EACH])
def test_names_are_read_in_the_encoding_they_were_written_in(encoding: str, names: list[str]) -> None:
    assert decode_names([name.encode(encoding) for name in names]) == names


def test_bytes_that_are_no_text_are_names_too() -> None:
    raw = [bytes(range(0x80, 0x100)), b"\xff\xfe", b"", b"plain.png"]
    names = decode_names(raw)
    assert len(names) == len(raw) and names[3] == "plain.png"


@pytest.mark.parametrize("encoding", ["cp932", "gbk", "cp1252", "utf-8"])
def test_files_of_such_a_zip_are_shown_by_their_names(encoding: str, tmp_path: Path, settings: Settings) -> None:
    """Written without the flag, as Windows programs do it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in NAMES[encoding]:
            info = zipfile.ZipInfo(placeholder(name, encoding))
            archive.writestr(info, name)
    path = tmp_path / "pages.zip"
    data = buffer.getvalue()
    for name in NAMES[encoding]:
        data = data.replace(placeholder(name, encoding).encode(), name.encode(encoding))
    path.write_bytes(data)
    members = list(unpack_members(path, tmp_path, settings))
    assert [member.name for member in members] == NAMES[encoding]
    assert [Path(str(member.found)).read_text() for member in members] == NAMES[encoding]


def placeholder(name: str, encoding: str) -> str:
    """An ASCII name of as many bytes, for the module that writes zips without asking for an encoding."""
    number = NAMES[encoding].index(name)
    return f"{number}".rjust(len(name.encode(encoding)), "x")
