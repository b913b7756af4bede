"""Draws every sample: python -m assets.sample_maker [--out DIR] [--only WORD]."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from . import business, charts, civic, handbook, leisure, maps, photo, science
from .fonts import MissingFontError, check_fonts

_IMAGES: dict[str, Callable[[], Image.Image]] = {
    "quarterly-results-marlow.jpg": business.quarterly_results,
    "invoice-aurora-lamps.jpg": business.invoice,
    "org-chart-kestrel-drones.png": business.org_chart,
    "slide-shelf-robots.webp": business.slide_robots,
    "slide-tea-garden-plan.webp": business.slide_tea,
    "chart-honey-harvest.png": charts.bar_chart,
    "chart-frequentation-mediatheques.png": charts.line_chart,
    "chart-energia-isla-corvina.png": charts.ring_chart,
    "fahrplan-quellsee-schifffahrt.jpg": civic.timetable,
    "modulo-iscrizione-nuoto.jpg": civic.form,
    "lettre-infiltration-toiture.jpg": civic.letter,
    "lebenslauf-jonas-feldweg.jpg": civic.resume,
    "notice-water-outage-cuipingyuan.jpg": civic.notice_water,
    "programme-surajpur-community-centre.png": civic.notice_hindi,
    "ricetta-torta-di-nocciole.webp": leisure.recipe,
    "ementa-tasca-do-farol.jpg": leisure.menu,
    "poster-moth-night.webp": leisure.poster,
    "mapa-sendero-de-los-tejos.jpg": maps.trail_map,
    "floor-plan-larch-cottage.png": maps.floor_plan,
    "newspaper-saltmere-courier.jpg": leisure.newspaper,
    "lab-report-well-water.jpg": science.lab_report,
    "abstract-dormouse-torpor.jpg": science.abstract,
    "manual-rice-cooker-care.jpg": science.manual_page,
    "receipt-corner-larder.jpg": photo.receipt_photo,
}
_DOCUMENTS: dict[str, Callable[[], bytes]] = {
    "handbook-tarnwell-pump.pdf": handbook.handbook,
    "mietvertrag-rosenweg-scan.pdf": photo.lease_scan,
}


def _save(image: Image.Image, path: Path) -> None:
    if path.suffix == ".png":
        image.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    elif path.suffix == ".webp":
        image.save(path, quality=85, method=6)
    else:
        image.save(path, quality=85, optimize=True)


def main() -> int:
    """Write the samples whose name holds the word asked for (all without one)."""
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).resolve().parent.parent / "samples"
    parser.add_argument("--out", type=Path, default=here, help="folder to write into")
    parser.add_argument("--only", default="", help="only files whose name holds this")
    options = parser.parse_args()
    try:
        check_fonts()
    except MissingFontError as error:
        print(error, file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    for name, draw in _IMAGES.items():
        if options.only in name:
            _save(draw(), options.out / name)
            print(name)
    for name, write in _DOCUMENTS.items():
        if options.only in name:
            (options.out / name).write_bytes(write())
            print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
