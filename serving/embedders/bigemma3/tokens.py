"""Builds BiGemma3's prompts as token ids, the same for both of its servers.

A caller's text is only text: `<start_of_image>` in a question is eighteen characters, no image. So the text is split
into tokens by itself, with special tokens switched off, and ours are put around it by their ids.

Both prompts begin with two `<bos>`: colpali-engine renders the chat template, which writes one, and the tokenizer puts
another in front. The model was trained that way. Needs the package `tokenizers` and no model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from serving.embedders.prompts import PAGE_PROMPT, QUERY_PREFIX
from serving.errors import BadValueError, ServingError, TooLargeError

MAX_QUERY_TOKENS = 1024
"""Gemma 3's sliding window: up to here each of its layers sees the whole query."""
SPECIAL = {
    "pad": "<pad>",
    "bos": "<bos>",
    "turn": "<start_of_turn>",
    "end_of_turn": "<end_of_turn>",
    "start_of_image": "<start_of_image>",
    "end_of_image": "<end_of_image>",
    "image": "<image_soft_token>",
}


class TokenizerError(ServingError):
    """The folder has no tokenizer, or not Gemma 3's."""

    code = "tokenizer"


class PromptTokens:
    """Builds prompts with the tokenizer of `folder` (tokenizer.json). Threads may share it. Raises TokenizerError."""

    def __init__(self, folder: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise TokenizerError(
                "the package tokenizers is not installed: pip install 'dormouse-search[hf]' or 'dormouse-search[vllm]'"
            ) from None
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise TokenizerError("the weights' folder has no tokenizer.json")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception:  # it raises nothing more exact
            raise TokenizerError("the weights' tokenizer.json cannot be read: download it again") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        special: dict[str, int] = {}
        for name, token in SPECIAL.items():
            if (number := self._tokenizer.token_to_id(token)) is None:
                raise TokenizerError(f"the weights' tokenizer has no {token}: it is not Gemma 3's")
            special[name] = number
        self._special = special
        self._ours = set(special.values())
        self._begin = [special["bos"], special["bos"], special["turn"]]
        self._end = [special["end_of_turn"], *self._encode("\n")]
        self._image_tokens = read_image_tokens(folder)
        self.pad: int = special["pad"]
        """The id that pads shorter prompts of a batch."""

    def make_query(self, text: str) -> list[int]:
        """Return one user turn, `Query: {text}`. Raises TooLargeError above MAX_QUERY_TOKENS; BadValueError."""
        return self.make_queries([text])[0]

    def make_queries(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the turns of several texts, in one call: each call releases the interpreter and waits for it."""
        turns = ["user\n" + (QUERY_PREFIX + text).strip() for text in texts]  # the chat template trims
        return [self._close_query(found.ids) for found in self._tokenizer.encode_batch(turns, add_special_tokens=False)]

    def _close_query(self, turn: list[int]) -> list[int]:
        if not self._ours.isdisjoint(turn):
            # A tokenizer that lists one of these as ordinary text: an image without pixels would end the engine.
            raise BadValueError("the query holds one of the model's control tokens: leave it out")
        ids = [*self._begin, *turn, *self._end]
        if len(ids) > MAX_QUERY_TOKENS:
            raise TooLargeError(f"the query has {len(ids)} tokens; the limit is {MAX_QUERY_TOKENS}")
        return ids

    def make_page(self) -> list[int]:
        """Return one user turn: an image as its soft tokens, then `Describe this image`."""
        special = self._special
        image = [special["start_of_image"], *[special["image"]] * self._image_tokens, special["end_of_image"]]
        after = "\n\n" + PAGE_PROMPT
        return [*self._begin, *self._encode("user\n\n\n"), *image, *self._encode(after), *self._end]

    def make_page_to_fill(self) -> list[int]:
        """Return the same turn before a processor inserts the soft tokens: one `<start_of_image>` in their place."""
        image = self._special["start_of_image"]
        return [*self._begin, *self._encode("user\n"), image, *self._encode(PAGE_PROMPT), *self._end]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def read_image_tokens(folder: Path) -> int:
    """Return the soft tokens of one image by config.json, or Gemma 3's 256 if it has none. Raises TokenizerError."""
    try:
        config = json.loads((folder / "config.json").read_text())
        return int(config.get("mm_tokens_per_image", 256))
    except (OSError, ValueError, AttributeError, TypeError):
        raise TokenizerError("the weights' config.json is missing or cannot be read: download it again") from None
