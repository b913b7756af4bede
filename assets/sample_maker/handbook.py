"""A six-page product handbook: a PDF with a real text layer."""

from collections.abc import Callable
from io import BytesIO

from reportlab.lib import colors  # type: ignore[import-untyped]
from reportlab.lib.pagesizes import A4  # type: ignore[import-untyped]
from reportlab.lib.styles import ParagraphStyle  # type: ignore[import-untyped]
from reportlab.pdfbase import pdfmetrics  # type: ignore[import-untyped]
from reportlab.pdfbase.ttfonts import TTFont  # type: ignore[import-untyped]
from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]
from reportlab.platypus import Paragraph, Table, TableStyle  # type: ignore[import-untyped]

from .fonts import font_path

_WIDTH, _HEIGHT = A4
_GREEN = colors.HexColor("#1d5c4a")
_PALE = colors.HexColor("#e9f3ee")
_LINE = colors.HexColor("#bcd3c8")
_AMBER = colors.HexColor("#e2952b")
_INK = colors.HexColor("#1f2a27")
_LEFT, _RIGHT = 56.0, _WIDTH - 56.0

_BODY = ParagraphStyle("body", fontName="sans", fontSize=12.5, leading=20, textColor=_INK)
_HEAD = ParagraphStyle("head", parent=_BODY, fontName="sans-bold", fontSize=15, leading=23, textColor=_GREEN)
_CELL = ParagraphStyle("cell", parent=_BODY, fontSize=11.5, leading=16.5)
_CELL_HEAD = ParagraphStyle("cell head", parent=_CELL, fontName="sans-bold", textColor=colors.white)

_CONTENTS = [
    ("Safety", "1"),
    ("Installation", "2"),
    ("Maintenance schedule", "3"),
    ("Troubleshooting", "4"),
    ("Warranty", "5"),
    ("Specifications", "6"),
]
_SAFETY = [
    "Connect the pump only to a socket with a residual-current breaker of 30 mA.",
    "Never lift the pump by its cable. Use the carrying handle and a rope.",
    "Keep children and swimmers out of the pond while the pump is running.",
    "The pump is not made for petrol, milk or salt water.",
]
_INSTALLATION = [
    "Unpack the pump and check that the strainer, the float switch and the elbow are in the box.",
    "Screw the elbow onto the outlet, hand-tight, with the rubber ring facing the pump.",
    "Push a 32 mm hose over the elbow and fix it with the steel clamp.",
    "Tie the rope to the handle and lower the pump until it stands on firm ground, at least 15 cm above the mud.",
    "Set the length of the float cable: the pump starts when the float rises and stops when it hangs down.",
    "Lead the cable upward in a drip loop and plug it in.",
]
_MAINTENANCE = [
    ("Part", "What to do", "How often"),
    ("Strainer", "Rinse off leaves and algae with a soft brush", "Every week"),
    ("Float switch", "Lift by hand and listen for the click", "Every month"),
    ("Impeller", "Remove four screws, clear hair and grit", "Every 3 months"),
    ("Shaft seal", "Look for oil traces on the housing", "Every 6 months"),
    ("Cable", "Check the sheath for cuts; do not patch it", "Every 6 months"),
    ("Whole pump", "Drain, dry and store free of frost", "Before winter"),
]
_TROUBLE = [
    ("What you notice", "Likely cause", "Remedy"),
    ("Pump does not start", "Breaker has tripped", "Reset it; if it trips again, call the service"),
    ("Motor hums, no water", "Impeller is stuck", "Unplug and clear the impeller"),
    ("Weak flow", "Hose is kinked or longer than 25 m", "Straighten or shorten the hose"),
    ("Pump never stops", "Float is caught on the wall", "Move the pump away from the edge"),
    ("Stops after ten minutes", "Overheating, code E4", "Let it cool for 20 minutes in deeper water"),
    ("Loud rattling", "Gravel behind the strainer", "Open the base and rinse"),
]
_WARRANTY = [
    (
        "What is covered",
        "Tarnwell repairs or replaces any pump that fails because of a fault in material or "
        "workmanship within 36 months of purchase. Keep the till slip: it is your proof.",
    ),
    (
        "What is not covered",
        "Wear of the shaft seal, damage by frost, running dry and repairs by others end the "
        "warranty. A cut cable is never covered.",
    ),
    (
        "How to claim",
        "Send the pump, dry and packed, with a short note on the fault to Tarnwell Service, "
        "Millrace 7, Oldbeck. We pay the postage when the claim is accepted and answer within "
        "ten working days.",
    ),
]
_SPECIFICATIONS = [
    ("Property", "P40", "P60"),
    ("Rated power", "400 W", "620 W"),
    ("Greatest flow", "8,500 l/h", "12,000 l/h"),
    ("Greatest lift", "7.5 m", "9.2 m"),
    ("Immersion depth", "5 m", "7 m"),
    ("Grain size", "up to 5 mm", "up to 20 mm"),
    ("Noise at one metre", "52 dB(A)", "57 dB(A)"),
    ("Cable", "10 m, H05RN-F", "10 m, H07RN-F"),
    ("Weight", "4.3 kg", "6.1 kg"),
]


def _register_fonts() -> None:
    for face in ("sans", "sans-bold", "title-bold"):
        pdfmetrics.registerFont(TTFont(face, str(font_path(face))))


def _paragraph(pdf: Canvas, x: float, y: float, width: float, text: str, style: ParagraphStyle) -> float:
    """Set a paragraph with its top at y; return the y below it."""
    block = Paragraph(text, style)
    _, height = block.wrap(width, _HEIGHT)
    block.drawOn(pdf, x, y - height)
    return float(y - height)


def _frame(pdf: Canvas, number: int, title: str) -> None:
    pdf.setFillColor(_GREEN)
    pdf.rect(0, _HEIGHT - 96, _WIDTH, 96, stroke=0, fill=1)
    pdf.setFillColor(_AMBER)
    pdf.rect(0, _HEIGHT - 101, _WIDTH, 5, stroke=0, fill=1)
    pdf.setFillColor(colors.white)
    pdf.setFont("title-bold", 30)
    pdf.drawString(_LEFT, _HEIGHT - 64, title)
    pdf.setFillColor(colors.HexColor("#6d807a"))
    pdf.setFont("sans", 9)
    pdf.drawString(_LEFT, 36, "Tarnwell garden pumps P40 and P60 – handbook")
    pdf.drawRightString(_RIGHT, 36, f"Page {number}")


def _grid(pdf: Canvas, y: float, rows: list[tuple[str, str, str]], widths: list[float]) -> float:
    cells = [[Paragraph(cell, _CELL if number else _CELL_HEAD) for cell in row] for number, row in enumerate(rows)]
    table = Table(cells, colWidths=widths)
    look = [
        ("BACKGROUND", (0, 0), (-1, 0), _GREEN),
        ("ROWBACKGROUNDS", (0, 1), (-1, -1), [colors.white, _PALE]),
        ("LINEBELOW", (0, 0), (-1, -1), 0.6, _LINE),
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ("TOPPADDING", (0, 0), (-1, -1), 14),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 14),
    ]
    table.setStyle(TableStyle(look))
    _, height = table.wrap(_RIGHT - _LEFT, _HEIGHT)
    table.drawOn(pdf, _LEFT, y - height)
    return float(y - height)


def _pump(pdf: Canvas, x: float, y: float) -> None:
    """A simple picture of the pump, its lower left corner at x, y."""
    pdf.setFillColor(_PALE)
    pdf.roundRect(x - 20, y - 20, 200, 220, 12, stroke=0, fill=1)
    pdf.setFillColor(_GREEN)
    pdf.roundRect(x + 30, y + 36, 100, 104, 16, stroke=0, fill=1)
    pdf.roundRect(x + 22, y, 116, 40, 6, stroke=0, fill=1)
    pdf.setStrokeColor(_GREEN)
    pdf.setLineWidth(8)
    pdf.arc(x + 56, y + 118, x + 104, y + 166, 0, 180)
    pdf.setLineWidth(1)
    pdf.setStrokeColor(colors.white)
    for slot in range(7):
        pdf.line(x + 36 + slot * 15, y + 8, x + 36 + slot * 15, y + 30)
    pdf.setFillColor(_AMBER)
    pdf.rect(x + 130, y + 60, 40, 22, stroke=0, fill=1)
    pdf.circle(x + 80, y + 92, 22, stroke=0, fill=1)
    pdf.setFillColor(colors.white)
    pdf.setFont("sans-bold", 14)
    pdf.drawCentredString(x + 80, y + 87, "P40")


def _safety(pdf: Canvas) -> None:
    y = _paragraph(pdf, _LEFT, 700, 260, "In this handbook", _HEAD) - 6
    for title, page in _CONTENTS:
        pdf.setFillColor(_INK)
        pdf.setFont("sans", 12.5)
        pdf.drawString(_LEFT, y - 14, title)
        pdf.drawRightString(_LEFT + 250, y - 14, page)
        pdf.setStrokeColor(_LINE)
        pdf.line(_LEFT, y - 23, _LEFT + 250, y - 23)
        y -= 33
    _pump(pdf, 370, 500)
    y = _paragraph(pdf, _LEFT, 425, 480, "Before you plug it in", _HEAD) - 8
    for rule in _SAFETY:
        pdf.setFillColor(_AMBER)
        pdf.circle(_LEFT + 6, y - 11, 4, stroke=0, fill=1)
        y = _paragraph(pdf, _LEFT + 24, y, 455, rule, _BODY) - 16


def _installation(pdf: Canvas) -> None:
    y = 690.0
    for number, step in enumerate(_INSTALLATION, 1):
        pdf.setFillColor(_AMBER)
        pdf.circle(_LEFT + 14, y - 12, 14, stroke=0, fill=1)
        pdf.setFillColor(colors.white)
        pdf.setFont("sans-bold", 13)
        pdf.drawCentredString(_LEFT + 14, y - 17, str(number))
        y = min(_paragraph(pdf, _LEFT + 46, y - 2, 430, step, _BODY), y - 28) - 26
    pdf.setFillColor(_PALE)
    pdf.roundRect(_LEFT, y - 104, _RIGHT - _LEFT, 96, 8, stroke=0, fill=1)
    hint = "A second person makes the lowering easier. Allow about half an hour for the whole job."
    top = _paragraph(pdf, _LEFT + 20, y - 20, 440, "Good to know", _HEAD)
    _paragraph(pdf, _LEFT + 20, top - 2, 440, hint, _CELL)


def _maintenance(pdf: Canvas) -> None:
    intro = "Unplug the pump before every job. Wear gloves: the impeller has sharp edges."
    y = _paragraph(pdf, _LEFT, 690, 480, intro, _BODY) - 22
    y = _grid(pdf, y, _MAINTENANCE, [110, 253, 120]) - 28
    _paragraph(pdf, _LEFT, y, 480, "Order the seal kit under part number TW-4417.", _BODY)


def _troubleshooting(pdf: Canvas) -> None:
    y = _grid(pdf, 690, _TROUBLE, [140, 168, 175]) - 28
    text = "Nothing helps? Call the service on weekdays from 8 to 17: 0700 555 0126."
    _paragraph(pdf, _LEFT, y, 480, text, _BODY)


def _warranty(pdf: Canvas) -> None:
    y = 690.0
    for title, text in _WARRANTY:
        y = _paragraph(pdf, _LEFT, y, 480, title, _HEAD) - 4
        y = _paragraph(pdf, _LEFT, y, 480, text, _BODY) - 30
    pdf.setStrokeColor(_AMBER)
    pdf.setLineWidth(2)
    pdf.circle(_WIDTH / 2, y - 116, 74, stroke=1, fill=0)
    pdf.circle(_WIDTH / 2, y - 116, 66, stroke=1, fill=0)
    pdf.setFillColor(_GREEN)
    pdf.setFont("title-bold", 44)
    pdf.drawCentredString(_WIDTH / 2, y - 122, "36")
    pdf.setFont("sans", 12)
    pdf.drawCentredString(_WIDTH / 2, y - 144, "months")


def _specifications(pdf: Canvas) -> None:
    y = _grid(pdf, 690, _SPECIFICATIONS, [203, 140, 140]) - 28
    note = "Measured with clean water at 15 °C. Both models run on 230 V, 50 Hz."
    _paragraph(pdf, _LEFT, y, 480, note, _BODY)


_PAGES: list[tuple[str, Callable[[Canvas], None]]] = [
    ("Contents and safety", _safety),
    ("Installation", _installation),
    ("Maintenance schedule", _maintenance),
    ("Troubleshooting", _troubleshooting),
    ("Warranty", _warranty),
    ("Specifications", _specifications),
]


def handbook() -> bytes:
    """The handbook of a garden pump."""
    _register_fonts()
    store = BytesIO()
    pdf = Canvas(store, pagesize=A4, invariant=1)
    pdf.setTitle("Tarnwell P40 and P60 handbook")
    for number, (title, draw) in enumerate(_PAGES, 1):
        _frame(pdf, number, title)
        draw(pdf)
        pdf.showPage()
    pdf.save()
    return store.getvalue()
