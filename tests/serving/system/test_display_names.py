from __future__ import annotations

import pytest

from serving.system.display_names import NAME_CHARS, display_name, display_path, escape_cell


@pytest.mark.parametrize(
    ("name", "shown", "path"),
    [
        ("a/b/c.pdf", "c.pdf", "a/b/c.pdf"),
        ("..\\..\\etc\\passwd", "passwd", "etc/passwd"),
        ("../../x", "x", "x"),
        ("/", "unnamed", "unnamed"),
        ("", "unnamed", "unnamed"),
        ("a\x00b\u202ec\n.pdf", "a b c .pdf", "a b c .pdf"),
        (7, "7", "7"),
        ("Mu\u0308ller/Bro\u0308tchen.pdf", "Br\u00f6tchen.pdf", "M\u00fcller/Br\u00f6tchen.pdf"),
    ],
)
def test_names_lead_to_no_folder_and_are_printable(name: object, shown: str, path: str) -> None:
    assert display_name(name) == shown and display_path(name) == path


def test_a_long_name_keeps_its_kind() -> None:
    for shown in (display_name("x" * 400 + ".pdf"), display_path("/".join(["folder"] * 99) + "/page.pdf")):
        assert len(shown) == NAME_CHARS and shown.endswith(".pdf") and "\u2026" in shown


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\t=1", "  =1", "\uff1d1"])
def test_no_cell_is_computed(text: str) -> None:
    assert escape_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["a=b", "1", "", -1, 0.5, None])
def test_other_cells_stay(value: object) -> None:
    assert escape_cell(value) is value
