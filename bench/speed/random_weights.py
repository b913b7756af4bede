"""`python -m bench weights OUT`: a Gemma 3 checkpoint with random weights, for tests and throughput.

They find nothing, but they tell pages apart: two servers that agree on them compute the same thing. Plain random
weights do not (all pages get one vector), so three things are chosen: patch filters ignore an even background, position
counts little beside content, and attention prefers some tokens over others without being so sharp that rounding
decides.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.options import parse_seed
from serving.embedders.bigemma3.colpali_import import block_unused_imports

ABOUT = "a Gemma 3 checkpoint with random weights, for tests and throughput"
LAYOUTS: Mapping[str, tuple[str, str, str]] = {
    "hub": ("language_model.model.", "vision_tower.vision_model.", "multi_modal_projector."),
    "nested": ("model.language_model.", "model.vision_tower.vision_model.", "model.multi_modal_projector."),
    "base": ("language_model.", "vision_tower.vision_model.", "multi_modal_projector."),
    "flat": ("language_model.", "vision_tower.", "multi_modal_projector."),
}
"""Prefixes of tensor names in the wild: as google/gemma-3-4b-it has them, as transformers 4.52 to 4.57 saves the whole
model, the same for its core (BiGemma3), and as transformers 5.17 and later save the core."""
PARTS = ("language_model.", "vision_tower.", "multi_modal_projector.")
GEMMA = "Gemma3ForConditionalGeneration"
SHARD_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Shape:
    """The sizes of a model."""

    text: Mapping[str, int]
    vision: Mapping[str, int]
    vocabulary: int
    every: int
    """Every so many layers of the language model, one sees everything; the others see a window."""


TEXT = {
    "tiny": {
        "hidden_size": 2560, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 64, "query_pre_attn_scalar": 64,
    },
    "4b": {
        "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256,
    },
}  # fmt: skip
VISION = {
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 224,
    },
    "4b": {
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
        "image_size": 896,
    },
}  # fmt: skip
SHAPES = {
    "tiny": Shape(TEXT["tiny"], VISION["tiny"], 1024, every=2),
    "4b": Shape(TEXT["4b"], VISION["4b"], 262_208, every=6),
}
"""tiny: 2560 dimensions and 256 image tokens like the real one, 6 million parameters, a page in 0.1 s on a CPU."""

CORPUS = (
    "Query: what was the total revenue in the third quarter of 2024?", "Describe this image", "user model system",
    "financial report quarterly results sales dashboard product roadmap organisational chart invoice timetable",
    "the of and to in a is that for it as with on by this from or an be are at which you have not who how many pages",
    "der die das und ist nicht mit auf von Rechnung Betrag Straße", "le la les des une facture montant naïve façade",
    "भारत का राजस्व", "売上高 報告書", "счёт на оплату",
)  # fmt: skip
CONTROLS = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>")
IMAGE = ("<start_of_image>", "<end_of_image>", "<image_soft_token>")
# Gemma 3's, as far as one user turn goes: turns in marks, text trimmed, a mark where an image stands.
CHAT_TEMPLATE = (
    "{{ bos_token }}{%- for message in messages -%}"
    "{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}"
    "{{ '<start_of_turn>' + role + '\n' }}"
    "{%- if message['content'] is string -%}{{ message['content'] | trim }}"
    "{%- else -%}{%- for item in message['content'] -%}"
    "{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}"
    "{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{ '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)


def build_checkpoint(
    out: Path, shape: str = "tiny", layout: str = "hub", seed: int = 0, device: str = "cpu", architecture: str = GEMMA
) -> Path:
    """Write a whole checkpoint, bfloat16, into the folder `out`, and return it."""
    out.mkdir(parents=True, exist_ok=True)
    vocabulary = write_tokenizer(out)
    config = write_configs(out, SHAPES[shape], vocabulary, architecture)
    write_tensors(out, config, layout, seed, device)
    return out


def write_tokenizer(out: Path) -> dict[str, int]:
    """Write a byte-fallback BPE like Gemma's, trained on a few lines, and return its vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))  # noqa: S106
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    letters = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=[*CONTROLS, *letters], show_progress=False)
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    content = json.loads(tokenizer.to_str())
    model = content["model"]
    for token in [*("\n" * n for n in range(1, 5)), *IMAGE]:
        model["vocab"].setdefault(token, len(model["vocab"]))
    merges = [["\n", "\n"], ["\n\n", "\n\n"], ["\n\n", "\n"]]
    model["merges"] = merges + [pair for pair in model["merges"] if "\n" not in "".join(pair)]
    content["added_tokens"] = []  # the byte tokens are words like others
    tokenizer = Tokenizer.from_str(json.dumps(content))
    marks = [AddedToken(token, special=True, normalized=False) for token in (*CONTROLS, *IMAGE)]
    tokenizer.add_special_tokens(marks)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    begin = [("<bos>", vocabulary["<bos>"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=begin
    )
    tokenizer.save(str(out / "tokenizer.json"))
    return vocabulary


def write_configs(out: Path, shape: Shape, vocabulary: dict[str, int], architecture: str) -> Any:
    """Write all files but the tokenizer's and the tensors, and return the model's configuration."""
    block_unused_imports()
    from transformers import Gemma3Config

    marks = dict(zip(("boi_token", "eoi_token", "image_token"), IMAGE, strict=True))
    tokenizer = {
        "tokenizer_class": "GemmaTokenizerFast", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>",
        "unk_token": "<unk>", "add_bos_token": True, "add_eos_token": False, "padding_side": "left", **marks,
        "extra_special_tokens": marks, "clean_up_tokenization_spaces": False, "model_max_length": 131_072,
        "processor_class": "Gemma3Processor", "chat_template": CHAT_TEMPLATE,
    }  # fmt: skip
    write_json(out / "tokenizer_config.json", tokenizer)
    write_json(out / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    side = shape.vision["image_size"]
    preprocessor = {
        "do_convert_rgb": None, "do_normalize": True, "do_pan_and_scan": None, "do_rescale": True,
        "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2,
        "image_processor_type": "Gemma3ImageProcessor", "image_seq_length": 256, "rescale_factor": 1 / 255,
        "processor_class": "Gemma3Processor", "size": {"height": side, "width": side},
    }  # fmt: skip
    write_json(out / "preprocessor_config.json", preprocessor)
    write_json(out / "processor_config.json", {"image_seq_length": 256, "processor_class": "Gemma3Processor"})
    layers = range(1, shape.text["num_hidden_layers"] + 1)
    text = {
        **shape.text, "vocab_size": shape.vocabulary, "sliding_window": 1024, "max_position_embeddings": 131_072,
        "pad_token_id": vocabulary["<pad>"], "eos_token_id": vocabulary["<eos>"], "bos_token_id": vocabulary["<bos>"],
        "layer_types": ["sliding_attention" if layer % shape.every else "full_attention" for layer in layers],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    }  # fmt: skip
    vision = {**shape.vision, "patch_size": 14, "vision_use_head": False, "model_type": "siglip_vision_model"}
    indices: dict[str, Any] = {f"{name}_index": vocabulary[token] for name, token in marks.items()}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=256, **indices)
    config.architectures = [architecture]
    config.dtype = "bfloat16"
    config.save_pretrained(out)
    return config


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1))


def rename_tensor(name: str, layout: str) -> str:
    """Return a tensor's name in a layout. Raises ValueError for one of no known part."""
    for part, prefix in zip(PARTS, LAYOUTS[layout], strict=True):
        if name.startswith(part):
            return prefix + name.removeprefix(part)
    raise ValueError(f"{name} is a parameter of no known part of BiGemma3")


def write_tensors(out: Path, config: Any, layout: str, seed: int, device: str) -> None:
    """Write the tensors, in several files above `SHARD_BYTES`."""
    from safetensors.torch import save_file

    shards: list[dict[str, Any]] = [{}]
    size = 0
    for name, tensor in draw_tensors(config, seed, device):
        if size + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][rename_tensor(name, layout)] = tensor.cpu()
        size += tensor.nbytes
    names = ["model.safetensors"]
    if len(shards) > 1:
        names = [f"model-{n:05}-of-{len(shards):05}.safetensors" for n in range(1, len(shards) + 1)]
        index = {key: name for shard, name in zip(shards, names, strict=True) for key in shard}
        total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
        write_json(out / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": index})
    for shard, name in zip(shards, names, strict=True):
        save_file(shard, out / name, metadata={"format": "pt"})


def draw_tensors(config: Any, seed: int, device: str) -> Iterator[tuple[str, Any]]:
    """Yield name (as BiGemma3 on a current transformers has it) and bfloat16 values of each parameter."""
    block_unused_imports()
    import torch
    from transformers.models.gemma3 import Gemma3Model

    with torch.device("meta"):
        named = dict(Gemma3Model(config).named_parameters())
    shapes = {name.replace("tower.vision_model.", "tower."): tuple(values.shape) for name, values in named.items()}
    generator = torch.Generator(device).manual_seed(seed)
    for name, shape in sorted(shapes.items()):
        drawn = torch.randn(shape, generator=generator, device=device)
        yield name, scale_tensor(name, drawn).to(torch.bfloat16).contiguous()


def scale_tensor(name: str, drawn: Any) -> Any:
    """Return a tensor's values, made of normal numbers of its shape."""
    if name.endswith("patch_embedding.weight"):
        return (drawn - drawn.mean(dim=(1, 2, 3), keepdim=True)) / (drawn[0].numel() ** 0.5)
    if name.endswith("position_embedding.weight"):
        return drawn * 0.1
    if name.endswith("mm_input_projection_weight"):
        return drawn / drawn.shape[0] ** 0.5
    if name.endswith("embed_tokens.weight"):
        return drawn * 0.02
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        return 0.25 + drawn * 0.05
    if drawn.ndim > 1:
        return drawn / drawn.shape[-1] ** 0.5
    # Layer norms multiply by their weight, the language model's RMS norms by one more than theirs.
    layer_norm = name.startswith("vision_tower") and "norm" in name and name.endswith("weight")
    return drawn * 0.05 + (1 if layer_norm else 0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path)
    add("--shape", choices=tuple(SHAPES), default="tiny", help="default: %(default)s")
    add("--layout", choices=tuple(LAYOUTS), default="hub", help="layout of tensor names; default: %(default)s")
    add("--seed", type=parse_seed, default=0, help="default: %(default)s")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="device that draws them; default: %(default)s")


def main(options: argparse.Namespace) -> int:
    folder = build_checkpoint(options.folder, options.shape, options.layout, options.seed, options.device)
    print(f"written to {folder}")
    return 0
