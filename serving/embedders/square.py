"""BiGemma3 sees every page as one square; how it is made stands here once, for both servers."""

from __future__ import annotations

from PIL import Image


def squared(image: Image.Image, size: int) -> Image.Image:
    """The whole RGB image, stretched to `size` x `size` pixels; itself if it has that size.

    The filter is the one of Gemma 3's own image processor (bilinear, over all source pixels), whose resize then finds
    nothing left to do, with HuggingFace's libraries and with vLLM's.
    """
    return image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BILINEAR)
