"""Finds Tesseract for the tests, or gets it: `python -m tests.support.tesseract` (as root on Debian and Ubuntu).

With it come the languages of five scripts, and the fonts that their pages are drawn in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache

from serving.embedders.builtin.tesseract import find_tesseract

SCRIPTS = ("Cyrillic", "Greek", "Arabic", "Devanagari", "Korean")
PACKAGES = (
    "tesseract-ocr tesseract-ocr-rus tesseract-ocr-ell tesseract-ocr-ara tesseract-ocr-hin tesseract-ocr-kor"
    " fonts-noto-core fonts-noto-cjk libfribidi0"
)
ADVICE = f"no Tesseract with five scripts, or no fonts, for the tests: apt-get install {PACKAGES}"
REQUIRED = "TESTS_NEED_TESSERACT"
"""Set by make test-ocr: without Tesseract its tests fail there, elsewhere they are skipped."""
FONTS = (
    "/usr/share/fonts/truetype/noto/NotoNaskhArabic-Regular.ttf",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
)


@cache
def is_missing() -> bool:
    """Return whether the tests have to be skipped: not where they are required."""
    return not is_installed() and not os.environ.get(REQUIRED)


def is_installed() -> bool:
    found = find_tesseract()
    return found is not None and set(SCRIPTS) <= set(found.scripts) and all(map(os.path.exists, FONTS))


def install() -> None:
    if not shutil.which("apt-get") or os.geteuid() != 0:
        sys.exit(ADVICE)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES.split()]):
        print("+ apt-get", *command, flush=True)
        subprocess.run(["apt-get", *command], env=quiet, timeout=900, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    if not is_installed():
        install()
    if not is_installed():
        sys.exit(ADVICE)
