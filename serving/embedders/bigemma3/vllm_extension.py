"""Our code inside vLLM's own processes, where vLLM imports it by name (`worker_extension_cls`).

Imports nothing else of the project, and vLLM only where vLLM already is.
"""

from __future__ import annotations

import importlib

NEW_VISION_NAMES = {
    f"vision_tower.{part}.": f"vision_tower.vision_model.{part}."
    for part in ("embeddings", "encoder", "post_layernorm")
}
"""Transformers from 5.17 on saves the vision tower without `vision_model.`; vLLM knows only the names before that."""


class Extension:
    """Adds nothing to vLLM's worker; importing this module is enough."""


def map_new_names() -> None:
    """Teach vLLM the names that today's transformers gives the vision tower's tensors."""
    models = importlib.import_module("vllm.model_executor.models.gemma3_mm")
    mapper = importlib.import_module("vllm.model_executor.models.utils").WeightsMapper
    model = models.Gemma3ForConditionalGeneration
    model.hf_to_vllm_mapper = model.hf_to_vllm_mapper | mapper(orig_to_new_prefix=NEW_VISION_NAMES)


map_new_names()
