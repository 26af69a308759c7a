"""The hub's JSON configs <-> the fields of our configs: every key is used, or has the one value that we
build, or is named as meaningless here. Anything else is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "UNET", "VAE", "VOCODER", "ConfigError", "ConfigTable", "unet_from_hub", "unet_to_hub", "vae_from_hub",
    "vae_to_hub", "vocoder_from_hub", "vocoder_to_hub",
]  # fmt: skip


class ConfigError(ValueError):
    """A config that names something this architecture does not have, or leaves out something it needs."""


BOOKKEEPING = (
    "_class_name", "_diffusers_version", "_name_or_path", "_attn_implementation_autoset", "architectures",
    "dtype", "torch_dtype", "transformers_version", "return_dict", "output_attentions",
    "output_hidden_states",
)  # fmt: skip


@dataclass(frozen=True)
class ConfigTable:
    """facts: keys that are fields of ours, by the same name. required: keys that must be there with this
    value (their absence means another one to Diffusers). fixed: keys that, if there, must have this value.
    ignored: keys that change nothing here.
    """

    name: str
    facts: Sequence[str]
    required: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    ignored: Sequence[str] = ()
    derived: Sequence[str] = ()  # keys that the caller reads itself


UNET = ConfigTable(
    "U-Net config",
    facts=("in_channels", "out_channels", "block_out_channels", "layers_per_block", "norm_num_groups",
           "norm_eps", "sample_size"),
    required={"class_embed_type": "simple_projection", "class_embeddings_concat": True},
    fixed={
        "act_fn": "silu", "addition_embed_type": None, "attention_type": "default",
        "center_input_sample": False,
        "conv_in_kernel": 3, "conv_out_kernel": 3, "cross_attention_norm": None, "downsample_padding": 1,
        "dropout": 0.0, "dual_cross_attention": False, "encoder_hid_dim": None, "encoder_hid_dim_type": None,
        "flip_sin_to_cos": True, "freq_shift": 0, "mid_block_only_cross_attention": None,
        "mid_block_scale_factor": 1, "mid_block_type": "UNetMidBlock2DCrossAttn", "num_attention_heads": None,
        "num_class_embeds": None, "only_cross_attention": False, "resnet_out_scale_factor": 1.0,
        "resnet_skip_time_act": False, "resnet_time_scale_shift": "default",
        "reverse_transformer_layers_per_block": None, "time_cond_proj_dim": None,
        "time_embedding_act_fn": None,
        "time_embedding_dim": None, "time_embedding_type": "positional", "timestep_post_act": None,
        "transformer_layers_per_block": 1, "upcast_attention": False, "use_linear_projection": False,
    },
    ignored=("addition_embed_type_num_heads", "addition_time_embed_dim"),
    derived=("attention_head_dim", "down_block_types", "up_block_types", "cross_attention_dim",
             "projection_class_embeddings_input_dim"),
)  # fmt: skip

VAE = ConfigTable(
    "VAE config",
    facts=("in_channels", "out_channels", "block_out_channels", "layers_per_block", "latent_channels",
           "norm_num_groups", "scaling_factor"),
    fixed={
        "act_fn": "silu", "latents_mean": None, "latents_std": None, "shift_factor": None,
        "mid_block_add_attention": True, "use_quant_conv": True, "use_post_quant_conv": True,
    },
    ignored=("force_upcast", "sample_size"),
    derived=("down_block_types", "up_block_types"),
)  # fmt: skip

VOCODER = ConfigTable(
    "vocoder config",
    facts=("model_in_dim", "sampling_rate", "upsample_initial_channel", "upsample_rates",
           "upsample_kernel_sizes", "resblock_kernel_sizes", "resblock_dilation_sizes", "leaky_relu_slope"),
    required={"normalize_before": False},
    fixed={"model_type": "hifigan"},
    ignored=("initializer_range",),
)  # fmt: skip


def _facts(table: ConfigTable, hub: Mapping[str, Any], where: str) -> dict[str, Any]:
    """hub JSON -> the fields that both sides have, lists as tuples. `where` names the file in the error.

    Raises ConfigError with every missing, unknown and unsupported key.
    """
    problems = [
        f"missing      {key}" for key in (*table.facts, *table.required, *table.derived) if key not in hub
    ]
    for key, value in (table.required | table.fixed).items():  # type: ignore[operator]
        if key in hub and _tupled(hub[key]) != _tupled(value):
            problems.append(f"unsupported  {key} = {hub[key]!r}: only {value!r} is built here")
    known = {*table.facts, *table.required, *table.fixed, *table.ignored, *table.derived, *BOOKKEEPING}
    problems += [f"unknown      {key} = {hub[key]!r}" for key in hub if key not in known]
    if problems:
        raise ConfigError(f"{table.name}: {where} does not describe a MusicLDM:\n  " + "\n  ".join(problems))
    return {key: _tupled(hub[key]) for key in table.facts}


def _hub(table: ConfigTable, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _listed(fields[key]) for key in table.facts} | dict(table.required) | dict(table.fixed)


def unet_from_hub(hub: Mapping[str, Any], where: str) -> dict[str, Any]:
    """U-Net JSON -> fields of `UNetConfig`. `where` names the file in the error. Raises ConfigError."""
    facts = _facts(UNET, hub, where)
    widths = facts["block_out_channels"]
    _same(
        where, "cross_attention_dim", hub, widths
    )  # "cross" attention sees its own level: it is self-attention
    attending = _levels(where, "down_block_types", hub, "CrossAttnDownBlock2D", "DownBlock2D", len(widths))
    _same(
        where,
        "up_block_types",
        hub,
        tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attending[::-1]),
    )
    if not attending[-1]:
        raise ConfigError(f"U-Net config: {where}: the last level has no attention, but the middle block has")
    # Diffusers' `attention_head_dim` is the *number* of heads, one for all levels or one per level
    heads = _per_level(where, "attention_head_dim", hub, len(widths))
    return facts | {
        "heads": tuple(n if attends else 0 for n, attends in zip(heads, attending, strict=True)),
        "cond_dim": hub["projection_class_embeddings_input_dim"],
    }


def unet_to_hub(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `UNetConfig` -> U-Net JSON."""
    heads, widths = fields["heads"], fields["block_out_channels"]
    if not heads[-1]:
        raise ConfigError("U-Net config: the hub's layout has no model whose last level does not attend")
    counts = sorted(set(heads) - {0})
    return {"_class_name": "UNet2DConditionModel"} | _hub(UNET, fields) | {
        "attention_head_dim": counts[0] if len(counts) == 1 else [n or counts[0] for n in heads],
        "cross_attention_dim": list(widths),
        "down_block_types": ["CrossAttnDownBlock2D" if n else "DownBlock2D" for n in heads],
        "up_block_types": ["CrossAttnUpBlock2D" if n else "UpBlock2D" for n in heads[::-1]],
        "projection_class_embeddings_input_dim": fields["cond_dim"],
    }  # fmt: skip


def vae_from_hub(hub: Mapping[str, Any], where: str) -> dict[str, Any]:
    """VAE JSON -> fields of `VAEConfig`. `where` names the file in the error. Raises ConfigError."""
    facts = _facts(VAE, hub, where)
    levels = len(facts["block_out_channels"])
    _same(where, "down_block_types", hub, ("DownEncoderBlock2D",) * levels)
    _same(where, "up_block_types", hub, ("UpDecoderBlock2D",) * levels)
    return facts


def vae_to_hub(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `VAEConfig` -> VAE JSON."""
    levels = len(fields["block_out_channels"])
    return {"_class_name": "AutoencoderKL"} | _hub(VAE, fields) | {
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }  # fmt: skip


def vocoder_from_hub(hub: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Vocoder JSON -> fields of `VocoderConfig`. `where` names the file in the error. Raises ConfigError."""
    return _facts(VOCODER, hub, where)


def vocoder_to_hub(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `VocoderConfig` -> vocoder JSON."""
    return {"architectures": ["SpeechT5HifiGan"]} | _hub(VOCODER, fields)


def _levels(where: str, key: str, hub: Mapping[str, Any], yes: str, no: str, levels: int) -> list[bool]:
    if len(hub[key]) != levels or set(hub[key]) - {yes, no}:
        raise ConfigError(
            f"U-Net config: {where}: got {key} {hub[key]}, expected {levels} of {yes!r} or {no!r}"
        )
    return [name == yes for name in hub[key]]


def _per_level(where: str, key: str, hub: Mapping[str, Any], levels: int) -> tuple[int, ...]:
    counts = _tupled(hub[key]) if isinstance(hub[key], list) else (hub[key],) * levels
    if len(counts) != levels or not all(isinstance(n, int) and n > 0 for n in counts):
        raise ConfigError(
            f"U-Net config: {where}: got {key} {hub[key]}, expected a count, or one for each of "
            f"{levels} levels"
        )
    return counts


def _same(where: str, key: str, hub: Mapping[str, Any], expected: tuple[Any, ...]) -> None:
    if _tupled(hub[key]) != expected:
        raise ConfigError(f"{where}: got {key} {hub[key]}, expected {list(expected)}")


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, (list, tuple)) else value


def _listed(value: Any) -> Any:
    return list(map(_listed, value)) if isinstance(value, (list, tuple)) else value
