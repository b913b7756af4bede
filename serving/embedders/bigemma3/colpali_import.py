"""Imports colpali-engine's BiGemma3 without the rest of its package."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import types
from typing import Any

from serving.embedders.gpu.weight_arena import WeightsError

PACKAGES = {"colpali_engine": "", "colpali_engine.models": "/models", "colpali_engine.models.gemma3": "/models/gemma3"}


def block_unused_imports() -> None:
    """Block imports of transformers that we never use; call it before transformers is imported.

    torchvision: its image processors want it, but Pillow makes our squares, and its wheels do not load beside a torch
    without CUDA, which would take all of Gemma 3 along. scikit-learn: two seconds and 100 MB for a way of generating
    text. scipy: for a loss.
    """
    for name in ("torchvision", "sklearn", "scipy"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def import_bigemma3() -> Any:
    """Return the module with BiGemma3 and BiGemmaProcessor3. Raises WeightsError if it is not installed.

    The package's own `__init__` files import every model family: seconds of a cold start.
    """
    block_unused_imports()
    if "colpali_engine" not in sys.modules:
        spec = importlib.util.find_spec("colpali_engine")
        if spec is None or spec.submodule_search_locations is None:
            raise WeightsError("BiGemma3 needs more packages: pip install 'dormouse-search[hf]'")
        for name, folder in PACKAGES.items():
            package = types.ModuleType(name)
            package.__path__ = [spec.submodule_search_locations[0] + folder]
            package.__spec__ = importlib.util.spec_from_loader(name, None, is_package=True)
            sys.modules[name] = package
    logging.disable(logging.INFO)  # it recommends packages that are for other models
    try:
        return importlib.import_module("colpali_engine.models.gemma3.bigemma3")
    finally:
        logging.disable(logging.NOTSET)
