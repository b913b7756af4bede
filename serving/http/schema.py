"""Types of requests, and functions that read them as a list of queries and pages. No I/O, no decoding of pictures."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from serving.documents.page import Line
from serving.embedders.prompts import canonicalise_query
from serving.errors import BadValueError, NotAnImageError, TooLargeError

MAX_SEPARATORS = 1_000_000
"""Limit of the quotes in one body, and of its commas. The largest request within the limits has 400,000; fourteen
million one-letter texts would take gigabytes before they could be counted."""
MAX_ENTRIES = 4_096
"""Limit of the entries of one list; a worker's own limits are lower, and are checked later."""
MESSAGE_CHARS = 300


class Shape(BaseModel):
    """A part of a request, of which unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


Part = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Box = tuple[Part, Part, Part, Part]


class LineInput(Shape):
    """A line of text that a page is known to have."""

    text: StrictStr
    box: Box | None = None


class PageInput(Shape):
    """A page's image, its text, or both."""

    image: StrictStr | None = None
    lines: Annotated[list[LineInput | StrictStr], Field(max_length=MAX_ENTRIES)] | None = None


class EmbedRequest(Shape):
    """Asks for vectors of images (or pages), then of texts, in this order; texts are queries."""

    model: StrictStr | None = None
    images: Annotated[list[StrictStr], Field(max_length=MAX_ENTRIES)] = []
    pages: Annotated[list[PageInput], Field(max_length=MAX_ENTRIES)] = []
    texts: Annotated[list[StrictStr], Field(max_length=MAX_ENTRIES)] = []
    normalize: StrictBool = True
    dimensions: StrictInt | None = None
    explain: StrictBool = False


class ImageUrl(Shape):
    """OpenAI's place for a data URI."""

    url: StrictStr


class TextPart(Shape):
    """Text in a message."""

    type: Literal["text"]
    text: StrictStr


class ImagePart(Shape):
    """An image in a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class Message(Shape):
    """One turn of a conversation."""

    role: StrictStr
    content: StrictStr | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class EmbeddingsRequest(Shape):
    """Asks for vectors as OpenAI's clients do; `messages` are vLLM's: one conversation or a list of them."""

    model: StrictStr | None = None
    input: StrictStr | list[StrictStr] | list[StrictInt] | list[list[StrictInt]] | None = None
    messages: list[Message] | list[list[Message]] | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: StrictInt | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A text to search for."""

    text: str


@dataclass(frozen=True, eq=False, slots=True)
class RawPage:
    """A page before decoding: the bytes of its image, its text, or both. `param` is its name in an error."""

    data: bytes | None
    lines: tuple[Line, ...] | None
    param: str
    explain: bool = False


Item = Query | RawPage
S = TypeVar("S", bound=BaseModel)


def parse_body(shape: type[S], body: bytes) -> S:
    """Return the request in a JSON text. Raises BadValueError that names the field, or TooLargeError."""
    if max(body.count(b'"'), body.count(b",")) > MAX_SEPARATORS:
        raise TooLargeError("the body has more entries than any request within the limits: send fewer")
    try:
        return shape.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "too_long":
            raise TooLargeError(f"a list has more than {MAX_ENTRIES} entries", param=str(first["loc"][0])) from None
        param = ".".join(str(part) for part in first["loc"]) or None
        # Some messages quote the body.
        raise BadValueError(f"{param + ': ' if param else ''}{first['msg']}"[:MESSAGE_CHARS], param=param) from None


def decode_base64(text: str, param: str) -> bytes:
    """Return the bytes of base64 or a data URI. Raises NotAnImageError; BadValueError, also for URLs: never fetched."""
    if text.startswith("data:"):
        header, comma, text = text.partition(",")
        mime = header[5:].split(";")[0].strip().lower()
        if not comma or ";base64" not in header:
            raise BadValueError("a data URI must be base64: data:image/png;base64,...", param=param)
        if mime and not mime.startswith("image/") and mime != "application/octet-stream":
            raise NotAnImageError(f"the data URI says {mime[:60]!r}: send an image", param=param)
    elif "://" in text[:40] or text.startswith(("//", "file:", "javascript:")):
        raise BadValueError("addresses are never fetched: send the image itself, in base64", param=param)
    try:
        data = base64.b64decode("".join(text.split()) if any(c in text for c in "\n\r ") else text, validate=True)
    except (binascii.Error, ValueError):
        raise BadValueError("this is not valid base64", param=param) from None
    if not data:
        raise BadValueError("the image is empty", param=param)
    return data


def read_items(request: EmbedRequest | EmbeddingsRequest, max_chars: int) -> list[Item]:
    """Return the queries and pages of a request in the order of its answer. `max_chars`: of a query.

    Raises BadValueError, NotAnImageError or TooLargeError.
    """
    if isinstance(request, EmbeddingsRequest):
        return read_embeddings_items(request, max_chars)
    if request.images and request.pages:
        raise BadValueError("send images or pages, not both", param="pages")
    items: list[Item] = [
        RawPage(decode_base64(image, f"images.{n}"), None, f"images.{n}", request.explain)
        for n, image in enumerate(request.images)
    ]
    items += [read_page(page, f"pages.{n}", request.explain) for n, page in enumerate(request.pages)]
    items += [read_query(text, f"texts.{n}", max_chars) for n, text in enumerate(request.texts)]
    if not items:
        raise BadValueError('send "images", "pages" or "texts" with at least one entry', param="images")
    return items


def read_page(page: PageInput, param: str, explain: bool) -> RawPage:
    if page.image is None and not page.lines:
        raise BadValueError("a page needs an image, lines, or both", param=param)
    lines = None
    if page.lines is not None:
        lines = tuple(
            Line(line) if isinstance(line, str) else Line(line.text, sort_box(line.box)) for line in page.lines
        )
    return RawPage(None if page.image is None else decode_base64(page.image, param), lines, param, explain)


def sort_box(box: Box | None) -> Box | None:
    """Return the box with its left before its right and its top above its bottom."""
    if box is None:
        return None
    (left, right), (top, bottom) = sorted(box[::2]), sorted(box[1::2])
    return left, top, right, bottom


def read_query(text: object, param: str, max_chars: int) -> Query:
    if not isinstance(text, str):
        raise BadValueError("token ids depend on a model's own tokenizer: send text", param=param)
    return Query(canonicalise_query(text, param, max_chars))


def read_embeddings_items(request: EmbeddingsRequest, max_chars: int) -> list[Item]:
    """Return the items of `POST /v1/embeddings`: text alone is a query, a message with an image is a page."""
    if (request.input is None) == (request.messages is None):
        raise BadValueError('send either "input" or "messages"', param="input")
    items: list[Item]
    if request.messages is None:
        texts = [request.input] if isinstance(request.input, str) else request.input or []
        items = [read_query(text, f"input.{n}", max_chars) for n, text in enumerate(texts)]
    else:
        single = [message for message in request.messages if isinstance(message, Message)]
        conversations = [single] if single else [found for found in request.messages if isinstance(found, list)]
        items = [read_conversation(found, f"messages.{n}", max_chars) for n, found in enumerate(conversations)]
    if not items:
        raise BadValueError("the list is empty", param="input" if request.messages is None else "messages")
    return items


def read_conversation(messages: list[Message], param: str, max_chars: int) -> Item:
    """Return the query or page of one user turn, as the models were trained. Raises BadValueError for more turns."""
    if len(messages) != 1 or messages[0].role != "user":
        raise BadValueError("send exactly one message, of the user", param=param)
    content = messages[0].content
    if isinstance(content, str):
        return read_query(content, param, max_chars)
    images = [part.image_url.url for part in content if isinstance(part, ImagePart)]
    if len(images) > 1:
        raise BadValueError("one message is one page: send one image in it", param=param)
    if images:
        # A text beside an image is ignored: the worker adds the model's own prompt.
        return RawPage(decode_base64(images[0], param), None, param)
    return read_query(" ".join(part.text for part in content if isinstance(part, TextPart)), param, max_chars)
