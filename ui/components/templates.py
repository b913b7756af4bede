"""The page's HTML: templates in files, in which every value is escaped (`bench/templating.py`)."""

from __future__ import annotations

from markupsafe import Markup

from bench.templating import create_environment
from ui.components import wording

TEMPLATES = create_environment("ui.components")
WORDS = (
    wording.plural,
    wording.ordinal,
    wording.megabytes,
    wording.seconds,
    wording.milliseconds,
    wording.ago,
    wording.lasted,
    wording.sentence,
)
TEMPLATES.filters |= {function.__name__: function for function in WORDS}


def render_template(name: str, /, **values: object) -> Markup:
    """Return the HTML of a template. Raises UndefinedError where it uses a value that it was not given."""
    return Markup(TEMPLATES.get_template(name).render(values))  # noqa: S704 - the environment escapes
