"""Jinja2 as this project uses it: values are escaped, and a missing one is an error.

Line breaks of a template are not output: templates are indented without putting spaces between the boxes of a page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

BESIDE_TAG = re.compile(r"(^|>)\s*\n\s*|\s*\n\s*(<|$)")
IN_TEXT = re.compile(r"\s*\n\s*")


class JoinLines(Extension):
    """Drops a line break and the indentation around it; between two words it leaves a space. JSX has the same rule."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        for token in stream:
            yield token if token.type != "data" else Token(token.lineno, "data", join_lines(token.value))


def join_lines(text: str) -> str:
    return IN_TEXT.sub(" ", BESIDE_TAG.sub(r"\1\2", text))


def create_environment(package: str) -> Environment:
    """Return an environment for the folder `templates` of a package."""
    loader = PackageLoader(package, "templates")
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, extensions=[JoinLines], auto_reload=False
    )
