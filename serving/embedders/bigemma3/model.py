"""BiGemma3 on its device: pixels or token ids in, vectors out. Imports torch; knows no threads and no batches.

The parts are colpali-engine's BiGemma3, run without its own `forward`, which keeps the states of all 34 layers and
waits for the GPU in the middle. The prompt around a page's image never changes, so its tokens, their embeddings and
the attention mask are computed once.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from serving.embedders.bigemma3 import colpali_import
from serving.embedders.bigemma3.checkpoint import Checkpoint
from serving.embedders.bigemma3.tokens import PromptTokens
from serving.embedders.bigemma3.vision_tower import VisionTower, prefer_attention_kernels
from serving.embedders.gpu.weight_arena import (
    WeightPlan,
    WeightsError,
    bind_parameters,
    build_without_weights,
    plan_weights,
)

KEY_MAPPING = {
    r"^(model\.)?language_model\.model\.": "language_model.",
    r"^model\.language_model\.": "language_model.",
    r"^(model\.)?vision_tower\.vision_model\.": "vision_tower.",
    r"^model\.(vision_tower|multi_modal_projector)\.": r"\1.",
}
"""Maps every known layout of tensor names to the model's own. Without it transformers 5.9 and later leave the language
model at random and say so only in a warning."""
SENTENCE = "What was the total revenue in 2024?"
ALIGNED = 16
"""Tokens. A page's prompt is padded to a multiple of it behind its end, where no token attends to the padding:
attention with a mask would otherwise copy and pad at each layer."""
TIED = "lm_head.weight"
"""The language model's output layer, which an embedder has no use for; some checkpoints carry it."""
IMAGE_SETTINGS = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5), "resample": 2, "rescale_factor": 1 / 255}
"""The preprocessing that `vision_tower` and `resize_square` compute; a checkpoint that asks for another is refused."""


def load_model(checkpoint: Checkpoint, device: str) -> Any:
    """Return colpali-engine's BiGemma3 in bfloat16 on a GPU, float32 on a CPU. Raises WeightsError."""
    gemma = colpali_import.import_bigemma3()
    importlib.import_module("transformers.utils.logging").disable_progress_bar()
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    try:
        options = {"dtype": dtype, "device_map": device, "attn_implementation": "sdpa", "key_mapping": KEY_MAPPING}
        model, info = gemma.BiGemma3.from_pretrained(
            checkpoint.path, output_loading_info=True, local_files_only=True, **options
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise WeightsError(f"{checkpoint.path} cannot be loaded: {reason}") from error
    check_loading_info(info, checkpoint)
    model.eval().requires_grad_(False)
    return model


def map_tensor_name(name: str) -> str | None:
    """Return the model's name for a checkpoint's tensor; None for a tensor that it does not use."""
    if name.endswith(TIED):
        return None
    for pattern, replacement in KEY_MAPPING.items():
        name, times = re.subn(pattern, replacement, name)
        if times:
            break
    return name


def plan_tensors(checkpoint: Checkpoint) -> WeightPlan:
    """Plan one address range; a vision layer's query, key and value lie side by side. Raises WeightsError."""
    prefix = "vision_tower.encoder.layers"
    together = [
        [f"{prefix}.{layer}.self_attn.{part}_proj.{kind}" for part in "qkv"]
        for layer in range(checkpoint.vision_layers)
        for kind in ("weight", "bias")
    ]
    return plan_weights(checkpoint.files, map_tensor_name, together)


def build_model_in_memory(checkpoint: Checkpoint, found: WeightPlan, memory: Tensor) -> Any:
    """Return `load_model`'s model with its weights as views into `memory`, uint8[found.size]. Raises WeightsError."""
    gemma = colpali_import.import_bigemma3()
    config = importlib.import_module("transformers").Gemma3Config.from_pretrained(checkpoint.path)
    config._attn_implementation = "sdpa"
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = build_without_weights(lambda: gemma.BiGemma3(config)).eval()
    finally:
        torch.set_default_dtype(before)
    unknown = found.slots.keys() - {name for name, _ in model.named_parameters()}
    if unknown:
        raise WeightsError(
            f"{checkpoint.path} has {len(unknown)} tensors that are not BiGemma3's, such as {min(unknown)}: its layout"
            " is not known here"
        )
    bind_parameters(model, found, memory)
    return model.to(memory.device)


def check_loading_info(info: Any, checkpoint: Checkpoint) -> None:
    """Raise WeightsError for tensors missing, unknown or misshapen: a partly random model answers with unit vectors."""
    missing, mismatched = sorted(info["missing_keys"]), sorted(map(str, info.get("mismatched_keys") or ()))
    unexpected = sorted(key for key in info["unexpected_keys"] if not key.endswith(TIED))
    for what, keys in (("lacks", missing), ("has other shapes for", mismatched), ("has unknown tensors", unexpected)):
        if keys:
            raise WeightsError(
                f"{checkpoint.path} {what} {len(keys)} of BiGemma3's tensors, such as {keys[0]}: its layout is not"
                " known here, and what is not loaded would be random"
            )


def check_processor(checkpoint: Checkpoint, tokens: PromptTokens) -> None:
    """Raise WeightsError unless our prompts and pixels are those of the checkpoint's own BiGemmaProcessor3."""
    side = checkpoint.image_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        processor = colpali_import.import_bigemma3().BiGemmaProcessor3.from_pretrained(
            checkpoint.path, local_files_only=True
        )
    page = processor.process_images([Image.new("RGB", (side, side))])["input_ids"][0].tolist()
    query = processor.process_texts([SENTENCE])["input_ids"][0].tolist()
    if page != tokens.make_page() or query != tokens.make_query(SENTENCE):
        raise WeightsError(f"{checkpoint.path} has another chat template or tokenizer than Gemma 3's")
    images = processor.image_processor
    size = images.size
    asked: dict[str, Any] = {
        "size": {"height": size["height"], "width": size["width"]},
        "pan_and_scan": images.do_pan_and_scan or None,
    }
    for name in IMAGE_SETTINGS:
        value = getattr(images, name)
        asked[name] = tuple(value) if isinstance(value, list) else value
    if asked != {"size": {"height": side, "width": side}, "pan_and_scan": None, **IMAGE_SETTINGS}:
        raise WeightsError(f"{checkpoint.path} prepares images in another way than Gemma 3: {asked}")


class BiGemma3Model:
    """The model behind two calls, which return float32[n, dimension] on the device, L2-normalised."""

    def __init__(self, model: Any, tokens: PromptTokens, checkpoint: Checkpoint) -> None:
        self.device = model.device
        self.language = model.language_model
        self.projector = model.multi_modal_projector
        self.tower = VisionTower(model.vision_tower)
        ids = torch.tensor([tokens.make_page()], device=model.device)
        images = (ids[0] == model.config.image_token_id).nonzero().flatten()
        if len(images) != checkpoint.image_tokens or int(images[-1] - images[0]) != len(images) - 1:
            raise WeightsError(f"{checkpoint.path}: a page's prompt should hold {checkpoint.image_tokens} image tokens")
        with torch.inference_mode():
            around = self.language.embed_tokens(ids)
            spare = self.language.embed_tokens(torch.full((1, -ids.shape[1] % ALIGNED), tokens.pad, device=ids.device))
        self.last = ids.shape[1] - 1
        self.head, self.tail = around[:, : images[0]].clone(), torch.cat([around[:, images[-1] + 1 :], spare], dim=1)
        length = ids.shape[1] + spare.shape[1]
        is_image = torch.zeros(length, dtype=torch.bool, device=model.device)
        is_image[images] = True
        # Causal, but an image's tokens see all of their image: as Gemma 3 was trained.
        causal = torch.ones(length, length, dtype=torch.bool, device=model.device).tril()
        self.mask = (causal | (is_image[:, None] & is_image[None, :]))[None, None]

    def embed_pages(self, pixels: Tensor) -> Tensor:
        """Return the vectors of pages; `pixels` is uint8[n, side, side, 3]."""
        features = self.projector(self.tower(pixels))
        head, tail = (part.expand(len(pixels), -1, -1) for part in (self.head, self.tail))
        hidden = self._run_language(torch.cat([head, features, tail], dim=1), self.mask)
        return functional.normalize(hidden[:, self.last].float(), dim=-1)

    def embed_queries(self, ids: Tensor, last: Tensor) -> Tensor:
        """Return the vectors of queries.

        `ids` is int64[n, length], padded on the right, and `last` int64[n] holds the index of each query's last token.
        Attention only looks back and the padding is behind the query: no mask is needed, and a query has the same
        vector in any batch.
        """
        hidden = self._run_language(self.language.embed_tokens(ids), None)
        return functional.normalize(hidden[torch.arange(len(ids), device=ids.device), last].float(), dim=-1)

    def _run_language(self, embedded: Tensor, mask: Tensor | None) -> Tensor:
        masks = {"full_attention": mask, "sliding_attention": mask}  # a prompt is shorter than the window of 1,024
        positions = torch.arange(embedded.shape[1], device=embedded.device)[None]
        with prefer_attention_kernels(embedded):
            found: Tensor = self.language(
                inputs_embeds=embedded, attention_mask=masks, position_ids=positions, use_cache=False
            ).last_hidden_state
        return found


def pad_queries(
    queries: Sequence[Sequence[int]], count: int, length: int, fill: int, *, pinned: bool = False
) -> tuple[Tensor, Tensor]:
    """Return token ids padded with `fill`, int64[count, length], and the last tokens' indices, int64[count]."""
    ids = torch.empty((count, length), dtype=torch.int64, pin_memory=pinned)
    last = torch.empty(count, dtype=torch.int64, pin_memory=pinned)
    # By numpy: each call of torch's gives the interpreter away, and another thread may keep it for a millisecond.
    rows, ends = ids.numpy(), last.numpy()
    rows.fill(fill)
    ends.fill(0)
    for row, query in enumerate(queries):
        rows[row, : len(query)] = query
        ends[row] = len(query) - 1
    return ids, last
