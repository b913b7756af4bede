"""Pages from free time: a recipe, a menu, a poster, a newspaper."""

import random
from math import cos, pi, sin

from PIL import Image

from .canvas import Canvas, Style

_INK = "#2a2320"

_INGREDIENTS = [
    "250 g di nocciole tostate",
    "180 g di zucchero",
    "4 uova fresche medie",
    "100 g di burro",
    "1 cucchiaio di cacao amaro",
    "1 bustina di lievito",
    "scorza di un’arancia",
    "un pizzico di sale",
]
_STEPS = [
    "Tritare le nocciole con due cucchiai di zucchero fino a ottenere una farina fine.",
    "Separare i tuorli dagli albumi; montare i tuorli con il resto dello zucchero finché diventano chiari e spumosi.",
    "Unire il burro fuso, la farina di nocciole, il cacao, il lievito e la scorza.",
    "Montare gli albumi a neve e incorporarli in tre volte, dal basso verso l’alto.",
    "Versare in uno stampo da 24 cm e cuocere a 170 °C per 38 minuti, senza aprire il forno nella prima mezz’ora.",
]


def recipe() -> Image.Image:
    """An Italian recipe with a drawn cake."""
    page = Canvas(paper="#fbf3e6")
    brown, red = "#5a3218", "#b5452c"
    page.box(0, 0, 1240, 560, "#efd9b9")
    _cake(page)
    page.text(90, 190, "Torta di nocciole", Style("title-bold", 84, brown))
    page.text(90, 254, "della zia Ersilia", Style("title-italic", 52, red))
    facts = Style("sans", 26, "#6d513b")
    for number, fact in enumerate(("Per 8 persone", "Preparazione 25 minuti", "Senza farina di grano")):
        page.dot(100, 341 + number * 50, 6, red)
        page.text(120, 350 + number * 50, fact, facts)
    page.box(70, 620, 470, 1240, "#ffffff", radius=16)
    page.text(106, 690, "Ingredienti", Style("title-bold", 42, brown))
    y = 756.0
    for item in _INGREDIENTS:
        page.text(106, y, item, Style("sans", 23, _INK))
        page.rule(106, 434, y + 18, "#ecdfcc", 1.5)
        y += 59
    page.text(530, 690, "Preparazione", Style("title-bold", 42, brown))
    y = 756.0
    for number, step in enumerate(_STEPS, 1):
        page.dot(552, y - 9, 24, red)
        page.text(552, y + 1, str(number), Style("sans-bold", 26, "#ffffff"), "ms")
        y = page.block(600, y, 560, step, Style("serif", 25, _INK), 1.5) + 28
    page.box(70, 1420, 1170, 1640, "#e7c98f", radius=16)
    page.text(110, 1484, "Il trucco", Style("title-bold", 38, brown))
    tip = (
        "Il giorno dopo è ancora più buona. Si conserva quattro giorni sotto una campana "
        "di vetro; servire con panna appena montata o con una crema di mascarpone."
    )
    page.block(110, 1538, 1020, tip, Style("serif-italic", 26, _INK), 1.5)
    return page.finish()


def _cake(page: Canvas) -> None:
    x, y = 910, 350
    page.oval(x, y + 96, 268, 70, "#ffffff", "#d8bd93", 3)
    page.oval(x, y + 70, 210, 54, "#8a5329")
    page.box(x - 210, y - 40, x + 210, y + 70, "#8a5329")
    page.box(x - 210, y + 4, x + 210, y + 26, "#f3e2c4")
    page.oval(x, y - 40, 210, 54, "#b0733d")
    page.oval(x, y - 44, 192, 45, "#c98d52")
    for number in range(12):
        angle = number * pi / 6
        px, py = x + 160 * cos(angle), y - 46 + 34 * sin(angle)
        page.dot(px, py, 13, "#6b3f1c")
        page.dot(px - 3, py - 4, 4, "#d9a86d")


_MENU = [
    (
        "Entradas",
        [
            ("Sopa de peixe com hortelã", "5,50"),
            ("Amêijoas ao alho e coentros", "12,00"),
            ("Queijo de ovelha com doce de abóbora", "7,80"),
        ],
    ),
    (
        "Pratos do mar",
        [
            ("Arroz de polvo malandrinho", "16,50"),
            ("Sardinhas na brasa com pimentos", "11,90"),
            ("Bacalhau no forno com broa", "17,20"),
        ],
    ),
    (
        "Da terra",
        [
            ("Bochechas de porco em vinho tinto", "15,40"),
            ("Caril de grão com espinafres (vegetariano)", "10,60"),
        ],
    ),
    (
        "Sobremesas",
        [
            ("Pudim de mel e canela", "4,80"),
            ("Gelado de figo com amêndoa", "5,20"),
        ],
    ),
]


def menu() -> Image.Image:
    """A Portuguese menu with tile borders."""
    page = Canvas(paper="#fdfaf3")
    blue = "#1d4e89"
    for number in range(16):
        _tile(page, number * 77.5, 0, blue)
        _tile(page, number * 77.5, 1676.5, blue)
    page.shape([(596, 212), (644, 212), (656, 290), (584, 290)], "#c8553d")
    page.box(600, 178, 640, 212, "#f2b134", blue, 3)
    page.shape([(594, 178), (620, 152), (646, 178)], blue)
    page.text(620, 378, "Tasca do Farol", Style("title-bold", 82, blue), "ms")
    page.spaced(620, 428, "EMENTA DE OUTONO", Style("sans", 25, "#c8553d"), 6, "m")
    y = 512.0
    for section, dishes in _MENU:
        page.text(620, y, section, Style("title-italic", 48, "#c8553d"), "ms")
        y += 60
        for dish, price in dishes:
            end = page.text(170, y, dish, Style("serif", 28, _INK))
            page.text(1070, y, price, Style("serif-bold", 28, blue), "rs")
            for x in range(round(end) + 16, 970, 14):
                page.dot(x, y - 6, 1.6, "#b9ad98")
            y += 58
        y += 46
    note = Style("sans", 22, "#6d6355")
    page.text(620, y - 4, "Preços em euros, IVA incluído. Pão e azeitonas: 2,30.", note, "ms")
    page.text(620, y + 34, "Encerrado à segunda-feira. Reservas: 0700 555 0119", note, "ms")
    return page.finish()


def _tile(page: Canvas, x: float, y: float, color: str) -> None:
    side = 77.5
    page.box(x, y, x + side, y + side, "#e9f0f7", "#b8cbe0", 1.5)
    cx, cy = x + side / 2, y + side / 2
    for dx, dy in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
        page.oval(cx + dx * side / 4, cy + dy * side / 4, 13, 13, color)
    page.shape([(cx, y + 8), (x + side - 8, cy), (cx, y + side - 8), (x + 8, cy)], "#e9f0f7")
    page.dot(cx, cy, 12, "#f2b134")


def poster() -> Image.Image:
    """A poster for a night walk among moths."""
    page = Canvas(paper="#14152e")
    for band in range(40):
        page.box(0, band * 30, 1240, band * 30 + 31, f"#{20 + band:02x}{21 + band // 2:02x}{46 + band:02x}")
    page.box(0, 1200, 1240, 1754, "#3c2956")
    dice = random.Random(7)
    for _ in range(130):
        page.dot(dice.uniform(0, 1240), dice.uniform(210, 930), dice.uniform(0.8, 2.6), "#f6edd0")
    page.dot(620, 560, 330, "#f6edd014")
    page.dot(620, 560, 270, "#f4d58d")
    page.dot(540, 480, 40, "#e8c473")
    page.dot(720, 660, 56, "#e8c473")
    _moth(page, 620, 570)
    _hedge(page, dice)
    page.text(620, 190, "Moth Night", Style("title-bold", 150, "#f6edd0"), "ms")
    cream = Style("sans", 34, "#f6edd0")
    page.text(620, 1010, "A lantern walk through the Botanic Garden", cream, "ms")
    page.text(620, 1104, "Friday 19 June, 10 pm", Style("title-bold", 68, "#f4d58d"), "ms")
    page.text(620, 1166, "Meet at the fern house gate", cream, "ms")
    body = cream.but(size=28)
    lines = (
        "Tickets £6, under twelves free. Bring a torch with a red filter.\n"
        "Dr Hollis Wren will show hawk moths at the light trap.\n"
        "If it rains we meet on Saturday instead."
    )
    page.block(120, 1500, 1000, lines, body, 1.6, "m")
    page.spaced(620, 1690, "ASHCOMBE NATURALISTS", Style("sans-bold", 26, "#f4d58d"), 7, "m")
    return page.finish()


def _moth(page: Canvas, x: float, y: float) -> None:
    for side in (-1, 1):
        upper = [(0, -50), (200, -150), (236, -70), (150, 30), (0, 40)]
        lower = [(0, 10), (150, 40), (142, 120), (64, 150), (0, 80)]
        page.shape([(x + side * a, y + b) for a, b in lower], "#8c5f7a")
        page.shape([(x + side * a, y + b) for a, b in upper], "#5b3a63")
        page.dot(x + side * 130, y - 56, 26, "#f4d58d")
        page.dot(x + side * 130, y - 56, 13, "#14152e")
        page.dot(x + side * 92, y + 78, 15, "#f4d58d")
        page.line([(x + side * 8, y - 70), (x + side * 40, y - 130), (x + side * 76, y - 146)], "#2c1b38", 4)
    page.oval(x, y + 20, 20, 92, "#2c1b38")
    page.dot(x, y - 70, 20, "#2c1b38")


def _hedge(page: Canvas, dice: random.Random) -> None:
    for color, top in (("#241a3f", 1330), ("#171130", 1400)):
        for x in range(-20, 1280, 26):
            page.dot(x, top + dice.uniform(0, 40), dice.uniform(34, 62), color)
        page.box(0, top + 30, 1240, 1754, color)


_LEAD = (
    "The swing bridge at Cutler’s Quay will open to foot passengers again on Monday, "
    "eleven months after a runaway barge bent its northern hinge. The harbour office "
    "said the last of 214 rivets was driven home on Thursday evening.",
    "“We had to forge the pin twice,” said chief engineer Dorrit Amble. “Nobody has made "
    "one of that size since 1931.” The repair cost 1.9 million crowns, a third more than "
    "planned, because divers found rot in two oak piles.",
    "Cyclists must push their bicycles until the new deck has settled. Lorries will keep "
    "using the ring road until spring. The rowing ferry that carried commuters during "
    "the closure makes its final crossing on Sunday at six, with free buns for all.",
    "The council has not yet said who will pay the difference. The barge was insured in "
    "a port that no longer answers letters, and a hearing is set for 2 December.",
    "Shopkeepers on the east bank hope the reopening ends a lean year. Baker Ottoline "
    "Reeve said she had lost four customers in ten and let one apprentice go. “If they come back for "
    "the buns I shall be content,” she said.",
)
_SIDE = (
    "A pair of otters has moved into the disused lock at Mill End, to the delight of "
    "schoolchildren and the despair of the angling club. Wardens ask visitors to keep "
    "dogs on a lead below the weir.",
    "The animals were first seen by postman Idris Colm, who took them for wet cats. The "
    "club has counted forty missing trout and wants a fence.",
    "Biologist Petra Hallam thinks the pair will stay. The lock has slow water, deep "
    "roots and no boats, and cubs may follow in April.",
)


def newspaper() -> Image.Image:
    """The front page of a newspaper in two columns."""
    page = Canvas(paper="#f6f1e5")
    ink = "#1f1b16"
    page.text(620, 130, "The Saltmere Courier", Style("title-bold", 92, ink), "ms")
    page.rule(80, 1160, 162, ink, 4)
    page.rule(80, 1160, 206, ink, 1.5)
    small = Style("serif", 21, ink)
    page.text(80, 192, "Saturday 8 November 2025", small)
    page.text(620, 192, "No. 17,406", small, "ms")
    page.text(1160, 192, "Price 2 crowns", small, "rs")
    page.text(620, 290, "Swing bridge reopens at last", Style("serif-bold", 58, ink), "ms")
    body = Style("serif", 25, ink)
    _bridge(page)
    caption = body.but(face="serif-italic", size=19)
    page.block(80, 738, 520, "The bridge on test, seen from the fish market", caption)
    y = 784.0
    for paragraph in _LEAD[:4]:
        y = page.block(80, y, 520, paragraph, body, 1.45, "j") + 14
    page.line([(620, 340), (620, 1670)], "#8d8474", 1.5)
    y = page.block(640, 366, 520, _LEAD[4], body, 1.45, "j") + 30
    page.rule(640, 1160, y - 22, ink, 1.5)
    page.text(640, y + 40, "Otters take over Mill End lock", Style("serif-bold", 32, ink))
    y += 92
    for paragraph in _SIDE:
        y = page.block(640, y, 520, paragraph, body, 1.45, "j") + 14
    _weather(page, y + 10)
    return page.finish()


def _bridge(page: Canvas) -> None:
    page.box(80, 330, 600, 710, "#cfc8b8")
    page.box(80, 590, 600, 710, "#8f8b82")
    page.dot(480, 420, 38, "#ece7da")
    for x, height in ((110, 90), (160, 130), (214, 70), (540, 110)):
        page.box(x, 590 - height, x + 44, 590, "#a39c8d")
    page.box(80, 540, 600, 558, "#3a352d")
    page.box(320, 400, 344, 640, "#3a352d")
    for end in (90, 180, 484, 590):
        page.line([(332, 404), (end, 542)], "#3a352d", 4)
    page.box(296, 620, 368, 710, "#57524a")
    for number in range(9):
        y = 610 + number * 11
        page.rule(90 + number * 37 % 200, 240 + number * 53 % 330, y, "#b5b0a4", 2)


def _weather(page: Canvas, y: float) -> None:
    ink = "#1f1b16"
    page.box(640, y, 1160, y + 330, "#ebe3d0", ink, 2)
    page.text(668, y + 54, "Weather for the weekend", Style("serif-bold", 30, ink))
    rows = (
        ("Saturday", "Fog, then sun, 9 °C"),
        ("Sunday", "Gale from the north-west, 6 °C"),
        ("Monday", "Sleet before noon, 3 °C"),
    )
    for number, (day, text) in enumerate(rows):
        line = y + 116 + number * 52
        page.text(668, line, day, Style("serif-bold", 23, ink))
        page.text(800, line, text, Style("serif", 23, ink))
    page.text(668, y + 286, "High water: 06:42 and 19:05", Style("serif-italic", 23, ink))
