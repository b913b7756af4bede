"""The square that a page becomes."""

from __future__ import annotations

from PIL import Image

from serving.embedders.bigemma3.base import resize_square


def test_a_square_of_the_right_size_stays_as_it_is() -> None:
    image = Image.linear_gradient("L").convert("RGB")
    assert resize_square(image, 256) is image and resize_square(image, 100).size == (100, 100)
    assert resize_square(Image.new("RGB", (3, 700)), 224).size == (224, 224)
