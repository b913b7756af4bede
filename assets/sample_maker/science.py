"""Pages with facts and figures: a lab report, an abstract, a manual page."""

from PIL import Image

from .canvas import Canvas, Column, Style, TableLook

_INK = "#1e2a32"

_WATER = [
    ("Parameter", "Result", "Unit", "Limit", "Verdict"),
    ("pH value at 20 °C", "7.4", "–", "6.5 – 9.5", "pass"),
    ("Conductivity", "612", "µS/cm", "2790", "pass"),
    ("Nitrate", "58.3", "mg/l", "50", "EXCEEDED"),
    ("Chloride", "31", "mg/l", "250", "pass"),
    ("Total iron", "0.08", "mg/l", "0.2", "pass"),
    ("Lead", "0.002", "mg/l", "0.005", "pass"),
    ("Escherichia coli", "0", "per 100 ml", "0", "pass"),
    ("Coliform bacteria", "4", "per 100 ml", "0", "EXCEEDED"),
    ("Turbidity", "0.31", "NTU", "1.0", "pass"),
]
_WATER_NOTE = (
    "The sample does not meet the limits for drinking water. Nitrate points to manure or "
    "fertiliser entering the catchment; the coliforms suggest that surface water gets in "
    "at the well head. Do not use the water for infants. Boiling removes bacteria but "
    "not nitrate. We advise sealing the cover ring and testing again in four weeks."
)


def lab_report() -> Image.Image:
    """A laboratory report on well water."""
    page = Canvas()
    teal, red = "#0f6e6e", "#c0362c"
    page.box(0, 0, 28, 1754, teal)
    page.shape([(128, 96), (152, 96), (152, 136), (182, 196), (98, 196), (128, 136)], teal)
    page.shape([(116, 164), (164, 164), (176, 190), (104, 190)], "#8fd3c8")
    page.text(220, 144, "Limnos Laboratory", Style("sans-bold", 46, _INK))
    page.text(220, 188, "Water, soil and food analysis", Style("sans", 25, "#66757d"))
    page.text(1150, 144, "Test report", Style("title", 46, teal), "rs")
    page.text(1150, 188, "LW-25-03381", Style("mono", 26, _INK), "rs")
    _sample_facts(page)
    look = TableLook(
        head=Style("sans-bold", 22, "#ffffff"),
        body=Style("sans", 24, _INK),
        head_fill=teal,
        stripe="#f5f9f9",
        rule="#d4e2e1",
        row=58,
    )
    columns = [Column(380), Column(150, "r"), Column(190, "m"), Column(170, "r"), Column(170, "r")]
    y = page.table(90, 500, columns, _WATER, look)
    for row in (3, 8):
        top = 500 + row * 58
        page.box(990, top + 10, 1140, top + 48, red, radius=8)
        page.text(1065, top + 36, "EXCEEDED", Style("sans-bold", 20, "#ffffff"), "ms")
    page.text(90, y + 80, "Assessment", Style("sans-bold", 28, teal))
    page.block(90, y + 128, 1060, _WATER_NOTE, Style("sans", 24, _INK), 1.6)
    page.text(90, 1560, "Dr Anneke Strand", Style("title-italic", 44, "#27408b"))
    page.rule(90, 460, 1580, "#9fb3b3", 1.5)
    page.text(90, 1612, "Head of the water section, 22 April 2025", Style("sans", 21, "#5c7376"))
    page.text(90, 1694, "Results refer only to the sample as received.", Style("sans", 21, "#5c7376"))
    return page.finish()


def _sample_facts(page: Canvas) -> None:
    page.box(90, 250, 1150, 450, "#eef6f5", radius=12)
    facts = [
        ("Client", "Fernhill Smallholding"),
        ("Sample", "Private well, 11 m deep"),
        ("Taken", "14 April 2025, 09:20"),
        ("Taken by", "R. Osgood"),
        ("Received", "14 April 2025, 15:05"),
        ("Temperature", "8.6 °C on arrival"),
    ]
    label, body = Style("sans", 21, "#5c7376"), Style("sans-bold", 23, _INK)
    for number, (name, value) in enumerate(facts):
        left, base = 120 + number // 3 * 530, 306 + number % 3 * 54
        page.text(left, base, name, label)
        page.text(left + 150, base, value, body)


_ABSTRACT = (
    "Hazel dormice spend up to seven months of the year in torpor, yet field data on how "
    "often they wake are scarce. We fitted 23 animals in two coppiced woods with "
    "temperature loggers of 0.9 g and recorded skin temperature every ten minutes from "
    "October to April. Bouts of torpor lasted 7.8 days on average and shortened to "
    "3.1 days in the mildest month. Each arousal cost an estimated 4.6 kJ, so that a "
    "winter two degrees warmer than the long-term mean burned 31 per cent more fat. "
    "Animals under leaf litter woke less often than those in nest boxes."
)
_ABSTRACT_END = (
    "We conclude that mild winters threaten dormice through repeated waking and not "
    "through hunger alone. Leaving deep leaf litter beneath hazel stools is a cheap "
    "measure that keeps hibernation sites cool and damp."
)


def abstract() -> Image.Image:
    """A scientific abstract with a small figure."""
    page = Canvas(paper="#fffefa")
    ink, wine = "#201d1a", "#7b2d26"
    head = Style("slab", 22, "#6f675d")
    page.text(130, 120, "Journal of Woodland Mammals 12 (2024), 88–101", head)
    page.text(1110, 120, "Research article", head.but(color=wine), "rs")
    page.rule(130, 1110, 142, ink, 1.5)
    title = "Warm winters and the cost of waking: arousal from torpor in hazel dormice"
    y = page.block(130, 230, 980, title, Style("slab-bold", 46, ink), 1.25)
    page.text(130, y + 14, "Lotte Brandvold¹, Aurelio Pinto², Sanna Meriläinen¹", Style("slab", 27, ink))
    small = head.but(size=21)
    page.text(130, y + 58, "¹ Institute for Forest Ecology, Nordholt   ² University of Campoverde", small)
    top = y + 100
    page.text(170, y + 132, "Abstract", Style("slab-bold", 28, wine))
    body = Style("slab", 25, ink)
    y = page.block(170, y + 180, 940, _ABSTRACT, body, 1.5, "j") + 12
    y = page.block(170, y, 940, _ABSTRACT_END, body, 1.5, "j")
    page.box(130, top, 136, y - 20, wine)
    page.text(
        130, y + 50, "Keywords: Muscardinus avellanarius, hibernation, climate, energy budget", small.but(color=ink)
    )
    _torpor_figure(page, y + 110)
    return page.finish()


def _torpor_figure(page: Canvas, y: float) -> None:
    small = Style("slab", 21, "#4a443d")
    values = [("Oct", 5.2), ("Nov", 8.1), ("Dec", 11.6), ("Jan", 12.4), ("Feb", 9.0), ("Mar", 5.0), ("Apr", 3.1)]
    bottom = y + 380
    for tick in (0, 5, 10):
        level = bottom - tick * 26
        page.rule(210, 1110, level, "#ddd5c8", 1.5)
        page.text(196, level + 7, str(tick), small, "rs")
    for number, (month, days) in enumerate(values):
        x = 250 + number * 124
        page.box(x, bottom - days * 26, x + 70, bottom, "#c98a5b" if days > 8 else "#e2c3a4")
        page.text(x + 35, bottom - days * 26 - 10, f"{days}", small, "ms")
        page.text(x + 35, bottom + 32, month, small, "ms")
    caption = "Figure 1. Mean length of a torpor bout in days, by month (n = 23)."
    page.text(130, bottom + 92, caption, small)


_MANUAL_STEPS = [
    ("1", "電源プラグを抜き、本体が十分に冷めるまで 30 分ほど待ちます。"),
    ("2", "内ぶたのツメを押して外し、ぬるま湯と中性洗剤で洗います。"),
    ("3", "蒸気口キャップを分解し、すき間の汚れを綿棒で取り除きます。"),
    ("4", "内がまはやわらかいスポンジで洗い、水気をふき取ります。"),
    ("5", "すべての部品を乾かしてから、元の位置に取り付けます。"),
]
_MANUAL_TABLE = [
    ("部品", "お手入れの目安", "食器洗い乾燥機"),
    ("内がま", "使うたび", "使えません"),
    ("内ぶた", "使うたび", "使えます"),
    ("蒸気口キャップ", "週に 1 回", "使えます"),
    ("吸気フィルター", "月に 1 回", "使えません"),
]


def manual_page() -> Image.Image:
    """A page of a Japanese rice cooker manual."""
    page = Canvas()
    red, ink = "#c8402f", "#2a2a2a"
    page.box(0, 0, 1240, 150, red)
    page.text(90, 98, "お手入れのしかた", Style("ja-bold", 52, "#ffffff"))
    page.text(1150, 96, "炊飯器 ほのか HK-550", Style("ja", 30, "#ffffff"), "rs")
    _rice_cooker(page)
    y = 262.0
    for number, text in _MANUAL_STEPS:
        page.dot(116, y - 11, 26, red)
        page.text(116, y, number, Style("ja-bold", 30, "#ffffff"), "ms")
        page.block(164, y, 480, text, Style("ja", 26, ink), 1.5)
        y += 124
    page.box(90, 880, 1150, 1064, "#fff1d6", "#e6a93a", 3, 12)
    page.shape([(150, 912), (196, 992), (104, 992)], "#e6a93a")
    page.text(150, 982, "！", Style("ja-bold", 46, "#ffffff"), "ms")
    page.text(230, 938, "注意", Style("ja-bold", 30, "#8a5a00"))
    warning = "本体を水に浸したり、水をかけたりしないでください。感電や故障の原因になります。"
    page.block(230, 988, 880, warning, Style("ja", 27, ink), 1.5)
    look = TableLook(
        head=Style("ja-bold", 26, "#ffffff"),
        body=Style("ja", 27, ink),
        head_fill="#5b5b5b",
        stripe="#f6f4f1",
        rule="#d9d4cd",
        row=72,
    )
    y = page.table(90, 1120, [Column(380), Column(340), Column(340)], _MANUAL_TABLE, look)
    tip = "においが気になるときは、水とクエン酸 20 g を入れ、「洗浄」キーを 3 秒押します。"
    page.block(90, y + 70, 1060, tip, Style("ja", 27, ink), 1.5)
    page.text(620, 1712, "– 24 –", Style("ja", 24, "#777777"), "ms")
    return page.finish()


def _rice_cooker(page: Canvas) -> None:
    x, y = 930, 540
    page.box(690, 200, 1150, 830, "#f6f4f1", radius=16)
    page.box(x - 160, y - 70, x + 160, y + 150, "#ffffff", "#4a4a4a", 4, 44)
    page.box(x - 160, y - 40, x + 160, y - 26, "#4a4a4a")
    page.shape([(x - 150, y - 70), (x - 110, y - 190), (x + 110, y - 190), (x + 150, y - 70)], "#e3ded6")
    page.line([(x - 150, y - 70), (x - 110, y - 190), (x + 110, y - 190), (x + 150, y - 70)], "#4a4a4a", 4)
    page.box(x - 34, y - 210, x + 34, y - 186, "#c8402f", radius=6)
    page.box(x - 80, y + 20, x + 80, y + 90, "#d9e8e2", "#4a4a4a", 3, 10)
    page.text(x, y + 70, "0:30", Style("mono-bold", 38, "#2a2a2a"), "ms")
    label = Style("ja", 24, "#2a2a2a")
    for px, py, tx, ty, name in (
        (x, y - 210, x, y - 274, "蒸気口キャップ"),
        (x - 60, y + 120, x - 110, y + 214, "内がま"),
        (x + 60, y + 84, x + 116, y + 214, "操作パネル"),
    ):
        page.line([(px, py), (tx, ty + (14 if ty < py else -30))], "#c8402f", 2.5)
        page.dot(px, py, 6, "#c8402f")
        page.text(tx, ty, name, label, "ms")
