"""Finds a Gemma 3 checkpoint on this machine, reads its sizes and computes its digest. Needs no torch."""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.embedders.gpu.weight_arena import WeightsError, raise_weights_errors, read_header

ARCHITECTURES = ("Gemma3ForConditionalGeneration", "BiGemma3", "Gemma3Model")
"""One model under three names: as published, as colpali-engine saves it, and as transformers saves its core."""
FILES = ("config.json", "tokenizer.json")
DESCRIBING = ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")
VISION_LAYERS = 27
"""The depth of SigLIP so400m, which a configuration need not name."""
PATTERNS = ["*.json", "*.safetensors", "*.jinja", "*.model"]
SAMPLE_BYTES = 4096
"""Bytes of each tensor's beginning that go into the digest: training moves every value of a tensor, so they tell two
checkpoints apart without reading 8.6 GB."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder with the weights, tokenizer and configuration of a Gemma 3 with a vision tower."""

    path: Path
    hidden_size: int
    image_size: int
    """Pixels: pages are squeezed into a square of this size."""
    image_tokens: int
    vision_layers: int
    parameters: int
    files: tuple[Path, ...]
    stored_as: frozenset[str]
    """Types of the stored values, by safetensors' names."""
    digest: str
    """16 hex digits; the same for the same weights, tokenizer and configuration, wherever they lie."""

    @classmethod
    def open(cls, weights: str) -> Checkpoint:
        """Open a folder, or a name on the hub, which is downloaded if it is not here. Raises WeightsError."""
        if is_hub_name(weights):
            return cls.read(download_checkpoint(weights))
        folder = Path(weights).expanduser()
        if not folder.is_dir():
            raise WeightsError(f"there is no folder {weights}: name one with config.json and safetensors in it")
        return cls.read(folder)

    @classmethod
    def read(cls, folder: Path) -> Checkpoint:
        """Read the sizes and compute the digest of a folder. Raises WeightsError."""
        for name in FILES:
            if not (folder / name).is_file():
                raise WeightsError(f"{folder} has no {name}: it is not a whole checkpoint")
        config = read_json(folder / "config.json")
        architectures = config.get("architectures") or []
        if not set(architectures) & set(ARCHITECTURES):
            found = ", ".join(architectures) or "a model without a name"
            raise WeightsError(f"{folder} holds {found}; BiGemma3 needs one of {', '.join(ARCHITECTURES)}")
        try:
            hidden = int(config["text_config"]["hidden_size"])
            image = int(config["vision_config"]["image_size"])
            tokens = int(config["mm_tokens_per_image"])
            layers = int(config["vision_config"].get("num_hidden_layers", VISION_LAYERS))
        except (KeyError, TypeError, ValueError):
            raise WeightsError(f"{folder}/config.json lacks the sizes of a Gemma 3 with a vision tower") from None
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise WeightsError(f"{folder} has no safetensors files: other formats are not read")
        total, parameters, types = hashlib.sha256(), 0, set[str]()
        for name in DESCRIBING:
            total.update((folder / name).read_bytes() if (folder / name).is_file() else b"")
        for file in files:
            with raise_weights_errors(file), file.open("rb") as stream:
                for name, begin, size, dtype, shape in sorted(read_header(file)):  # their order in the file is any
                    total.update(f"{name} {dtype} {list(shape)}".encode())
                    stream.seek(begin)
                    total.update(stream.read(min(SAMPLE_BYTES, size)))
                    types.add(dtype)
                    parameters += math.prod(shape)
        return cls(
            folder, hidden, image, tokens, layers, parameters, tuple(files), frozenset(types), total.hexdigest()[:16]
        )


def is_hub_name(weights: str) -> bool:
    """Return whether this is a name on the hub, and no folder here."""
    return not (Path(weights).expanduser().is_dir() or weights.startswith((".", "/", "~")) or weights.count("/") != 1)


def read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise WeightsError(f"{path} cannot be read as JSON: download the weights again")
    return found


def is_complete(folder: Path) -> bool:
    """Return whether a folder of the hub's cache has every file that it names: one that was cut short has not."""
    index = folder / "model.safetensors.index.json"
    parts = set(read_json(index).get("weight_map", {}).values()) if index.is_file() else set()
    return all((folder / name).is_file() for name in {*FILES, *parts}) and any(folder.glob("*.safetensors"))


def find_cached(name: str, revision: str = "") -> Path | None:
    """Return the folder of a model of the hub if all of it is on this machine. Raises WeightsError."""
    hub, errors = import_hub()
    try:
        found = hub.snapshot_download(name, revision=revision or None, allow_patterns=PATTERNS, local_files_only=True)
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        return None
    return Path(found) if is_complete(Path(found)) else None


def download_checkpoint(name: str, revision: str = "") -> Path:
    """Return a hub model's folder, downloaded if absent; `revision`: branch, tag or commit. Raises WeightsError."""
    found = find_cached(name, revision)
    if found is not None:
        return found
    hub, errors = import_hub()
    try:
        return Path(hub.snapshot_download(name, revision=revision or None, allow_patterns=PATTERNS))
    except errors.GatedRepoError:
        raise WeightsError(
            f"{name} is only for people who accepted its terms: do that on its page on the hub, then set HF_TOKEN to a"
            " token of your account, or run `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise WeightsError(f"the hub has no model {name}, or it is private: set HF_TOKEN if it is yours") from None
    except errors.RevisionNotFoundError:
        raise WeightsError(f"{name} has no revision {revision} on the hub") from None
    except errors.HFValidationError:
        raise WeightsError(f"{name!r} is neither a folder here nor a name on the hub") from None
    except (errors.HfHubHTTPError, OSError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise WeightsError(f"there is no room for {name} on this disk: it needs 8.6 GB") from None
        if is_refused(error):
            raise WeightsError(f"the hub does not accept this HF_TOKEN: set it to one that may read {name}") from None
        raise WeightsError(
            f"{name} is not on this machine, and the hub cannot be asked for it ({type(error).__name__}): name a folder"
            " with --weights"
        ) from None


def is_refused(error: BaseException | None) -> bool:
    """Return whether the hub refused the token. Its client reports that as the cause of a missing local copy."""
    while error is not None:
        if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
            return True
        error = error.__cause__
    return False


def import_hub() -> tuple[Any, Any]:
    """Return the package huggingface_hub and its errors. Raises WeightsError."""
    try:
        return importlib.import_module("huggingface_hub"), importlib.import_module("huggingface_hub.errors")
    except ImportError:
        raise WeightsError("downloading weights needs huggingface_hub: pip install 'dormouse-search[hf]'") from None
