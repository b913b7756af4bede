"""A drawing surface kept at twice the page's size, so that every edge comes out smooth."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFont

from .fonts import load_font

SCALE = 2
A4 = (1240, 1754)
WIDE = (1600, 900)

Point = tuple[float, float]
_WIDE_CHARACTER = r"[\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef]"
_TOKEN = re.compile(rf"[「（《]?{_WIDE_CHARACTER}[、。，．：；！？）」》ー]*|(?:(?!{_WIDE_CHARACTER})\S)+|\s+")


@dataclass(frozen=True)
class Style:
    """How a run of text looks."""

    face: str = "sans"
    size: float = 22
    color: str = "#222222"

    def but(self, face: str = "", size: float = 0, color: str = "") -> "Style":
        """This style with some parts replaced."""
        return replace(
            self,
            face=face or self.face,
            size=size or self.size,
            color=color or self.color,
        )


@dataclass(frozen=True)
class Column:
    """One column of a table: its width and how its cells are aligned."""

    width: float
    align: str = "l"


@dataclass(frozen=True)
class TableLook:
    """The colours, styles and row height of a table."""

    head: Style
    body: Style
    head_fill: str = ""
    stripe: str = ""
    rule: str = "#cccccc"
    row: float = 44
    strong: tuple[int, ...] = ()
    strong_face: str = "sans-bold"


class Canvas:
    """A page in the making; all measures are in final pixels."""

    def __init__(self, size: tuple[int, int] = A4, paper: str = "#ffffff") -> None:
        """An empty page."""
        self.width, self.height = size
        self.image = Image.new("RGB", (size[0] * SCALE, size[1] * SCALE), paper)
        self.pen = ImageDraw.Draw(self.image, "RGBA")

    def finish(self) -> Image.Image:
        """The page at its final size."""
        size = (self.width, self.height)
        return self.image.resize(size, Image.Resampling.LANCZOS)

    def font(self, style: Style) -> ImageFont.FreeTypeFont:
        """The font of a style at drawing size."""
        return load_font(style.face, round(style.size * SCALE))

    def measure(self, text: str, style: Style) -> float:
        """The width of a line of text."""
        return self.font(style).getlength(text) / SCALE

    def text(self, x: float, y: float, text: str, style: Style, anchor: str = "ls") -> float:
        """Draw one line at a point (by default the left end of its baseline)."""
        point = (x * SCALE, y * SCALE)
        self.pen.text(point, text, fill=style.color, font=self.font(style), anchor=anchor)
        return x + self.measure(text, style)

    def spaced(self, x: float, y: float, text: str, style: Style, gap: float, align: str = "l") -> None:
        """Draw one line with extra space between the letters."""
        width = sum(self.measure(letter, style) + gap for letter in text) - gap
        x -= {"l": 0.0, "m": width / 2, "r": width}[align]
        for letter in text:
            x = self.text(x, y, letter, style) + gap

    def wrap(self, text: str, style: Style, width: float) -> list[str]:
        """Break text into lines no wider than `width`."""
        lines: list[str] = []
        for paragraph in text.split("\n"):
            line = ""
            for token in _TOKEN.findall(paragraph):
                if line and self.measure((line + token).rstrip(), style) > width:
                    lines.append(line.rstrip())
                    line = token.lstrip()
                else:
                    line += token
            lines.append(line.rstrip())
        return lines

    def block(
        self,
        x: float,
        y: float,
        width: float,
        text: str,
        style: Style,
        leading: float = 1.5,
        align: str = "l",
    ) -> float:
        """Draw wrapped text with its first baseline at y; return the next baseline."""
        lines = self.wrap(text, style, width)
        for number, line in enumerate(lines):
            if align == "j" and number + 1 < len(lines) and " " in line:
                self._justified(x, y, width, line, style)
            else:
                shift = {"m": width / 2, "r": width}.get(align, 0.0)
                anchor = {"m": "ms", "r": "rs"}.get(align, "ls")
                self.text(x + shift, y, line, style, anchor)
            y += style.size * leading
        return y

    def _justified(self, x: float, y: float, width: float, line: str, style: Style) -> None:
        words = line.split()
        spare = width - sum(self.measure(word, style) for word in words)
        for word in words:
            x = self.text(x, y, word, style) + spare / max(1, len(words) - 1)

    def bullets(self, x: float, y: float, width: float, items: Sequence[str], style: Style) -> float:
        """Draw a list with round marks; return the next baseline."""
        for item in items:
            self.dot(x + 6, y - style.size * 0.34, style.size * 0.13, style.color)
            y = self.block(x + 28, y, width - 28, item, style) + style.size * 0.35
        return y

    def line(self, points: Sequence[Point], color: str, width: float = 1) -> None:
        """Draw a line through some points."""
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self.pen.line(scaled, fill=color, width=round(width * SCALE), joint="curve")

    def rule(self, x0: float, x1: float, y: float, color: str, width: float = 1) -> None:
        """Draw a level line."""
        self.line([(x0, y), (x1, y)], color, width)

    def dashes(self, points: Sequence[Point], color: str, width: float) -> None:
        """Draw a dashed line through some points."""
        for (x0, y0), (x1, y1) in pairwise(points):
            length = max(1.0, ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5)
            for start in range(0, int(length), 18):
                a, b = start / length, min(1.0, (start + 10) / length)
                ends = [(x0 + (x1 - x0) * t, y0 + (y1 - y0) * t) for t in (a, b)]
                self.line(ends, color, width)

    def box(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        fill: str | None = None,
        edge: str | None = None,
        stroke: float = 1,
        radius: float = 0,
    ) -> None:
        """Draw a rectangle, with round corners if asked."""
        self.pen.rounded_rectangle(
            (x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE),
            radius=radius * SCALE,
            fill=fill,
            outline=edge,
            width=round(stroke * SCALE),
        )

    def shape(self, points: Sequence[Point], fill: str) -> None:
        """Fill a polygon."""
        self.pen.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=fill)

    def oval(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        fill: str | None = None,
        edge: str | None = None,
        stroke: float = 1,
    ) -> None:
        """Draw an ellipse around a centre."""
        frame = ((x - rx) * SCALE, (y - ry) * SCALE, (x + rx) * SCALE, (y + ry) * SCALE)
        self.pen.ellipse(frame, fill=fill, outline=edge, width=round(stroke * SCALE))

    def dot(self, x: float, y: float, radius: float, fill: str) -> None:
        """Draw a filled circle."""
        self.oval(x, y, radius, radius, fill)

    def wedge(self, x: float, y: float, radius: float, start: float, end: float, fill: str) -> None:
        """Draw a slice of a circle, angles in degrees clockwise from three o'clock."""
        frame = [(c + d) * SCALE for d in (-radius, radius) for c in (x, y)]
        self.pen.pieslice((frame[0], frame[1], frame[2], frame[3]), start, end, fill)

    def arc(
        self,
        x: float,
        y: float,
        radius: float,
        start: float,
        end: float,
        color: str,
        width: float,
    ) -> None:
        """Draw a part of a circle's edge."""
        frame = [(c + d) * SCALE for d in (-radius, radius) for c in (x, y)]
        box = (frame[0], frame[1], frame[2], frame[3])
        self.pen.arc(box, start, end, color, round(width * SCALE))

    def table(
        self,
        x: float,
        y: float,
        columns: Sequence[Column],
        rows: Sequence[Sequence[str]],
        look: TableLook,
    ) -> float:
        """Draw a table whose first row is its head; return the y below it."""
        right = x + sum(column.width for column in columns)
        for number, row in enumerate(rows):
            body = look.body
            if number in look.strong:
                body = body.but(face=look.strong_face)
            fill = look.head_fill if number == 0 else ""
            if number and number % 2 == 0:
                fill = look.stripe
            if fill:
                self.box(x, y, right, y + look.row, fill)
            self._row(x, y, columns, row, look.head if number == 0 else body, look.row)
            y += look.row
            if look.rule:
                self.rule(x, right, y, look.rule)
        return y

    def _row(
        self,
        x: float,
        y: float,
        columns: Sequence[Column],
        cells: Sequence[str],
        style: Style,
        height: float,
    ) -> None:
        base = y + height / 2 + style.size * 0.35
        for column, cell in zip(columns, cells, strict=True):
            place = {"l": 14.0, "m": column.width / 2, "r": column.width - 14}
            self.text(x + place[column.align], base, cell, style, column.align + "s")
            x += column.width
