"""Pages from an office: results, an invoice, an organisation chart, slides."""

from dataclasses import replace

from PIL import Image

from .canvas import WIDE, Canvas, Column, Style, TableLook

_INK = "#1d2733"
_NAVY = "#14304f"
_TEAL = "#1f7a74"

_RESULTS = [
    ("£ million, unaudited", "Q3 2024", "Q3 2023", "Change"),
    ("Revenue", "48.6", "44.1", "+10.2 %"),
    ("Cost of sales", "(27.9)", "(26.0)", "+7.3 %"),
    ("Gross profit", "20.7", "18.1", "+14.4 %"),
    ("Distribution costs", "(6.2)", "(5.8)", "+6.9 %"),
    ("Administrative expenses", "(7.4)", "(7.1)", "+4.2 %"),
    ("Operating profit", "7.1", "5.2", "+36.5 %"),
    ("Net finance costs", "(0.9)", "(1.0)", "–10.0 %"),
    ("Profit before tax", "6.2", "4.2", "+47.6 %"),
    ("Income tax", "(1.5)", "(1.0)", "+50.0 %"),
    ("Profit for the period", "4.7", "3.2", "+46.9 %"),
    ("Basic earnings per share", "11.8 p", "8.0 p", "+47.5 %"),
]
_SEGMENTS = [
    ("Revenue by segment", "Q3 2024", "Q3 2023", "Change"),
    ("Garden tools", "22.4", "20.9", "+7.2 %"),
    ("Greenhouses", "15.3", "12.6", "+21.4 %"),
    ("Seeds and bulbs", "10.9", "10.6", "+2.8 %"),
]
_RESULTS_NOTE = (
    "Greenhouses grew fastest, helped by the new Hartwell range and an early autumn "
    "order from three national retailers. Lower freight rates lifted the gross margin "
    "to 42.6 % (41.0 %). The board expects full-year operating profit at the upper end "
    "of its guidance of £24 million to £26 million."
)


def quarterly_results() -> Image.Image:
    """A quarterly statement with two tables."""
    page = Canvas()
    page.box(0, 0, 1240, 250, _NAVY)
    page.box(0, 250, 1240, 258, "#d9a441")
    white = Style("title", 58, "#ffffff")
    page.text(90, 122, "Marlow & Thicket plc", white)
    page.text(90, 188, "Third quarter results 2024", white.but(face="sans", size=32))
    page.text(1150, 188, "23 October 2024", white.but("sans", 24, "#c3d0df"), anchor="rs")
    figures = [
        ("£48.6m", "Revenue"),
        ("42.6 %", "Gross margin"),
        ("£7.1m", "Operating profit"),
        ("£11.3m", "Net debt"),
    ]
    for number, (value, label) in enumerate(figures):
        x = 90 + number * 270
        page.box(x, 308, x + 250, 438, "#f1f4f8", radius=10)
        page.text(x + 24, 372, value, Style("title-bold", 46, _NAVY))
        page.text(x + 24, 414, label, Style("sans", 22, "#56657a"))
    look = TableLook(
        head=Style("sans-bold", 23, _NAVY),
        body=Style("sans", 24, _INK),
        stripe="#f7f9fb",
        rule="#d5dce5",
        row=52,
        strong=(3, 6, 8, 10),
    )
    columns = [Column(520), Column(180, "r"), Column(180, "r"), Column(180, "r")]
    y = page.table(90, 480, columns, _RESULTS, look)
    y = page.table(90, y + 40, columns, _SEGMENTS, replace(look, strong=()))
    page.block(90, y + 66, 1060, _RESULTS_NOTE, Style("serif", 24, _INK), 1.55)
    page.rule(90, 1150, 1690, "#d5dce5")
    foot = Style("sans", 19, "#7a8899")
    page.text(90, 1722, "Marlow & Thicket plc · Investor relations", foot)
    page.text(1150, 1722, "Page 1 of 6", foot, "rs")
    return page.finish()


_INVOICE = [
    ("Item", "Description", "Qty", "Unit price", "Amount"),
    ("AL-204", "Halo desk lamp, brushed brass", "12", "64.00", "768.00"),
    ("AL-311", "Fjord floor lamp, oak tripod", "4", "189.50", "758.00"),
    ("AL-118", "Pebble bedside light, sage green", "20", "38.25", "765.00"),
    ("LB-060", "Warm white LED bulb E27, box of 10", "6", "27.00", "162.00"),
    ("SV-010", "Delivery and unpacking on site", "1", "85.00", "85.00"),
]
_INVOICE_SUMS = [
    ("Subtotal", "€ 2,538.00"),
    ("Discount 5 % (frame order)", "– € 126.90"),
    ("VAT 21 %", "€ 506.33"),
]


def _sunrise(page: Canvas, x: float, y: float) -> None:
    for radius, color in ((58, "#fbe3b4"), (42, "#f6c667"), (26, "#e79a2f")):
        page.wedge(x, y, radius, 180, 360, color)
    page.rule(x - 72, x + 72, y + 6, "#3b2a4a", 5)


def invoice() -> Image.Image:
    """An invoice of a lamp maker."""
    page = Canvas()
    _sunrise(page, 162, 150)
    plum, grey = "#3b2a4a", "#6c6475"
    page.text(260, 132, "Aurora Lamps", Style("title-bold", 56, plum))
    small = Style("sans", 21, grey)
    page.text(262, 170, "Lichtkade 14 · 9021 Veldmeer", small)
    page.text(1150, 134, "INVOICE", Style("light", 62, plum), "rs")
    page.rule(90, 1150, 214, "#e4dfe9", 2)
    label, body = Style("sans-bold", 19, "#b0772a"), Style("sans", 23, _INK)
    page.text(90, 270, "BILLED TO", label)
    address = "Hotel Zur Linde\nMs T. Okonjo, purchasing\nBrunnengasse 3\n4410 Oberwald"
    page.block(90, 308, 460, address, body, 1.45)
    facts = [
        ("Invoice number", "AL-2024-0917"),
        ("Invoice date", "17 September 2024"),
        ("Due date", "17 October 2024"),
        ("Your order", "HZL / 5583"),
    ]
    for number, (name, value) in enumerate(facts):
        base = 270 + number * 40
        page.text(690, base, name, body.but(color=grey))
        page.text(1150, base, value, body.but(face="sans-bold"), "rs")
    columns = [
        Column(130),
        Column(500),
        Column(90, "r"),
        Column(160, "r"),
        Column(180, "r"),
    ]
    look = TableLook(
        head=Style("sans-bold", 22, "#ffffff"),
        body=body,
        head_fill=plum,
        stripe="#faf7f2",
        rule="#e4dfe9",
        row=62,
    )
    y = page.table(90, 520, columns, _INVOICE, look) + 60
    _invoice_sums(page, y, body)
    _invoice_foot(page, body, label)
    return page.finish()


def _invoice_sums(page: Canvas, y: float, body: Style) -> None:
    for name, value in _INVOICE_SUMS:
        page.text(690, y, name, body.but(color="#6c6475"))
        page.text(1136, y, value, body, "rs")
        y += 46
    page.box(670, y - 14, 1150, y + 66, "#fbe3b4", radius=8)
    total = Style("sans-bold", 30, "#3b2a4a")
    page.text(690, y + 37, "Total due", total)
    page.text(1136, y + 37, "€ 2,917.43", total, "rs")


def _invoice_foot(page: Canvas, body: Style, label: Style) -> None:
    page.text(90, 1300, "PAYMENT", label)
    terms = (
        "Please transfer the total within 30 days and quote the invoice number. "
        "Account XX91 0000 4411 2026 77, Veldmeer Savings Bank. After the due date "
        "we charge interest of 0.75 % a month."
    )
    page.block(90, 1340, 1060, terms, body, 1.55)
    page.text(90, 1480, "GUARANTEE", label)
    promise = (
        "All lamps carry a five-year guarantee on wiring and switches. Report goods "
        "damaged in transit within eight days, with a photo of the carton."
    )
    page.block(90, 1520, 1060, promise, body, 1.55)
    page.rule(90, 1150, 1660, "#e4dfe9", 2)
    foot = Style("sans", 20, "#8b8394")
    page.text(620, 1702, "Thank you for letting us light your rooms.", foot, "ms")


_CHART_TOP = ("Ines Vallory", "Managing director")
_CHART_BRANCHES = [
    (
        ("Tom Harker", "Operations"),
        ["Workshop\nR. Sandel · 14 staff", "Stores\nP. Quill · 6 staff"],
        "#1f7a74",
    ),
    (
        ("Dr Mei Albrecht", "Engineering"),
        ["Airframes\nJ. Oduya · 9 staff", "Flight software\nK. Lindqvist · 11 staff"],
        "#c4622d",
    ),
    (
        ("Samir Fenwick", "Sales and service"),
        ["Surveying clients\nL. Marsh · 5 staff", "Help desk\nB. Iversen · 4 staff"],
        "#5a4b8a",
    ),
    (
        ("Greta Pohl", "Finance and people"),
        ["Accounts\nN. Castell · 3 staff", "Recruitment\nA. Dray · 2 staff"],
        "#8a2f4b",
    ),
]


def org_chart() -> Image.Image:
    """A landscape organisation chart."""
    page = Canvas((1600, 1040), "#fbfaf7")
    page.text(80, 104, "Kestrel Survey Drones", Style("title-bold", 52, _INK))
    note = Style("sans", 25, "#6a7280")
    page.text(80, 148, "Organisation chart, valid from 1 March 2025", note)
    page.box(610, 200, 990, 320, _INK, radius=14)
    name, role = _CHART_TOP
    page.text(800, 252, name, Style("sans-bold", 30, "#ffffff"), "ms")
    page.text(800, 292, role, Style("sans", 23, "#c8d0da"), "ms")
    line = "#9aa3ad"
    page.line([(800, 320), (800, 380)], line, 3)
    page.rule(245, 1355, 380, line, 3)
    for number, branch in enumerate(_CHART_BRANCHES):
        _branch(page, 245 + number * 370, branch)
    page.box(1120, 214, 1520, 306, "#ffffff", "#9aa3ad", 2, 12)
    page.text(1320, 252, "Safety officer: Noor Ekdal", note.but(color=_INK), "ms")
    page.text(1320, 286, "reports to the director only", note.but(size=21), "ms")
    page.dashes([(990, 260), (1120, 260)], line, 3)
    foot = "60 employees in all; open posts: one test pilot, one buyer."
    page.text(80, 990, foot, note.but(size=22))
    return page.finish()


def _branch(page: Canvas, x: float, branch: tuple[tuple[str, str], list[str], str]) -> None:
    (name, role), teams, color = branch
    page.line([(x, 380), (x, 430)], "#9aa3ad", 3)
    page.box(x - 160, 430, x + 160, 546, color, radius=12)
    page.text(x, 482, name, Style("sans-bold", 27, "#ffffff"), "ms")
    page.text(x, 520, role, Style("sans", 22, "#ffffff"), "ms")
    page.line([(x - 130, 546), (x - 130, 856)], "#9aa3ad", 3)
    for number, team in enumerate(teams):
        y = 610 + number * 160
        page.rule(x - 130, x - 100, y + 58, "#9aa3ad", 3)
        page.box(x - 100, y, x + 160, y + 118, "#ffffff", color, 2.5, 10)
        title, detail = team.split("\n")
        page.text(x + 30, y + 52, title, Style("sans-bold", 24, _INK), "ms")
        page.text(x + 30, y + 88, detail, Style("sans", 21, "#5c6470"), "ms")
    if len(teams) == 2:
        page.box(x - 134, 830, x - 126, 858, "#fbfaf7")


_FINDINGS = [
    ("31 %", "fewer steps walked", "Pickers covered 7.4 km a shift instead of 10.7 km."),
    ("4 min", "to swap a battery", "It was 11 before the charging bay moved to aisle 6."),
    ("0", "collisions in 13 weeks", "Floor markings mattered more than the sensors did."),
]


def slide_robots() -> Image.Image:
    """A slide with three findings."""
    page = Canvas(WIDE, "#10222b")
    page.box(0, 0, 14, 900, "#f2b134")
    eyebrow = Style("sans-bold", 22, "#f2b134")
    page.spaced(90, 116, "WAREHOUSE PILOT, BAY NORTH", eyebrow, 4)
    page.text(90, 200, "What the shelf robots taught us", Style("title", 68, "#ffffff"))
    for number, (value, label, detail) in enumerate(_FINDINGS):
        x = 90 + number * 485
        page.box(x, 280, x + 450, 690, "#19323d", radius=18)
        page.text(x + 38, 420, value, Style("sans-bold", 104, "#5fd0c5"))
        page.text(x + 38, 484, label, Style("sans-bold", 31, "#ffffff"))
        page.block(x + 38, 546, 374, detail, Style("sans", 27, "#b9c9cf"), 1.45)
    ask = "Decision wanted today: six more robots for Bay South, €212,000, live by May."
    page.text(90, 778, ask, Style("sans", 31, "#ffffff"))
    foot = Style("sans", 21, "#7d949d")
    page.text(90, 850, "Brindle Logistics · steering group", foot)
    page.text(1510, 850, "9", foot, "rs")
    return page.finish()


_TEA = [
    ("第一季度", "安装传感器", "土壤湿度与气温，\n共 120 个监测点"),
    ("第二季度", "智能灌溉", "试点面积 40 亩，\n预计节水 25%"),
    ("第三季度", "采摘排班", "手机应用覆盖\n86 名茶农"),
    ("第四季度", "质量追溯", "每罐茶叶附二维码，\n可查产地"),
]


def slide_tea() -> Image.Image:
    """A Chinese slide with a plan in four steps."""
    page = Canvas(WIDE, "#f6f4ea")
    hills = (
        ([(0, 900), (0, 730), (420, 640), (900, 770), (1600, 620), (1600, 900)], "#dfe8cf"),
        ([(0, 900), (0, 810), (520, 760), (1050, 840), (1600, 730), (1600, 900)], "#b9d0a0"),
        ([(0, 900), (0, 870), (700, 825), (1600, 850), (1600, 900)], "#6f9a5b"),
    )
    for points, color in hills:
        page.shape(points, color)
    page.text(100, 160, "云栖谷茶园数字化计划", Style("zh-serif-bold", 64, "#27452f"))
    page.text(100, 222, "2025 年度路线图 · 总预算 380 万元", Style("zh", 31, "#5d7460"))
    page.rule(160, 1440, 320, "#6f9a5b", 4)
    for number, (quarter, title, detail) in enumerate(_TEA):
        x = 100 + number * 355
        page.dot(x + 165, 320, 15, "#f6f4ea")
        page.dot(x + 165, 320, 10, "#c2772c")
        page.box(x, 362, x + 330, 632, "#ffffff", "#c9d8b8", 2, 16)
        page.text(x + 165, 418, quarter, Style("zh", 26, "#c2772c"), "ms")
        page.text(x + 165, 476, title, Style("zh-bold", 38, "#27452f"), "ms")
        page.block(x + 20, 530, 290, detail, Style("zh", 26, "#44523f"), 1.5, "m")
    page.text(1500, 872, "负责人：沈若溪", Style("zh", 25, "#ffffff"), "rs")
    return page.finish()
