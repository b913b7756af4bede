"""Pages that went through a camera or a scanner: a till receipt and a lease."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from reportlab.lib.utils import ImageReader  # type: ignore[import-untyped]
from reportlab.pdfgen.canvas import Canvas as PdfCanvas  # type: ignore[import-untyped]

from .canvas import Canvas, Point, Style

Pixels = NDArray[np.float64]

_RECEIPT = [
    ("Rye loaf, sliced", "3.20"),
    ("Oat milk 1 l   2 x 1.95", "3.90"),
    ("Brown eggs, dozen", "4.15"),
    ("Smoked cheddar 310 g", "6.51"),
    ("Quince jelly", "3.75"),
    ("Leeks 0.842 kg x 2.60", "2.19"),
    ("Candles, beeswax", "7.40"),
    ("Paper bag", "0.15"),
]


def _receipt_paper() -> Image.Image:
    page = Canvas((620, 1120), "#f7f5ef")
    ink = "#2c2c34"
    mono = Style("mono", 24, ink)
    page.text(310, 84, "CORNER LARDER", Style("mono-bold", 42, ink), "ms")
    page.text(310, 124, "16 Tanner Row, Eastwick", mono.but(size=22), "ms")
    page.text(310, 156, "Tel 0555 014 7720", mono.but(size=22), "ms")
    page.dashes([(40, 188), (580, 188)], ink, 2)
    page.text(40, 228, "22/11/2025  17:48", mono)
    page.text(580, 228, "Till 03", mono, "rs")
    y = 290.0
    for name, price in _RECEIPT:
        page.text(40, y, name, mono)
        page.text(580, y, price, mono, "rs")
        y += 46
    page.dashes([(40, y - 12), (580, y - 12)], ink, 2)
    page.text(40, y + 46, "TOTAL", Style("mono-bold", 40, ink))
    page.text(580, y + 46, "31.25", Style("mono-bold", 40, ink), "rs")
    for number, (name, value) in enumerate((("Cash", "40.00"), ("Change", "8.75"), ("VAT 5 % incl.", "1.49"))):
        page.text(40, y + 104 + number * 42, name, mono)
        page.text(580, y + 104 + number * 42, value, mono, "rs")
    page.text(310, y + 262, "You were served by Odile", mono.but(size=22), "ms")
    page.text(310, y + 296, "Returns within 14 days", mono.but(size=22), "ms")
    bars = np.random.default_rng(5).integers(2, 7, 60)
    x = 130.0
    for number, width in enumerate(bars):
        if number % 2 == 0 and x < 490:
            page.box(x, y + 330, x + float(width), y + 410, ink)
        x += float(width) + 1.5
    return page.finish()


def _homography(source: list[Point], target: list[Point]) -> list[float]:
    """The eight numbers Pillow wants to map target points back onto the source."""
    rows, values = [], []
    for (x, y), (u, v) in zip(target, source, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
        values += [u, v]
    solved = np.linalg.solve(np.array(rows), np.array(values))
    return [float(value) for value in solved]


def _desk(size: tuple[int, int], dice: np.random.Generator) -> Image.Image:
    """A wooden desk top: streaks of brown with a soft grain."""
    width, height = size
    streaks = dice.normal(0, 1, (height, 1)).cumsum(axis=0)
    streaks = (streaks - streaks.mean()) / (streaks.std() + 1e-9)
    grain = dice.normal(0, 1, (height // 2, width // 40)).repeat(2, 0).repeat(40, 1)
    tone = np.zeros((height, width)) + streaks * 7
    tone[: grain.shape[0], : grain.shape[1]] += grain * 3
    colors = np.array([134.0, 92.0, 60.0]) + tone[:, :, None] * np.array([1.0, 0.8, 0.6])
    image = Image.fromarray(np.clip(colors, 0, 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(2.2))


def receipt_photo() -> Image.Image:
    """A till receipt photographed at a slant on a desk."""
    dice = np.random.default_rng(11)
    size = (1200, 1600)
    paper = _receipt_paper()
    corners: list[Point] = [(0, 0), (620, 0), (620, 1120), (0, 1120)]
    target: list[Point] = [(330, 130), (995, 205), (870, 1478), (140, 1402)]
    numbers = _homography(corners, target)
    method, smooth = Image.Transform.PERSPECTIVE, Image.Resampling.BICUBIC
    sheet = paper.transform(size, method, numbers, smooth)
    mask = Image.new("L", paper.size, 255).transform(size, method, numbers, smooth)
    desk = _desk(size, dice)
    shadow = Image.new("L", size, 0)
    shadow.paste(150, (22, 26), mask)
    desk.paste((30, 18, 10), (0, 0), shadow.filter(ImageFilter.GaussianBlur(22)))
    desk.paste(sheet, (0, 0), mask)
    pixels = np.asarray(desk.filter(ImageFilter.GaussianBlur(0.7)), dtype=np.float64)
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    glow = np.exp(-(((x - 380) / 900) ** 2 + ((y - 420) / 1100) ** 2))
    light = 0.66 + 0.36 * glow[:, :, None]
    warm = pixels * light * np.array([1.02, 0.99, 0.93])
    return _grain(warm, dice, 3.0)


def _grain(pixels: Pixels, dice: np.random.Generator, amount: float) -> Image.Image:
    noise = dice.normal(0, amount, pixels.shape[:2])
    noisy = pixels + (noise[:, :, None] if pixels.ndim == 3 else noise)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


_LEASE_PARTIES = (
    "Zwischen Frau Hedwig Ansbacher, Rosenweg 12, 5530 Lindach (Vermieterin) und Herrn "
    "Milan Korda, zurzeit Bachgasse 4, 5530 Lindach (Mieter) wird folgender Vertrag "
    "geschlossen:"
)
_LEASE: list[list[tuple[str, str]]] = [
    [
        (
            "§ 1 Mieträume",
            "Vermietet wird die Wohnung im zweiten Obergeschoss links, Rosenweg 14, mit drei "
            "Zimmern, Küche, Bad und Balkon, Wohnfläche 78 m². Zur Wohnung gehören der "
            "Kellerraum Nr. 6 und ein Stellplatz im Hof.",
        ),
        (
            "§ 2 Mietzeit",
            "Das Mietverhältnis beginnt am 1. März 2025 und läuft auf unbestimmte Zeit. Der "
            "Mieter kann mit einer Frist von drei Monaten zum Monatsende kündigen.",
        ),
        (
            "§ 3 Miete und Nebenkosten",
            "Die Kaltmiete beträgt monatlich 865 Euro, die Vorauszahlung auf Heizung und "
            "Wasser 190 Euro. Die Zahlung ist bis zum dritten Werktag des Monats fällig.",
        ),
        (
            "§ 4 Kaution",
            "Der Mieter hinterlegt 2.595 Euro auf einem Sparkonto. Er darf den Betrag in drei gleichen Raten leisten.",
        ),
    ],
    [
        (
            "§ 5 Tierhaltung",
            "Kleintiere wie Hamster oder Ziervögel sind erlaubt. Hunde und Katzen bedürfen der "
            "schriftlichen Zustimmung der Vermieterin.",
        ),
        (
            "§ 6 Schönheitsreparaturen",
            "Der Mieter streicht Wände und Decken nach Bedarf. Kleinere Reparaturen an "
            "Armaturen, Schaltern und Rollläden trägt er bis 110 Euro im Einzelfall.",
        ),
        (
            "§ 7 Hausordnung",
            "Von 22 Uhr bis 6 Uhr ist Nachtruhe. Treppenhaus und Gehweg werden im Wechsel "
            "gereinigt, der Winterdienst folgt dem Aushang im Flur.",
        ),
        (
            "§ 8 Untervermietung",
            "Die Überlassung an Dritte ist nur mit Erlaubnis gestattet. Besuch bis zu sechs "
            "Wochen gilt nicht als Untervermietung.",
        ),
    ],
]


def _lease_page(number: int) -> Image.Image:
    page = Canvas(paper="#fbfaf6")
    ink = Style("serif", 28, "#23211f")
    y = 190.0
    if number == 0:
        page.text(620, y, "Mietvertrag", ink.but("serif-bold", 54), "ms")
        page.text(620, y + 48, "über eine Wohnung", ink.but(size=28), "ms")
        y = page.block(140, y + 130, 960, _LEASE_PARTIES, ink, 1.55, "j") + 36
    for title, text in _LEASE[number]:
        page.text(140, y, title, ink.but(face="serif-bold", size=31))
        y = page.block(140, y + 50, 960, text, ink, 1.6, "j") + 40
    if number == 1:
        page.text(140, y + 60, "Lindach, den 10. Februar 2025", ink)
        for x, name, role in ((140, "H. Ansbacher", "Vermieterin"), (680, "Milan Korda", "Mieter")):
            page.text(x + 20, y + 216, name, Style("title-italic", 50, "#24306b"))
            page.rule(x, x + 400, y + 236, "#55514b", 1.5)
            page.text(x, y + 270, role, ink.but(size=22))
    page.text(620, 1680, f"Seite {number + 1} von 2", ink.but(size=21), "ms")
    return page.finish()


def lease_scan() -> bytes:
    """The lease as a scanner would save it: two grey pictures in a PDF, no text layer."""
    dice = np.random.default_rng(23)
    store = BytesIO()
    pdf = PdfCanvas(store, pagesize=(595.2, 841.92), invariant=1)
    pdf.setTitle("Scan")
    for number, slant in enumerate((0.7, -0.9)):
        page = _lease_page(number).convert("L")
        page = page.rotate(slant, Image.Resampling.BICUBIC, fillcolor=244)
        pixels = np.asarray(page.filter(ImageFilter.GaussianBlur(0.6)), dtype=np.float64)
        edge = np.minimum(np.arange(page.width) / 90, 1.0)
        scan = _grain(pixels * (0.72 + 0.28 * edge)[None, :] * 0.97, dice, 1.6)
        picture = BytesIO()
        scan.save(picture, "JPEG", quality=62)
        picture.seek(0)
        pdf.drawImage(ImageReader(picture), 0, 0, 595.2, 841.92)
        pdf.showPage()
    pdf.save()
    return store.getvalue()
