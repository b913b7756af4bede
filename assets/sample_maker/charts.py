"""Charts: bars, lines and a ring, drawn without a plotting library."""

from math import cos, radians, sin

from PIL import Image

from .canvas import Canvas, Style

_INK = "#2b2b2b"
_REGIONS = ["Coast", "River valley", "Chalk hills", "Old forest", "City roofs"]
_HARVEST = {
    "2022": ("#f3d9a0", [18.2, 24.6, 15.1, 29.4, 9.7]),
    "2023": ("#e3a535", [21.5, 22.8, 17.9, 33.0, 13.2]),
    "2024": ("#8a4b13", [16.4, 27.3, 19.6, 36.8, 17.5]),
}


def bar_chart() -> Image.Image:
    """Grouped bars: honey per hive in five regions over three years."""
    page = Canvas((1600, 1000), "#fffdf8")
    page.text(110, 100, "Honey harvest by region", Style("title-bold", 54, "#3d2408"))
    note = Style("sans", 26, "#7b6a52")
    page.text(110, 146, "Kilograms per hive, members of the Alder Vale Beekeepers", note)
    bottom, scale = 850, 15.5
    for tick in range(0, 41, 10):
        y = bottom - tick * scale
        page.rule(150, 1520, y, "#e6dfd2", 2)
        page.text(132, y + 9, str(tick), note, "rs")
    for group, region in enumerate(_REGIONS):
        x = 190 + group * 270
        for number, (color, values) in enumerate(_HARVEST.values()):
            left, top = x + number * 70, bottom - values[group] * scale
            page.box(left, top, left + 62, bottom, color)
            label = Style("sans-bold", 21, _INK)
            page.text(left + 31, top - 10, f"{values[group]}", label, "ms")
        page.text(x + 101, bottom + 44, region, Style("sans", 27, _INK), "ms")
    for number, (year, (color, _)) in enumerate(_HARVEST.items()):
        x = 1180 + number * 120
        page.box(x, 82, x + 26, 108, color, radius=4)
        page.text(x + 36, 105, year, Style("sans", 26, _INK))
    foot = "Hives weighed after the last extraction in August; 214 hives reported."
    page.text(110, 958, foot, note.but(size=23))
    return page.finish()


_MONTHS = [
    *("janv.", "févr.", "mars", "avr.", "mai", "juin"),
    *("juil.", "août", "sept.", "oct.", "nov.", "déc."),
]
_VISITS = {
    "Site du Port": ("#1c6e8c", [410, 432, 465, 498, 520, 470, 352, 318, 505, 560, 588, 540]),
    "Site des Tilleuls": ("#d1495b", [300, 292, 310, 305, 288, 262, 0, 0, 342, 398, 431, 445]),
}


def line_chart() -> Image.Image:
    """Two lines in French: visits to two libraries, one closed in summer."""
    page = Canvas((1600, 1000), "#ffffff")
    page.text(110, 100, "Fréquentation des médiathèques", Style("sans-bold", 50, "#16323d"))
    note = Style("sans", 26, "#5f7179")
    page.text(110, 148, "Nombre moyen de visiteurs par jour d’ouverture, année 2024", note)
    left, bottom, step = 180, 860, 118
    for tick in range(0, 601, 100):
        y = bottom - tick * 1.08
        page.rule(left - 20, 1520, y, "#e2e8ea", 2)
        page.text(left - 36, y + 9, str(tick), note.but(size=24), "rs")
    for number, month in enumerate(_MONTHS):
        page.text(left + number * step, bottom + 46, month, note.but(color=_INK), "ms")
    for name, (color, values) in _VISITS.items():
        _draw_series(page, values, color, left, bottom, step)
        end = bottom - values[-1] * 1.08
        page.text(1514, end + 48, name, Style("sans-bold", 26, color), "rs")
    page.box(824, 640, 1072, 732, "#fdf0f1", radius=10)
    closed = Style("sans", 24, "#a52f40")
    page.text(948, 678, "fermé pour travaux", closed, "ms")
    page.text(948, 712, "de juillet à août", closed, "ms")
    page.text(110, 960, "Source : comptage aux portiques, ville de Saint-Orlan", note.but(size=23))
    return page.finish()


def _draw_series(page: Canvas, values: list[int], color: str, left: int, bottom: int, step: int) -> None:
    """Draw the stretches between closed months (zeros)."""
    run: list[tuple[float, float]] = []
    for number, value in enumerate([*values, 0]):
        if value:
            run.append((left + number * step, bottom - value * 1.08))
            continue
        if len(run) > 1:
            page.line(run, color, 6)
        for x, y in run:
            page.dot(x, y, 11, "#ffffff")
            page.dot(x, y, 8, color)
        run = []


_ENERGY = [
    ("Eólica", 41, "#2a6f97"),
    ("Solar", 27, "#f2a541"),
    ("Hidráulica", 14, "#61a5c2"),
    ("Biomasa", 11, "#7a9e4b"),
    ("Gasóleo", 7, "#4a4a4a"),
]


def ring_chart() -> Image.Image:
    """A ring chart in Spanish: where an island's electricity comes from."""
    page = Canvas((1400, 1000), "#f4f8fa")
    page.text(90, 104, "¿De dónde viene la luz de Isla Corvina?", Style("title-bold", 50, "#12344a"))
    note = Style("sans", 26, "#5b7280")
    page.text(90, 152, "Producción eléctrica por fuente, 2024 (porcentaje)", note)
    cx, cy, radius, start = 440, 560, 310, -90.0
    for _, share, color in _ENERGY:
        end = start + share * 3.6
        page.wedge(cx, cy, radius, start + 0.5, end - 0.5, color)
        middle = radians((start + end) / 2)
        x, y = cx + 245 * cos(middle), cy + 245 * sin(middle)
        page.text(x, y + 13, f"{share} %", Style("sans-bold", 34, "#ffffff"), "ms")
        start = end
    page.dot(cx, cy, 175, "#f4f8fa")
    page.text(cx, cy + 4, "96,8", Style("title-bold", 82, "#12344a"), "ms")
    page.text(cx, cy + 52, "GWh en el año", note, "ms")
    for number, (name, share, color) in enumerate(_ENERGY):
        y = 360 + number * 76
        page.box(860, y - 28, 894, y + 6, color, radius=6)
        page.text(914, y, name, Style("sans", 32, _INK))
        page.text(1270, y, f"{share} %", Style("sans-bold", 32, _INK), "rs")
    remark = "El gasóleo solo se usa en las noches sin viento; en 2015 aún suponía el 63%."
    page.block(860, 790, 430, remark, Style("sans-italic", 25, "#3e5666"), 1.45)
    page.text(90, 950, "Cooperativa Eléctrica de Isla Corvina", note.but(size=23))
    return page.finish()
