from __future__ import annotations

import base64

import pytest

from serving.errors import BadValueError, NotAnImageError, ServingError, TooLargeError
from serving.http.schema import (
    EmbeddingsRequest,
    EmbedRequest,
    Query,
    RawPage,
    decode_base64,
    parse_body,
    read_items,
)

B64 = base64.b64encode(b"picture").decode()
URI = f"data:image/png;base64,{B64}"


def items(body: str) -> object:
    return read_items(parse_body(EmbedRequest, body.encode()), 2_000)


def openai(body: str) -> object:
    return read_items(parse_body(EmbeddingsRequest, body.encode()), 2_000)


def test_images_first_then_texts() -> None:
    first, second, question = RawPage(b"picture", None, "images.0"), RawPage(b"picture", None, "images.1"), Query("a b")
    # Pages are not compared by their content, so their texts are.
    assert repr(items(f'{{"texts": ["a b"], "images": ["{B64}", "{URI}"]}}')) == repr([first, second, question])


def test_pages_with_lines() -> None:
    found = items(f'{{"pages": [{{"image": "{B64}", "lines": ["one", {{"text": "two", "box": [0, 0, 1, 0.5]}}]}}]}}')
    assert isinstance(found, list) and isinstance(found[0], RawPage) and found[0].lines is not None
    assert [(line.text, line.box) for line in found[0].lines] == [("one", None), ("two", (0.0, 0.0, 1.0, 0.5))]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ("{", None),
        ("[]", None),
        ('{"texts": "not a list"}', "texts"),
        ('{"texts": [1]}', "texts.0"),
        ('{"texts": [""]}', "texts.0"),
        ('{"texts": []}', "images"),
        ("{}", "images"),
        ('{"texts": ["a"], "dimensions": "x"}', "dimensions"),
        ('{"texts": ["a"], "dimensions": 1.5}', "dimensions"),
        ('{"texts": ["a"], "dimensions": NaN}', "dimensions"),
        ('{"texts": ["a"], "normalize": "yes"}', "normalize"),
        ('{"texts": ["\\ud800"]}', None),
        ('{"images": ["!!!"]}', "images.0"),
        ('{"pages": [{"lines": []}]}', "pages.0"),
        ('{"pages": [{"lines": [{"text": "a", "box": [0, 0, 1, true]}]}]}', None),
        ('{"pages": [{"lines": [{"text": "a", "box": [0, 0, 1, "1"]}]}]}', None),
        ('{"images": [""]}', "images.0"),
        ('{"pages": [{}]}', "pages.0"),
        (f'{{"pages": [{{"image": "{B64}"}}], "images": ["{B64}"]}}', "pages"),
        (f'{{"pages": [{{"image": "{B64}", "lines": [{{"text": "a", "box": [1]}}]}}]}}', None),
    ],
)
def test_bad_values_name_the_field(body: str, param: str | None) -> None:
    with pytest.raises(BadValueError) as caught:
        items(body)
    assert param is None or caught.value.param == param


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest",
        "https://example.com/a.png",
        "file:///etc/passwd",
        "ftp://host/a",
        "//host/a.png",
        "file:/etc/passwd",
        "gopher://x",
        "HTTP://[::ffff:127.0.0.1]/",
    ],
)
def test_addresses_are_refused(address: str) -> None:
    with pytest.raises(BadValueError, match="never fetched"):
        decode_base64(address, "images.0")
    with pytest.raises(BadValueError, match="never fetched"):
        image = f'{{"type": "image_url", "image_url": {{"url": "{address}"}}}}'
        openai(f'{{"messages": [{{"role": "user", "content": [{image}]}}]}}')


def test_data_uris() -> None:
    assert decode_base64(URI, "p") == b"picture"
    assert decode_base64(B64[:4] + "\n" + B64[4:], "p") == b"picture"
    with pytest.raises(NotAnImageError, match="text/html"):
        decode_base64(f"data:text/html;base64,{B64}", "p")
    with pytest.raises(BadValueError, match="base64"):
        decode_base64("data:image/png,raw", "p")


def test_openai_input_and_messages() -> None:
    assert openai('{"input": "Query: a"}') == [Query("a")]
    assert openai('{"input": ["a", "b"]}') == [Query("a"), Query("b")]
    assert openai('{"messages": [{"role": "user", "content": "a"}]}') == [Query("a")]
    image = f'{{"type": "image_url", "image_url": {{"url": "{URI}"}}}}'
    text = '{"type": "text", "text": "<start_of_image>"}'
    page = f'{{"role": "user", "content": [{image}, {text}]}}'
    expected = RawPage(b"picture", None, "messages.0")
    assert repr(openai(f'{{"messages": [{page}]}}')) == repr([expected])
    both = f'{{"messages": [[{page}], [{{"role": "user", "content": [{text}]}}]]}}'
    assert repr(openai(both)) == repr([expected, Query("<start_of_image>")])


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"input": []}',
        '{"input": [1, 2]}',
        '{"input": [[1]]}',
        '{"input": "a", "messages": []}',
        '{"messages": []}',
        '{"messages": [[]]}',
        '{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}',
        '{"messages": [{"role": "system", "content": "a"}]}',
        '{"messages": [{"role": "user", "content": []}]}',
        '{"messages": [{"role": "user", "content": [{"type": "video", "text": "a"}]}]}',
        '{"input": "a", "encoding_format": "hex"}',
    ],
)
def test_openai_bad_values(body: str) -> None:
    with pytest.raises(BadValueError):
        openai(body)


def test_two_images_in_one_message_are_refused() -> None:
    image = f'{{"type": "image_url", "image_url": {{"url": "{URI}"}}}}'
    with pytest.raises(ServingError, match="one image"):
        openai(f'{{"messages": [{{"role": "user", "content": [{image}, {image}]}}]}}')


def test_lists_that_would_fill_memory_are_refused_before_they_are_read() -> None:
    for body in (
        '{"texts": [' + ",".join(["1"] * 1_100_000) + "]}",
        '{"texts": [' + ",".join(['"a"'] * 5_000) + "]}",
        '{"pages": [{"lines": [' + ",".join(['"a"'] * 5_000) + "]}]}",
    ):
        with pytest.raises(TooLargeError):
            items(body)


@pytest.mark.parametrize("box", ["[0, 0, 1, NaN]", "[0, 0, 2, 1]", "[-1, 0, 1, 1]", "[0, 0, 1, Infinity]", "[0, 0]"])
def test_boxes_lie_on_the_page(box: str) -> None:
    with pytest.raises(BadValueError):
        items(f'{{"pages": [{{"lines": [{{"text": "a", "box": {box}}}]}}]}}')
