"""The page's HTML: templates in files, in which every value is escaped (`bench/templating.py`)."""

from __future__ import annotations

from markupsafe import Markup

from bench.templating import create_environment
from ui.components import wording

TEMPLATES = create_environment("ui.components")
TEMPLATES.filters |= {name: filter_ for name, filter_ in vars(wording).items() if callable(filter_)}


def render_template(name: str, /, **values: object) -> Markup:
    """Return the HTML of a template. Raises UndefinedError where it uses a value that it was not given."""
    return Markup(TEMPLATES.get_template(name).render(values))  # noqa: S704 - the environment escapes
