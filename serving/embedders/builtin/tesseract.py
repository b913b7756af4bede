"""Reads pages in scripts that PP-OCR has no letters for, by Tesseract where it is installed (`tesseract-ocr-rus`, ...).

Tesseract runs once a page and step, as a child process with a deadline. Nothing of it is kept between pages: a worker
that a snapshot brings back asks anew what is installed. pytesseract would write each page into a temporary file and
give the child all of our environment.
"""

from __future__ import annotations

import csv
import logging
import re
import shutil
import subprocess
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby

from PIL import Image

from serving.documents.boxes import Direction, clip_box, turn_box
from serving.documents.page import Line
from serving.system.environment import process_variables

LANGUAGES = {
    "Cyrillic": "rus ukr bel bul mkd srp kaz kir mon tgk tat uzb_cyrl aze_cyrl",
    "Greek": "ell grc",
    "Arabic": "ara fas urd pus uig snd kur_ara",
    "Hebrew": "heb yid",
    "Devanagari": "hin mar nep san",
    "Thai": "tha",
    "Korean": "kor",
    "Bengali": "ben asm",
    "Tamil": "tam",
    "Telugu": "tel",
    "Gujarati": "guj",
    "Gurmukhi": "pan",
    "Kannada": "kan",
    "Malayalam": "mal",
    "Oriya": "ori",
    "Sinhala": "sin",
    "Lao": "lao",
    "Khmer": "khm",
    "Myanmar": "mya",
    "Tibetan": "bod dzo",
    "Armenian": "hye",
    "Georgian": "kat",
    "Ethiopic": "amh tir",
    "Syriac": "syr",
    "Thaana": "div",
    "Cherokee": "chr",
}
"""Scripts by the names of Tesseract's own detection, with the languages that it has for each (ISO 639-3)."""
UNICODE_NAMES = {"Korean": "Hangul"}
"""Scripts that Unicode, and so Tesseract's file for a whole script (`script/Hangul`), calls otherwise."""
UNSPACED = frozenset({"Thai", "Lao", "Khmer", "Myanmar", "Tibetan"})
"""Tesseract gives their letters one by one; there is a space only where a phrase ends."""
SPACE_GAPS = {"Korean": 0.25} | dict.fromkeys(UNSPACED, 0.5)
"""Least width of a space between two letters that come one by one, in heights of the line."""
COLUMN_GAP = 2.0
"""Words further apart than this many heights of their line stand in two columns or cells."""
SEGMENTATION = {"Korean": "4"}
"""Tesseract's page segmentation (3, automatic, unless named here): it loses up to all lines of a Korean page. 4 takes
the page for one column; COLUMN_GAP parts the columns again."""
MAX_LANGUAGES = 3
"""Languages of one script that read a page together: each adds its own time."""
MAX_SCRIPTS = 6
"""Scripts that are tried together on a page whose script is not certain."""
CERTAIN = {"Latin": 4.0, "Han": 0.6, "Japanese": 0.6}
"""Least confidence (no percentages) for a page to be left to PP-OCR; a script that is not installed counts as Latin. A
line of Cyrillic or Greek among six Latin ones gave 1 to 4; 18 of 19 Latin sample pages have more."""
MIN_CHARACTERS = 5
"""Tesseract guesses no script of fewer; by default 50, which is two lines."""
MIN_CONFIDENCE = 50.0
"""Percent, the mean of a line's letters."""
GOOD_CONFIDENCE = 80.0
"""The mean of the words in its script with which a page is read no other way."""
MIN_SHARE = 0.1
"""Least share of a page's letters in the script that it is said to be in: Latin letters that were taken for Cyrillic or
Greek ones are fewer."""
MIN_LETTERS = 6
"""Fewer in the script are drawings and page numbers that were taken for letters."""
MIN_HEIGHT = 0.5
"""Least height of a line, of the median line's: marks above Thai letters are taken for lines of their own."""
SURE_CONFIDENCE, SURE_LETTERS = 86.0, 5
"""A word that proves its script where none is certain. Latin and Chinese pages read in seven scripts gave none; shorter
words ("т", "рН", "да") come with 95."""
LOOKALIKES = frozenset("АВЕЅІЈКМНОРСТУХЬагеѕіјкморстухпΑΒΕΖΗΙΚΜΝΟΡΤΥΧαικνορτυχ")
"""Cyrillic and Greek letters that Latin ones are taken for: words of them alone prove nothing ("ВОХ РЕТЕ")."""
MIN_OWN_SHARE = 0.125
"""Least share of the others among a page's letters in the script: texts have a third."""
READING_SIDE, MAX_ENLARGEMENT = 2_600, 2.0
"""Pages are enlarged to this longer side: Tesseract reads letters of 16 pixels worse than of 24."""
PAGE_INCHES = 11.7
"""Assumed length of a page. The resolution only tells Tesseract how large specks and rules are."""
TIMEOUT_S = 30.0
"""For all runs on a page; pages took 1 to 13 s on a busy machine. A request waits for 120 s."""
TURNS = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
"""Degrees clockwise that make a page upright, and how Pillow calls them."""
BACK: Mapping[int, Direction] = {0: "right", 90: "down", 180: "left", 270: "up"}
"""By the same degrees, what brings a box of the upright page back to the page that was turned."""
MARKS = dict.fromkeys(map(ord, "\u200e\u200f\u202a\u202b\u202c\u202d\u202e"))
"""Marks of direction, which no one types into a question."""
WORD_LEVEL = "5"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Word:
    """A word, or a letter of a script without spaces, with its pixels and Tesseract's confidence in percent."""

    text: str
    confidence: float
    left: int
    top: int
    right: int
    bottom: int


Rows = list[list[Word]]
"""The words of each line."""
Keep = Callable[[Rows, Sequence[str]], Rows]


@dataclass(frozen=True, slots=True)
class Guess:
    """The script that Tesseract detects, empty if it says nothing, and the degrees clockwise that make it upright."""

    script: str = ""
    confidence: float = 0.0
    turn: int = 0

    @property
    def is_certain(self) -> bool:
        return self.confidence >= CERTAIN.get(self.script, CERTAIN["Latin"])


@dataclass(frozen=True)
class Tesseract:
    """An installed Tesseract. `languages`: what it has for each script of LANGUAGES, most important first."""

    command: str
    languages: Mapping[str, tuple[str, ...]]
    reads_english: bool = True
    detects_script: bool = True

    @cached_property
    def scripts(self) -> tuple[str, ...]:
        """Return the scripts that it reads and PP-OCR does not."""
        return tuple(self.languages)

    def read_lines(self, image: Image.Image) -> tuple[Line, ...]:
        """Return all lines of an RGB image that has text in one of `scripts`, Latin lines and numbers too, with boxes.

        Empty if it has none, or none that was read with confidence; of a page with a few such lines between Latin ones,
        only those. A page that takes longer than TIMEOUT_S counts as having none.
        """
        try:
            return PageReading(self, image.convert("L")).read_lines()
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("tesseract read no page: %s", error)
            return ()


class PageReading:
    """The reading of one page, in a few runs of Tesseract that share a deadline; keeps the best."""

    def __init__(self, tesseract: Tesseract, page: Image.Image) -> None:
        """`page` is grey."""
        self._tesseract = tesseract
        self._page, self._large = page, enlarge_page(page)
        self._until = time.monotonic() + TIMEOUT_S
        self._best: tuple[float, tuple[Line, ...]] = 0.0, ()

    def read_lines(self) -> tuple[Line, ...]:
        """Return the lines, as `Tesseract.read_lines`. Raises OSError, SubprocessError."""
        languages = self._tesseract.languages
        guesses: list[Guess] = []
        # Letters of 16 pixels are guessed right on the enlarged page, Hebrew and Korean ones of 34 on the page itself.
        for page in (self._page, self._large) if self._tesseract.detects_script else ():
            guess = self._guess_script(page)
            if guess.script in languages:
                for turn in dict.fromkeys((guess.turn, 0)):
                    if self._is_read_well([guess.script], turn, keep_certain_rows):
                        return self._best[1]
            guesses.append(guess)
        foreign = [guess for guess in guesses if guess.script in languages]
        if foreign or not any(guess.is_certain for guess in guesses):
            for turn in dict.fromkeys((*(guess.turn for guess in foreign), 0)):
                if self._is_read_well(self._tesseract.scripts[:MAX_SCRIPTS], turn, keep_sure_rows):
                    break
        return self._best[1]

    def _guess_script(self, page: Image.Image) -> Guess:
        done = self._run(page, "--psm", "0", "-c", f"min_characters_to_try={MIN_CHARACTERS}", check=False)
        found = dict(re.findall(r"^(Script|Script confidence|Rotate): (\S+)$", done, re.MULTILINE))
        if len(found) < 3:
            return Guess()
        return Guess(found["Script"], float(found["Script confidence"]), int(found["Rotate"]) % 360)

    def _is_read_well(self, scripts: Sequence[str], turn: int, keep: Keep) -> bool:
        """Read the page, turned; keep the lines if they are the best so far, and return whether they are good."""
        upright = self._large.transpose(TURNS[turn]) if turn else self._large
        read = self._read_rows(upright, scripts)
        rows = keep(read, scripts)
        words = select_words(rows, scripts)
        rate = sum(len(word.text) * (word.confidence - MIN_CONFIDENCE) for word in words)
        if rate > self._best[0]:
            self._best = rate, tuple(make_line(row, upright.size, turn) for row in rows)
        # A page read in the wrong script has a good line by chance, and many bad ones.
        judged = select_words(read, scripts) if len(scripts) == 1 else words
        return bool(words) and measure_confidence(judged) >= GOOD_CONFIDENCE

    def _read_rows(self, page: Image.Image, scripts: Sequence[str]) -> Rows:
        tesseract, alone = self._tesseract, len(scripts) == 1
        languages = [
            name for script in scripts for name in tesseract.languages[script][: MAX_LANGUAGES if alone else 1]
        ]
        languages += ["eng"] if tesseract.reads_english else []
        segmentation = SEGMENTATION.get(scripts[0], "3") if alone else "3"
        table = self._run(page, "-l", "+".join(languages), "--psm", segmentation, "tsv")
        return [row for words in parse_words(table) for row in split_columns(join_letters(words))]

    def _run(self, page: Image.Image, *options: str, check: bool = True) -> str:
        """Return the words of Tesseract about a page. Raises OSError, SubprocessError: killed at its deadline."""
        resolution = str(round(min(600, max(70, max(page.size) / PAGE_INCHES))))
        picture = b"P5 %d %d 255\n" % page.size + page.tobytes()  # PGM: no time is spent on packing
        command, left = self._tesseract.command, max(0.0, self._until - time.monotonic())
        return run_tesseract(
            command, "stdin", "stdout", "--dpi", resolution, *options, data=picture, timeout_s=left, check=check
        )


def find_tesseract() -> Tesseract | None:
    """Return the Tesseract on PATH; None if there is none, or it reads no script that PP-OCR does not read.

    Takes 20 ms, or none where there is none: ask for each page, so that a worker out of a snapshot knows what was
    installed after it was saved.
    """
    command = shutil.which("tesseract")
    if command is None:
        return None
    try:
        installed = frozenset(run_tesseract(command, "--list-langs").split("\n"))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("tesseract does not run: %s", error)
        return None
    languages = {script: found for script in LANGUAGES if (found := choose_languages(script, installed))}
    return Tesseract(command, languages, "eng" in installed, "osd" in installed) if languages else None


def run_tesseract(
    command: str, *options: str, data: bytes = b"", timeout_s: float = TIMEOUT_S, check: bool = True
) -> str:
    """Return a child's output. It gets no variable that could hold a secret, and ends with this thread (Linux)."""
    wrapper = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    done = subprocess.run(  # noqa: S603 - no shell, and no argument comes from a page
        [*wrapper, command, *options],
        input=data,
        capture_output=True,
        timeout=timeout_s,
        check=check,
        env={**process_variables(), "OMP_THREAD_LIMIT": "1"},
    )
    return done.stdout.decode(errors="replace")


def choose_languages(script: str, installed: Iterable[str]) -> tuple[str, ...]:
    """Return the installed files that read a script: the one for the whole script alone, if it is there."""
    whole = f"script/{UNICODE_NAMES.get(script, script)}"
    return (whole,) if whole in installed else tuple(name for name in LANGUAGES[script].split() if name in installed)


def enlarge_page(image: Image.Image) -> Image.Image:
    """Return a grey image as large as Tesseract likes it."""
    factor = min(MAX_ENLARGEMENT, READING_SIDE / max(image.size))
    grey = image.convert("L")
    if factor <= 1:
        return grey
    return grey.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def parse_words(table: str) -> list[list[Word]]:
    """Return the words of each line of Tesseract's TSV."""
    rows = csv.DictReader(table.translate(MARKS).split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE)
    words = [row for row in rows if row["level"] == WORD_LEVEL and (row["text"] or "").strip()]
    lines = groupby(words, key=lambda row: (row["block_num"], row["par_num"], row["line_num"]))
    return [[parse_word(row) for row in line] for _, line in lines]


def parse_word(row: Mapping[str, str]) -> Word:
    left, top, width, height = (int(row[name]) for name in ("left", "top", "width", "height"))
    return Word(row["text"], float(row["conf"]), left, top, left + width, top + height)


def repair_text(text: str) -> str:
    """Return text as people type it: the Greek letter for the sign of a millionth, the Thai vowel in one piece."""
    text = unicodedata.normalize("NFC", text).replace("\u0e4d\u0e32", "\u0e33")
    return text.replace("µ", "μ") if any(is_in_script(char, "Greek") for char in text) else text


def join_letters(words: Sequence[Word]) -> list[Word]:
    """Return the words of a line, those of Korean and of scripts without spaces put together from their letters."""
    height = measure_height(words)
    joined: list[Word] = []
    for word in words:
        before = joined[-1] if joined else None
        gaps = [gap for script, gap in SPACE_GAPS.items() if is_in_script(word.text[0], script)]
        if before is not None and gaps and measure_gap(before, word) <= gaps[0] * height:
            joined[-1] = join_words(before, word)
        else:
            joined.append(word)
    return joined


def join_words(one: Word, other: Word) -> Word:
    sizes = len(one.text), len(other.text)
    confidence = (one.confidence * sizes[0] + other.confidence * sizes[1]) / sum(sizes)
    left, top = min(one.left, other.left), min(one.top, other.top)
    return Word(
        one.text + other.text, confidence, left, top, max(one.right, other.right), max(one.bottom, other.bottom)
    )


def split_columns(words: Sequence[Word]) -> list[list[Word]]:
    """Return the words of a line in pieces, one for each column or cell."""
    height = measure_height(words)
    pieces: list[list[Word]] = []
    for word in words:
        if pieces and measure_gap(pieces[-1][-1], word) <= COLUMN_GAP * height:
            pieces[-1].append(word)
        else:
            pieces.append([word])
    return pieces


def measure_gap(one: Word, other: Word) -> int:
    """Return the pixels between two words, whichever is on the left; negative if they overlap."""
    return max(other.left - one.right, one.left - other.right)


def measure_height(words: Sequence[Word]) -> int:
    """Return the height of a line in pixels: the upper quartile, since points and dashes are low."""
    return sorted(word.bottom - word.top for word in words)[3 * len(words) // 4]


def keep_certain_rows(rows: Rows, scripts: Sequence[str]) -> Rows:
    """Return the rows read with confidence, if enough of their letters are in the script; else none."""
    heights = [measure_height(row) for row in rows]
    least = MIN_HEIGHT * sorted(heights)[len(heights) // 2] if rows else 0.0
    kept = [
        row
        for row, height in zip(rows, heights, strict=True)
        if height >= least and measure_confidence(row) >= MIN_CONFIDENCE
    ]
    found, letters = count_letters(kept, scripts)
    own = count_own_letters(chain(*kept), scripts)
    return kept if found >= max(MIN_LETTERS, MIN_SHARE * letters) and own >= MIN_OWN_SHARE * found else []


def keep_sure_rows(rows: Rows, scripts: Sequence[str]) -> Rows:
    """Return the rows that are mostly in one of the scripts, read well, and have a word that proves it."""
    return [
        row
        for row in rows
        if measure_confidence(row) >= GOOD_CONFIDENCE and any(is_proven(row, script) for script in scripts)
    ]


def is_proven(row: Sequence[Word], script: str) -> bool:
    found, letters = count_letters([row], [script])
    sure = [word for word in row if word.confidence >= SURE_CONFIDENCE]
    return 2 * found > letters and any(
        count_letters([[word]], [script])[0] >= SURE_LETTERS and count_own_letters([word], [script]) for word in sure
    )


def select_words(rows: Rows, scripts: Sequence[str]) -> list[Word]:
    """Return the words that have a letter in one of the scripts."""
    return [word for word in chain(*rows) if count_letters([[word]], scripts)[0]]


def measure_confidence(words: Iterable[Word]) -> float:
    """Return the mean of the letters, in percent."""
    weighted = [(word.confidence, len(word.text)) for word in words]
    return sum(confidence * size for confidence, size in weighted) / sum(size for _, size in weighted)


def count_letters(rows: Iterable[Iterable[Word]], scripts: Sequence[str]) -> tuple[int, int]:
    """Return how many letters are in one of the scripts, and how many there are."""
    letters = [char for row in rows for word in row for char in word.text if char.isalpha()]
    return sum(any(is_in_script(char, script) for script in scripts) for char in letters), len(letters)


def count_own_letters(words: Iterable[Word], scripts: Sequence[str]) -> int:
    """Return how many letters are in one of the scripts and look like no Latin one."""
    return sum(
        char not in LOOKALIKES and any(is_in_script(char, script) for script in scripts)
        for word in words
        for char in word.text
    )


def is_in_script(char: str, script: str) -> bool:
    name = UNICODE_NAMES.get(script, script).upper()
    return unicodedata.name(char, "").partition(" ")[0] == name


def make_line(words: Sequence[Word], size: tuple[int, int], turn: int) -> Line:
    """Return a line with its box on the page as it was before it was turned."""
    width, height = size
    left, top = min(word.left for word in words) / width, min(word.top for word in words) / height
    right, bottom = max(word.right for word in words) / width, max(word.bottom for word in words) / height
    return Line(
        repair_text(" ".join(word.text for word in words)), clip_box(turn_box((left, top, right, bottom), BACK[turn]))
    )
