"""A trail map and a floor plan."""

from collections.abc import Sequence
from itertools import pairwise
from math import cos, pi, sin

from PIL import Image

from .canvas import Canvas, Point, Style

_INK = "#2a2320"

_PLACES: list[tuple[float, float, str, str]] = [
    (180, 850, "Puente Viejo", "km 0 · aparcamiento"),
    (410, 690, "Fuente del Tejo", "km 2,1 · agua potable"),
    (700, 760, "Molino Quemado", "km 4,6 · ruinas"),
    (860, 480, "Mirador del Buitre", "km 7,3 · 1.248 m"),
    (1180, 400, "Refugio La Cernada", "km 9,8 · 12 plazas"),
]


def trail_map() -> Image.Image:
    """A Spanish trail map with height lines."""
    page = Canvas((1600, 1130), "#e9edd9")
    for center, rings, color in (((900, 390), 7, "#c9b98f"), ((320, 400), 5, "#c9b98f")):
        for ring in range(rings, 0, -1):
            page.shape(_hill(*center, ring * 62), ("#d8dfbd", "#e3e3c4")[ring % 2])
            page.line(_hill(*center, ring * 62), color, 1.6)
    river = [(0, 960), (160, 890), (330, 905), (520, 860), (760, 900), (980, 840), (1250, 930), (1600, 850)]
    page.line(_smooth(river), "#7fb7d6", 18)
    page.text(1040, 830, "río Albar", Style("serif-italic", 28, "#2f6f95"))
    path = [
        (180, 850),
        (260, 770),
        (410, 690),
        (560, 740),
        (700, 760),
        (790, 640),
        (860, 480),
        (1010, 420),
        (1180, 400),
    ]
    page.line(path, "#ffffff", 11)
    page.dashes(path, "#c0392b", 6)
    for x, y, name, detail in _PLACES:
        page.dot(x, y, 15, "#ffffff")
        page.dot(x, y, 10, "#c0392b")
        width = max(page.measure(name, Style("sans-bold", 25)), page.measure(detail, Style("sans", 21))) + 32
        top = y - 104 if name.startswith("Fuente") else y + 12
        page.box(x + 20, top, x + 20 + width, top + 78, "#fffffff0", "#b9b08c", 1.5, 8)
        page.text(x + 36, top + 32, name, Style("sans-bold", 25, _INK))
        page.text(x + 36, top + 64, detail, Style("sans", 21, "#5b5340"))
    page.box(0, 0, 1600, 140, "#3f5b3a")
    page.text(60, 92, "Sendero de los Tejos", Style("title-bold", 58, "#ffffff"))
    page.text(1540, 66, "Ruta lineal PR-17 · dificultad media", Style("sans", 26, "#dfe8cf"), "rs")
    page.text(1540, 106, "Subida 640 m · unas 4 horas y media", Style("sans", 26, "#dfe8cf"), "rs")
    _map_legend(page)
    return page.finish()


def _hill(x: float, y: float, radius: float) -> list[Point]:
    points = []
    for step in range(73):
        angle = step * pi / 36
        swell = radius * (1 + 0.16 * sin(3 * angle + radius / 90) + 0.07 * cos(5 * angle))
        points.append((x + 1.25 * swell * cos(angle), y + 0.8 * swell * sin(angle)))
    return points


def _smooth(corners: Sequence[Point]) -> list[Point]:
    """Round the corners of a line by cutting them three times."""
    points = list(corners)
    for _ in range(3):
        cut = [points[0]]
        for (x0, y0), (x1, y1) in pairwise(points):
            cut.append((0.75 * x0 + 0.25 * x1, 0.75 * y0 + 0.25 * y1))
            cut.append((0.25 * x0 + 0.75 * x1, 0.25 * y0 + 0.75 * y1))
        points = [*cut, points[-1]]
    return points


def _map_legend(page: Canvas) -> None:
    page.box(0, 1000, 1600, 1130, "#f7f5e8")
    page.rule(0, 1600, 1000, "#b9b08c", 2)
    text = Style("sans", 23, _INK)
    page.dashes([(60, 1048), (130, 1048)], "#c0392b", 6)
    page.text(146, 1056, "camino señalizado en rojo", text)
    page.line([(520, 1048), (590, 1048)], "#7fb7d6", 10)
    page.text(606, 1056, "río o arroyo", text)
    page.text(60, 1104, "Cerrado del 1 de febrero al 15 de abril por la cría del buitre.", text)
    page.text(1540, 1104, "escala 1 : 25.000", text, "rs")
    page.box(1340, 1040, 1440, 1052, _INK)
    page.box(1440, 1040, 1540, 1052, "#ffffff", _INK, 1.5)


_ROOMS: list[tuple[float, float, float, float, str, str, str]] = [
    (150, 250, 640, 600, "Living room", "24.3 m²", "#fdf3df"),
    (640, 250, 960, 600, "Kitchen", "15.9 m²", "#e6f1ee"),
    (960, 250, 1130, 450, "Pantry", "4.8 m²", "#f3ece2"),
    (960, 450, 1130, 600, "WC", "3.6 m²", "#e3eef6"),
    (150, 600, 1130, 720, "Hallway", "16.7 m²", "#f7f5f0"),
    (150, 720, 520, 1080, "Bedroom 1", "18.9 m²", "#f1e8f2"),
    (520, 720, 820, 1080, "Bedroom 2", "15.3 m²", "#f1e8f2"),
    (820, 720, 1130, 900, "Bathroom", "7.9 m²", "#e3eef6"),
    (820, 900, 1130, 1080, "Study", "7.9 m²", "#eef2e2"),
]
_DOORS: list[tuple[Point, Point]] = [
    ((500, 600), (570, 600)),
    ((700, 600), (770, 600)),
    ((1010, 600), (1070, 600)),
    ((960, 340), (960, 400)),
    ((300, 720), (370, 720)),
    ((640, 720), (710, 720)),
    ((860, 720), (930, 720)),
    ((820, 960), (820, 1030)),
    ((150, 630), (150, 695)),
]
_WINDOWS: list[tuple[Point, Point]] = [
    ((250, 250), (520, 250)),
    ((720, 250), (880, 250)),
    ((230, 1080), (430, 1080)),
    ((600, 1080), (740, 1080)),
    ((1130, 780), (1130, 850)),
    ((910, 1080), (1050, 1080)),
]


def floor_plan() -> Image.Image:
    """A floor plan with room names and areas."""
    page = Canvas((1280, 1300), "#ffffff")
    ink = "#2d3440"
    page.text(150, 118, "Larch Cottage", Style("title-bold", 56, ink))
    page.text(150, 164, "Ground floor plan, total area 115.3 m²", Style("sans", 26, "#6b7280"))
    for x0, y0, x1, y1, name, area, fill in _ROOMS:
        page.box(x0, y0, x1, y1, fill, ink, 5)
        middle, y = (x0 + x1) / 2, (y0 + y1) / 2
        page.text(middle, y, name, Style("sans-bold", 26, ink), "ms")
        page.text(middle, y + 36, area, Style("sans", 23, "#5b6472"), "ms")
    page.box(146, 246, 1134, 1084, None, ink, 12)
    for start, end in _DOORS:
        page.line([start, end], "#ffffff", 16)
        page.line([start, end], "#c98d52", 4)
    for start, end in _WINDOWS:
        page.line([start, end], "#ffffff", 8)
        page.line([start, end], "#4a90c2", 3)
    small = Style("sans", 22, "#5b6472")
    page.rule(150, 1130, 1140, "#9aa3ad", 2)
    for x in (150, 1130):
        page.line([(x, 1128), (x, 1152)], "#9aa3ad", 2)
    page.box(580, 1120, 700, 1160, "#ffffff")
    page.text(640, 1148, "11.67 m", small.but(color=ink), "ms")
    page.text(150, 1226, "Front door faces west. Blue: windows. Brown: doors.", small)
    page.text(150, 1260, "Load-bearing wall between kitchen and living room.", small)
    page.shape([(1090, 90), (1112, 160), (1090, 144), (1068, 160)], ink)
    page.text(1090, 80, "N", Style("sans-bold", 26, ink), "ms")
    page.text(1130, 1260, "Scale 1 : 100", small, "rs")
    return page.finish()
