"""PDFs of made-up pages, each about something else, and questions that exactly one page answers.

Their text is a layer of the PDF, so that the time to add them is that of keeping pages, and not of OCR.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from bench.quality.recall import LabelledQuery
from bench.speed.browser import PACKAGES, BrowserFailed

FILES = 5
LEAST, MOST = 2 * FILES, 1000
"""Pages in all: two in each file at least; each place meets each thing once at most."""
PLACES = (
    "Alderholm", "Brackwater", "Cinderford", "Dunmere", "Eastermoor", "Fennick", "Gallowdale", "Harrowby", "Inverlune",
    "Jessamine", "Kettlewick", "Larkspur", "Marrowgate", "Netherby", "Oakhollow", "Pellworth", "Quillbrook", "Ravenna",
    "Saltmarsh", "Thornbury", "Ulverstone", "Vexley", "Windermoor", "Yarrowfield", "Zennor", "Ashcombe", "Birchanger",
    "Coldharbour", "Drumlin", "Elmstead", "Foxglove", "Greyfriars", "Hollinside", "Islington", "Juniper", "Kingsmead",
    "Longacre", "Millpond", "Northgate", "Otterburn",
)  # fmt: skip
THINGS = (
    "ferry", "library", "bakery", "lighthouse", "swimming pool", "apple orchard", "railway museum", "pottery course",
    "bicycle workshop", "beehive", "planetarium", "fish market", "theatre", "ski rental", "greenhouse", "windmill",
    "chess club", "glass foundry", "vineyard", "fire station", "rowing boat", "observatory", "cheese dairy",
    "music school", "cable car",
)  # fmt: skip
KINDS = ("price list", "rules of use", "minutes of a meeting", "repair report", "timetable")
SAID = (
    "The {thing} of {place} is open from {a} to {b} o'clock, except on public holidays.",
    "Groups of more than {a} people are asked to write {b} days ahead.",
    "A season ticket costs {a}{b} euros and is valid until the end of March.",
    "In case of damage call the caretaker at extension {a}{b}, also at night.",
    "The council of {place} has granted {b},{a}00 euros for the coming year.",
    "Key number {a}-{b} hangs beside the door of the office.",
    "Visitors came from {a} countries, {b} more than in the year before.",
    "The next inspection is due after {b}{a} hours of operation.",
    "Children below {a} years come in free if an adult is with them.",
    "Spare parts are kept in cupboard {b}, shelf {a}.",
    "Please leave bags heavier than {a} kilograms at the counter.",
    "Complaints are answered within {b} working days.",
)
ASKED = (
    "opening hours of the {thing} in {place}", "what did the council of {place} grant for the {thing}?",
    "{place} {thing}", "who repairs the {thing} of {place}?", "when is the {thing} at {place} inspected?",
)  # fmt: skip


def split_pages(pages: int) -> list[int]:
    return [pages // FILES + (number < pages % FILES) for number in range(FILES)]


def pick_subject(number: int) -> tuple[str, str]:
    """Return place and thing of a page; no two pages have the same."""
    place = number % len(PLACES)
    return PLACES[place], THINGS[(place + number // len(PLACES)) % len(THINGS)]


def name_booklet(file: int) -> str:
    return f"booklet {file + 1}, {KINDS[file]}.pdf"


def write_questions(pages: int, count: int) -> list[LabelledQuery]:
    """Return questions spread over all pages, each answered by another page as long as there are enough."""
    step = next(step for step in range(round(0.618 * pages), pages) if math.gcd(step, pages) == 1)
    starts = [sum(split_pages(pages)[:file]) for file in range(FILES)]
    questions = []
    for number in range(count):
        page = number * step % pages
        file = max(file for file in range(FILES) if starts[file] <= page)
        place, thing = pick_subject(page)
        text = ASKED[number % len(ASKED)].format(place=place, thing=thing)
        questions.append(LabelledQuery(text, KINDS[file], name_booklet(file), page - starts[file] + 1))
    return questions


def write_booklets(folder: Path, pages: int, seed: int = 7) -> list[Path]:
    """Draw the files into a folder, and return their paths. Raises BrowserFailed where reportlab is not installed."""
    try:
        from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]
    except ImportError:
        raise BrowserFailed(PACKAGES.format("reportlab")) from None
    draw = random.Random(seed)
    paths, number = [], 0
    for file, size in enumerate(split_pages(pages)):
        paths.append(folder / name_booklet(file))
        canvas = Canvas(str(paths[-1]), pagesize=(595, 842), invariant=True)
        for _ in range(size):
            draw_page(canvas, KINDS[file], *pick_subject(number), draw)
            number += 1
        canvas.save()
    return paths


def draw_page(canvas: Any, kind: str, place: str, thing: str, draw: random.Random) -> None:
    hue = draw.random()
    canvas.setFillColorRGB(0.3 + 0.4 * hue, 0.5, 0.9 - 0.5 * hue)
    canvas.rect(0, 762, 595, 80, stroke=0, fill=1)
    for column in range(12):
        canvas.rect(60 + 40 * column, 60, 28, draw.uniform(20, 160), stroke=0, fill=1)
    canvas.setFillColorRGB(0, 0, 0)
    canvas.setFont("Helvetica-Bold", 22)
    canvas.drawString(60, 730, f"The {thing} of {place}")
    canvas.setFont("Helvetica", 14)
    canvas.drawString(60, 704, f"{kind.capitalize()}, no. {draw.randint(1000, 9999)}")
    canvas.setFont("Helvetica", 11)
    for row, said in enumerate(draw.sample(SAID, len(SAID))):
        text = said.format(thing=thing, place=place, a=draw.randint(3, 12), b=draw.randint(13, 40))
        canvas.drawString(60, 670 - 32 * row, text)
    canvas.showPage()
