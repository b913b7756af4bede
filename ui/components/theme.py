"""The look that Gradio's own widgets take; everything else is in assets/style.css. System fonts: nothing is fetched."""

from __future__ import annotations

import gradio as gr
from gradio.themes import Base, Color, sizes

HAZELS = (
    "#fdf4ea", "#f9e4cd", "#f3c99d", "#ecaa68", "#e28e3f", "#c96f1e", "#a85711", "#864410", "#693713", "#572f13",
    "#2f1707",
)  # fmt: skip
PAPERS = (
    "#fbfaf7", "#f4f1ec", "#e7e1d8", "#d3cabd", "#a79c8d", "#7b7164", "#5d554b", "#433d36", "#262a31", "#1a1d23",
    "#121419",
)  # fmt: skip
HAZEL, PAPER = Color(*HAZELS, name="hazel"), Color(*PAPERS, name="paper")
FONT = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace")


def make_theme() -> gr.themes.Base:
    return Base(
        primary_hue=HAZEL,
        secondary_hue=HAZEL,
        neutral_hue=PAPER,
        text_size=sizes.text_md,
        radius_size=sizes.radius_md,
        font=FONT,
        font_mono=MONO,
    ).set(
        # Gradio's own greys and its chosen tab have too little contrast (WCAG AA asks for 4.5).
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        color_accent="*primary_700",
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        border_color_primary_dark="#343a44",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        input_border_color="*neutral_300",
        input_border_color_dark="#3b424d",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="#3b424d",
    )
