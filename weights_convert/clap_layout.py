"""CLAP as transformers writes it: what a config may say, and which tensors follow from it.

What the weights must be called and how large they must be is written down here, so that a file can be
checked, and the authors' file converted, before anything is built; and so that the audio tower, which
transformers runs, can hold its weights before transformers is imported.

Source: transformers 4.51.3, modeling_clap.py, ClapModel without fusion; checked against its state dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .hub_config import COUNT, COUNTS, LAYERS, NUMBER, ConfigError, Kind, check_kinds, tupled

__all__ = ["audio_tensors", "audio_to_hub", "clap_facts", "clap_tensors", "clap_to_hub", "text_constants"]

Shapes = dict[str, tuple[int, ...]]

_SHARE = Kind("a number from 0, less than 1", lambda v: type(v) in (int, float) and 0 <= v < 1)
_PAIR = Kind("two equal whole numbers", lambda v: COUNTS.accepts(v) and len(v) == 2 and v[0] == v[1])

_TEXT: Mapping[str, Kind] = {
    "vocab_size": Kind("a whole number from 1 to 2^20", lambda v: type(v) is int and 1 <= v <= 1 << 20),
    "hidden_size": COUNT,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": COUNT,
    "intermediate_size": COUNT,
    "max_position_embeddings": COUNT,
    "type_vocab_size": COUNT,
    "layer_norm_eps": NUMBER,
    "hidden_dropout_prob": _SHARE,
    "attention_probs_dropout_prob": _SHARE,
}
_AUDIO: Mapping[str, Kind] = {
    "patch_embeds_hidden_size": COUNT,
    "depths": COUNTS,
    "num_attention_heads": COUNTS,
    "window_size": COUNT,
    "num_mel_bins": COUNT,
    "patch_size": COUNT,
    "patch_stride": _PAIR,
    "spec_size": COUNT,
    "mlp_ratio": NUMBER,
    "layer_norm_eps": NUMBER,
    "hidden_dropout_prob": _SHARE,
    "attention_probs_dropout_prob": _SHARE,
    "drop_path_rate": _SHARE,
}
_JOINT: Mapping[str, Kind] = {"projection_dim": COUNT, "logit_scale_init_value": NUMBER}
_TEXT_DEFAULTS = {  # of transformers' classes: what an absent key means
    "vocab_size": 50265, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip
_AUDIO_DEFAULTS = {
    "patch_embeds_hidden_size": 96, "depths": [2, 2, 6, 2], "num_attention_heads": [4, 8, 16, 32],
    "window_size": 8, "num_mel_bins": 64, "patch_size": 4, "patch_stride": [4, 4], "spec_size": 256,
    "mlp_ratio": 4.0, "layer_norm_eps": 1e-5,
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.0, "drop_path_rate": 0.0,
}  # fmt: skip
_JOINT_DEFAULTS = {"projection_dim": 512, "logit_scale_init_value": 1 / 0.07}
_FIXED_TEXT = {
    "hidden_act": "gelu", "position_embedding_type": "absolute", "projection_hidden_act": "relu",
    "pad_token_id": 1, "initializer_factor": 1.0,
}  # fmt: skip
_FIXED_AUDIO = {
    "hidden_act": "gelu", "enable_fusion": False, "enable_patch_layer_norm": True,
    "flatten_patch_embeds": True, "patch_embed_input_channels": 1, "qkv_bias": True,
    "projection_hidden_act": "relu", "initializer_factor": 1.0,
}  # fmt: skip
_REFUSED = ("auto_map", "quantization_config")  # would make transformers fetch or run something else
_ATTENTION = (None, "eager", "sdpa")  # another name may be code on the hub
MOST_BLOCKS = 64  # in one stage of the audio tower; the published one has up to 12
LARGEST_SPEC = 1 << 12  # of the audio tower's square; the published one has 256


def clap_facts(hub: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """A ClapModel's JSON -> {"text": ..., "audio": ..., "joint": ...}, keys of the hub's, without gaps,
    lists as tuples.

    `where` names the file in the error. Keys that are not checked here have no effect on this model.
    Raises ConfigError with every mis-typed, absurd and unsupported value.
    """
    parts = {"text_config": hub.get("text_config"), "audio_config": hub.get("audio_config")}
    absent = [key for key, part in parts.items() if not isinstance(part, dict)]
    if absent or "_class_name" in hub or (hub.get("architectures") or ["ClapModel"]) != ["ClapModel"]:
        said = hub.get("_class_name", hub.get("architectures"))
        raise ConfigError(
            f"CLAP config: {where} describes no ClapModel (it says {said!r:.80}"
            + (f", and has no {' or '.join(absent)}" if absent else "")
            + "); are two folders swapped?"
        )
    text, audio = {**_TEXT_DEFAULTS, **hub["text_config"]}, {**_AUDIO_DEFAULTS, **hub["audio_config"]}
    joint = {key: hub.get(key, default) for key, default in _JOINT_DEFAULTS.items()}
    problems = [
        *check_kinds(_TEXT, text),
        *check_kinds(_AUDIO, audio),
        *check_kinds(_JOINT, joint),
        *_unsupported(_FIXED_TEXT, text),
        *_unsupported(_FIXED_AUDIO, audio),
        *(f"refused      {key}" for key in _REFUSED for part in (hub, text, audio) if part.get(key)),
        *(
            f"refused      {key} = {part[key]!r:.80}: expected one of {_ATTENTION}"
            for key in ("attn_implementation", "_attn_implementation")
            for part in (hub, text, audio)
            if key in part and part[key] not in _ATTENTION
        ),
    ]
    problems = problems or _inconsistent(text, audio)
    if problems:
        raise ConfigError(f"CLAP config: {where} does not describe MusicLDM's:\n  " + "\n  ".join(problems))
    return {
        "text": {key: text[key] for key in _TEXT},
        "audio": {key: tupled(audio[key]) for key in _AUDIO},
        "joint": joint,
    }


def clap_to_hub(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What `clap_facts` gives -> a ClapModel's JSON. What transformers wants said twice is said twice."""
    joint = facts["joint"]
    width = joint["projection_dim"]
    text = {"model_type": "clap_text_model", **facts["text"], **_FIXED_TEXT, "projection_dim": width}
    return {
        "architectures": ["ClapModel"],
        "model_type": "clap",
        "initializer_factor": 1.0,
        **joint,
        "projection_hidden_act": "relu",
        "text_config": text,
        "audio_config": {"model_type": "clap_audio_model", **audio_to_hub(facts["audio"], width)},
    }


def audio_to_hub(audio: Mapping[str, Any], projection_dim: int) -> dict[str, Any]:
    """The "audio" of `clap_facts` -> a ClapAudioConfig's JSON."""
    widths = _widths(audio)
    derived = {"hidden_size": widths[-1], "num_hidden_layers": len(widths), "projection_dim": projection_dim}
    lists = {key: list(value) for key, value in audio.items() if isinstance(value, tuple)}
    return {**audio, **lists, **_FIXED_AUDIO, **derived}


def _unsupported(fixed: Mapping[str, Any], part: Mapping[str, Any]) -> list[str]:
    return [
        f"unsupported  {key} = {part[key]!r:.80}: only {value!r} is supported"
        for key, value in fixed.items()
        if key in part and part[key] != value
    ]


def _inconsistent(text: Mapping[str, Any], audio: Mapping[str, Any]) -> list[str]:
    """Sizes that are each fine and do not go together."""
    widths = _widths(audio)
    problems = []
    if text["hidden_size"] % text["num_attention_heads"]:
        problems.append(f"text: {text['hidden_size']} channels in {text['num_attention_heads']} heads")
    if len(audio["depths"]) != len(audio["num_attention_heads"]) or max(audio["depths"]) > MOST_BLOCKS:
        problems.append(f"audio: depths {audio['depths']} with heads {audio['num_attention_heads']}")
    elif any(w % n for w, n in zip(widths, audio["num_attention_heads"], strict=True)):
        problems.append(f"audio: channels {widths} in heads {audio['num_attention_heads']}")
    if audio["spec_size"] > LARGEST_SPEC:
        problems.append(f"audio: spec_size {audio['spec_size']} is over {LARGEST_SPEC}")
    if audio["spec_size"] % (audio["patch_size"] * audio["window_size"]):
        problems.append(f"audio: spec_size {audio['spec_size']} does not split into windows")
    if widths[-1] > 1 << 16:
        problems.append(f"audio: {widths[-1]} channels in the last stage")
    return problems


def _widths(audio: Mapping[str, Any]) -> list[int]:
    return [audio["patch_embeds_hidden_size"] << stage for stage in range(len(audio["depths"]))]


def clap_tensors(facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """The tensors of a ClapModel of these sizes, on the meta device; not the text tower's constants."""
    joint, text = facts["joint"]["projection_dim"], facts["text"]
    shapes: Shapes = {"logit_scale_a": (), "logit_scale_t": ()}
    shapes |= _projection("text", text["hidden_size"], joint) | _text(text)
    return _empty(shapes) | audio_tensors(facts["audio"], joint)


def audio_tensors(audio: Mapping[str, Any], projection_dim: int) -> dict[str, Tensor]:
    """The tensors of a ClapAudioModelWithProjection, on the meta device: a ClapModel's audio side."""
    return _empty(_projection("audio", _widths(audio)[-1], projection_dim) | _audio(audio))


def text_constants(positions: int) -> dict[str, Tensor]:
    """What some versions of transformers save beside the weights and ask for again: 0, 1, ... and zeros."""
    return {
        "text_model.embeddings.position_ids": torch.arange(positions)[None],
        "text_model.embeddings.token_type_ids": torch.zeros(1, positions, dtype=torch.int64),
    }


def _empty(shapes: Shapes) -> dict[str, Tensor]:
    return {name: torch.empty(shape, dtype=_dtype(name), device="meta") for name, shape in shapes.items()}


def _projection(side: str, width: int, joint: int) -> Shapes:
    return _linear(f"{side}_projection.linear1", width, joint) | _linear(
        f"{side}_projection.linear2", joint, joint
    )


def _dtype(name: str) -> torch.dtype:
    counted = name.endswith(("relative_position_index", "num_batches_tracked"))
    return torch.int64 if counted else torch.float32


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _text(size: Mapping[str, Any]) -> Shapes:
    width, inner = size["hidden_size"], size["intermediate_size"]
    shapes: Shapes = {
        "text_model.embeddings.word_embeddings.weight": (size["vocab_size"], width),
        "text_model.embeddings.position_embeddings.weight": (size["max_position_embeddings"], width),
        "text_model.embeddings.token_type_embeddings.weight": (size["type_vocab_size"], width),
    }
    shapes |= _norm("text_model.embeddings.LayerNorm", width)
    for i in range(size["num_hidden_layers"]):
        layer = f"text_model.encoder.layer.{i}"
        for name in ("query", "key", "value"):
            shapes |= _linear(f"{layer}.attention.self.{name}", width, width)
        shapes |= _linear(f"{layer}.attention.output.dense", width, width)
        shapes |= _norm(f"{layer}.attention.output.LayerNorm", width)
        shapes |= _linear(f"{layer}.intermediate.dense", width, inner)
        shapes |= _linear(f"{layer}.output.dense", inner, width)
        shapes |= _norm(f"{layer}.output.LayerNorm", width)
    return shapes | _linear("text_model.pooler.dense", width, width)


def _audio(size: Mapping[str, Any]) -> Shapes:
    root, bins, patch = "audio_model.audio_encoder", size["num_mel_bins"], size["patch_size"]
    widths = _widths(size)
    shapes: Shapes = {
        f"{root}.batch_norm.{n}": (bins,) for n in ("weight", "bias", "running_mean", "running_var")
    }
    shapes |= {f"{root}.batch_norm.num_batches_tracked": ()}
    shapes |= {f"{root}.patch_embed.proj.weight": (widths[0], 1, patch, patch)}
    shapes |= {f"{root}.patch_embed.proj.bias": (widths[0],)}
    shapes |= _norm(f"{root}.patch_embed.norm", widths[0]) | _norm(f"{root}.norm", widths[-1])
    stages = zip(widths, size["depths"], size["num_attention_heads"], strict=True)
    for i, (width, depth, heads) in enumerate(stages):
        for j in range(depth):
            block = f"{root}.layers.{i}.blocks.{j}"
            shapes |= _swin_block(block, width, heads, size["window_size"], int(width * size["mlp_ratio"]))
        if i < len(widths) - 1:
            shapes |= {f"{root}.layers.{i}.downsample.reduction.weight": (2 * width, 4 * width)}
            shapes |= _norm(f"{root}.layers.{i}.downsample.norm", 4 * width)
    return shapes


def _swin_block(name: str, width: int, heads: int, window: int, inner: int) -> Shapes:
    shapes: Shapes = {
        f"{name}.attention.self.relative_position_bias_table": ((2 * window - 1) ** 2, heads),
        f"{name}.attention.self.relative_position_index": (window**2, window**2),
    }
    for part in ("query", "key", "value"):
        shapes |= _linear(f"{name}.attention.self.{part}", width, width)
    shapes |= _linear(f"{name}.attention.output.dense", width, width)
    shapes |= _norm(f"{name}.layernorm_before", width) | _norm(f"{name}.layernorm_after", width)
    return (
        shapes
        | _linear(f"{name}.intermediate.dense", width, inner)
        | _linear(f"{name}.output.dense", inner, width)
    )
