"""The page's own colours have the contrast that WCAG AA asks for."""

from __future__ import annotations

import pytest
from gradio.themes import Base

from ui.components.theme import make_theme


def resolve(theme: Base, value: str) -> str:
    """Return the hex colour behind a name such as `*neutral_600`."""
    while value.startswith("*"):
        value = str(getattr(theme, value[1:]))
    return {"white": "#ffffff"}.get(value, value)


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


PAIRS = [
    ("body_text_color_subdued", "body_background_fill"),
    ("body_text_color_subdued", "block_background_fill"),
    ("block_info_text_color", "block_background_fill"),
    ("button_primary_text_color", "button_primary_background_fill"),
    ("button_primary_text_color", "button_primary_background_fill_hover"),
]
DARK = [(f"{text}_dark", f"{background}_dark") for text, background in PAIRS]


@pytest.mark.parametrize(("text", "background"), [*PAIRS, *DARK, ("color_accent", "body_background_fill")])
def test_text_can_be_read(text: str, background: str) -> None:
    theme = make_theme()
    colours = [
        resolve(theme, getattr(theme, name, None) or getattr(theme, name.removesuffix("_dark")))
        for name in (text, background)
    ]
    dark, light = sorted(map(luminance, colours))
    assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{text} {colours[0]} on {colours[1]}"


def test_no_font_is_fetched() -> None:
    theme = make_theme()
    assert theme._get_theme_css() and theme._font_css == theme._stylesheets == []
