"""The hub's JSON configs <-> the fields of our configs: every key is used, or has the one value that we
build, or is named as meaningless here. Anything else is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

__all__ = [
    "BOOKKEEPING", "COUNT", "COUNTS", "LAYERS", "NUMBER", "TABLES", "UNET", "VAE", "VOCODER", "ConfigError",
    "ConfigTable", "Kind", "check_front_end", "check_kinds", "check_scheduler", "front_end_from_hub",
    "front_end_to_hub", "tupled", "unet_from_hub", "unet_to_hub", "vae_from_hub",
    "vae_to_hub", "vocoder_from_hub", "vocoder_to_hub",
]  # fmt: skip


class ConfigError(ValueError):
    """A config that names something this architecture does not have, or leaves out something it needs."""


BOOKKEEPING = (
    "_class_name", "_diffusers_version", "_name_or_path", "_attn_implementation_autoset", "architectures",
    "dtype", "torch_dtype", "transformers_version", "return_dict", "output_attentions",
    "output_hidden_states",
)  # fmt: skip


LARGEST_COUNT = 1 << 16  # of channels, samples or tokens: far above any model of this kind
MOST_LAYERS = 32  # of anything that is repeated; a config that asks for 10^9 must not keep us building


@dataclass(frozen=True)
class Kind:
    """What a value of a config may be: the words for it, and the test."""

    words: str
    accepts: Callable[[Any], bool]


def _count(value: Any, most: int = LARGEST_COUNT) -> bool:
    return type(value) is int and 1 <= value <= most


def _list_of(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list) and 1 <= len(value) <= MOST_LAYERS and all(map(accepts, value))
    )


COUNT = Kind(f"a whole number from 1 to {LARGEST_COUNT}", _count)
LAYERS = Kind(f"a whole number from 1 to {MOST_LAYERS}", lambda value: _count(value, MOST_LAYERS))
COUNTS = Kind(f"a list of 1 to {MOST_LAYERS} whole numbers from 1 to {LARGEST_COUNT}", _list_of(_count))
COUNT_OR_COUNTS = Kind(f"{COUNT.words}, or {COUNTS.words}", lambda v: COUNT.accepts(v) or COUNTS.accepts(v))
COUNT_LISTS = Kind(f"a list of lists like {COUNTS.words}", _list_of(COUNTS.accepts))
NUMBER = Kind(
    "a positive number", lambda v: type(v) in (int, float) and isfinite(v) and 0 < v <= LARGEST_COUNT
)
NAMES = Kind("a list of names", _list_of(lambda value: isinstance(value, str)))


@dataclass(frozen=True)
class ConfigTable:
    """facts: keys that are fields of ours, by the same name. derived: keys that the caller reads itself.
    required: keys that must be there with this value (their absence means another one to Diffusers). fixed:
    keys that, if there, must have this value. ignored: keys that change nothing here. classes: what the file
    may say that it describes.
    """

    name: str
    classes: Sequence[str]
    facts: Mapping[str, Kind]
    required: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    ignored: Sequence[str] = ()
    derived: Mapping[str, Kind] = field(default_factory=dict)


UNET = ConfigTable(
    "U-Net config",
    classes=("UNet2DConditionModel",),
    facts={
        "in_channels": COUNT, "out_channels": COUNT, "block_out_channels": COUNTS, "layers_per_block": LAYERS,
        "norm_num_groups": COUNT, "norm_eps": NUMBER, "sample_size": COUNT,
    },
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
    derived={
        "attention_head_dim": COUNT_OR_COUNTS, "down_block_types": NAMES, "up_block_types": NAMES,
        "cross_attention_dim": COUNTS, "projection_class_embeddings_input_dim": COUNT,
    },
)  # fmt: skip

VAE = ConfigTable(
    "VAE config",
    classes=("AutoencoderKL",),
    facts={
        "in_channels": COUNT, "out_channels": COUNT, "block_out_channels": COUNTS, "layers_per_block": LAYERS,
        "latent_channels": COUNT, "norm_num_groups": COUNT, "scaling_factor": NUMBER,
    },
    fixed={
        "act_fn": "silu", "latents_mean": None, "latents_std": None, "shift_factor": None,
        "mid_block_add_attention": True, "use_quant_conv": True, "use_post_quant_conv": True,
    },
    ignored=("force_upcast", "sample_size"),
    derived={"down_block_types": NAMES, "up_block_types": NAMES},
)  # fmt: skip

VOCODER = ConfigTable(
    "vocoder config",
    classes=("SpeechT5HifiGan",),
    facts={
        "model_in_dim": COUNT, "sampling_rate": COUNT, "upsample_initial_channel": COUNT,
        "upsample_rates": COUNTS, "upsample_kernel_sizes": COUNTS, "resblock_kernel_sizes": COUNTS,
        "resblock_dilation_sizes": COUNT_LISTS, "leaky_relu_slope": NUMBER,
    },
    required={"normalize_before": False},
    fixed={"model_type": "hifigan"},
    ignored=("initializer_range",),
)  # fmt: skip


TABLES = {"unet": UNET, "vae": VAE, "vocoder": VOCODER}


def check_kinds(kinds: Mapping[str, Kind], values: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values that are there, one line each; JSON values, lists as lists."""
    return [
        f"wrong type   {key} = {values[key]!r:.80}: expected {kind.words}"
        for key, kind in kinds.items()
        if key in values and not kind.accepts(values[key])
    ]


_FRONT_END = {  # of CLAP's feature extractor and tokenizer
    "feature_size": Kind("a whole number from 1 to 1024", lambda value: _count(value, 1 << 10)),
    "fft_window_size": Kind("a whole number from 1 to 16384", lambda value: _count(value, 1 << 14)),
    "nb_frequency_bins": Kind("a whole number from 1 to 16384", lambda value: _count(value, 1 << 14)),
    "hop_length": COUNT,
    "sampling_rate": Kind("a whole number from 1 to 2^20", lambda value: _count(value, 1 << 20)),
    "nb_max_samples": Kind("a whole number from 1 to 2^26", lambda value: _count(value, 1 << 26)),
    "max_length_s": Kind("whole seconds from 1 to 600", lambda value: _count(value, 600)),
    "frequency_min": Kind("a number from 0", lambda v: v == 0 or NUMBER.accepts(v)),
    "frequency_max": NUMBER,
    "model_max_length": Kind("a positive number", lambda v: type(v) in (int, float) and v > 0),
}
_FRONT_END_DEFAULTS = {  # of transformers' ClapFeatureExtractor: what an absent key means
    "feature_size": 64, "sampling_rate": 48000, "hop_length": 480, "max_length_s": 10,
    "fft_window_size": 1024, "frequency_min": 0, "frequency_max": 14000,
}  # fmt: skip
_FRONT_END_FIXED = {"padding": "repeatpad", "padding_value": 0.0}
_FRONT_END_CLASSES = ("RobertaTokenizer", "RobertaTokenizerFast", "ClapFeatureExtractor")


def check_front_end(hub: Mapping[str, Any], class_key: str, mel_bins: int, where: str) -> None:
    """A tokenizer's or feature extractor's JSON. `where` names the file.

    Raises ConfigError if it asks for another class, for code from elsewhere, for absurd sizes, or for other
    mel bins than the model hears.
    """
    problems = check_kinds(_FRONT_END, hub)
    if hub.get("feature_size", mel_bins) != mel_bins:
        problems.append(f"does not fit feature_size = {hub['feature_size']!r:.80}: the model has {mel_bins}")
    if hub.get("auto_map"):
        problems.append(f"refused      auto_map = {hub['auto_map']!r:.80}: it names code to run")
    said = hub.get(class_key)
    if said is not None and said not in _FRONT_END_CLASSES:
        problems.append(f"unsupported  {class_key} = {said!r:.80}: only {', '.join(_FRONT_END_CLASSES)}")
    if problems:
        raise ConfigError(f"front end: {where} is not MusicLDM's:\n  " + "\n  ".join(problems))


def front_end_from_hub(hub: Mapping[str, Any], mel_bins: int, where: str) -> dict[str, Any]:
    """preprocessor_config.json -> the settings that count, under the hub's names, without gaps.

    Raises ConfigError as `check_front_end` does, and for a padding that CLAP was not trained with.
    """
    check_front_end(hub, "feature_extractor_type", mel_bins, where)
    facts = {key: hub.get(key, default) for key, default in _FRONT_END_DEFAULTS.items()}
    problems = [
        f"unsupported  {key} = {hub[key]!r:.80}: only {value!r} is supported"
        for key, value in _FRONT_END_FIXED.items()
        if hub.get(key, value) != value
    ]
    low, high, nyquist = facts["frequency_min"], facts["frequency_max"], facts["sampling_rate"] / 2
    if not low < high <= nyquist:
        problems.append(
            f"absurd       frequency_min = {low}, frequency_max = {high}: expected 0 <= min < max <= "
            f"{nyquist} Hz, half the sampling rate"
        )
    if problems:
        raise ConfigError(f"front end: {where} is not MusicLDM's:\n  " + "\n  ".join(problems))
    return facts


def front_end_to_hub(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that `front_end_from_hub` gives -> a preprocessor_config.json that transformers reads."""
    return {
        "feature_extractor_type": "ClapFeatureExtractor",
        **facts,
        **_FRONT_END_FIXED,
        "nb_frequency_bins": facts["fft_window_size"] // 2 + 1,
        "nb_max_samples": facts["max_length_s"] * facts["sampling_rate"],
        "padding_side": "right",
        "return_attention_mask": False,
        "top_db": None,
        "truncation": "rand_trunc",
    }


def check_scheduler(hub: Mapping[str, Any], where: str) -> None:
    """The number that a scheduler's tables grow with; all else is the schedulers' own business.

    `where` names the file. Raises ConfigError if it is no count, or absurd.
    """
    problems = check_kinds({"num_train_timesteps": COUNT}, hub)
    if problems:
        raise ConfigError(f"scheduler: {where}:\n  " + "\n  ".join(problems))


def _facts(table: ConfigTable, hub: Mapping[str, Any], where: str) -> dict[str, Any]:
    """hub JSON -> the fields that both sides have, lists as tuples. `where` names the file in the error.

    Raises ConfigError with every missing, unknown, mis-typed, absurd and unsupported key.
    """
    _check_class(table, hub, where)
    kinds = {**table.facts, **table.derived}
    problems = [f"missing      {key}" for key in (*kinds, *table.required) if key not in hub]
    problems += check_kinds(kinds, hub)
    for key, value in {**table.required, **table.fixed}.items():
        if key in hub and not _same_value(hub[key], value):
            problems.append(f"unsupported  {key} = {hub[key]!r:.80}: only {value!r} is built here")
    known = {*kinds, *table.required, *table.fixed, *table.ignored, *BOOKKEEPING}
    problems += [f"unknown      {key:.80} = {hub[key]!r:.80}" for key in hub if key not in known]
    if problems:
        raise ConfigError(f"{table.name}: {where} does not describe a MusicLDM:\n  " + "\n  ".join(problems))
    return {key: tupled(hub[key]) for key in table.facts}


def _check_class(table: ConfigTable, hub: Mapping[str, Any], where: str) -> None:
    """A folder with another component's config is named as such, before a list of its every key."""
    architectures = hub.get("architectures") or []
    said = [hub["_class_name"]] if "_class_name" in hub else architectures
    if said and not (isinstance(said, list) and set(map(str, said)) & set(table.classes)):
        raise ConfigError(
            f"{table.name}: {where} describes {said!r:.80}, expected {table.classes[0]}; are two folders "
            "swapped?"
        )


def _same_value(got: Any, expected: Any) -> bool:
    """Equal, and not merely to Python: 1 is no true."""
    return got == expected and isinstance(got, bool) == isinstance(expected, bool)


def _hub(table: ConfigTable, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _listed(fields[key]) for key in table.facts} | dict(table.required) | dict(table.fixed)


def unet_from_hub(hub: Mapping[str, Any], where: str) -> dict[str, Any]:
    """U-Net JSON -> fields of `UNetConfig`. `where` names the file in the error. Raises ConfigError."""
    facts = _facts(UNET, hub, where)
    widths = facts["block_out_channels"]
    _same(where, "cross_attention_dim", hub, widths)  # of its own level: "cross" attention is self-attention
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
    counts = tupled(hub[key]) if isinstance(hub[key], list) else (hub[key],) * levels
    if len(counts) != levels:
        raise ConfigError(
            f"U-Net config: {where}: got {key} {hub[key]}, expected a count, or one for each of "
            f"{levels} levels"
        )
    return counts


def _same(where: str, key: str, hub: Mapping[str, Any], expected: tuple[Any, ...]) -> None:
    if tupled(hub[key]) != expected:
        raise ConfigError(f"{where}: got {key} {hub[key]}, expected {list(expected)}")


def tupled(value: Any) -> Any:
    """JSON's lists as tuples, at every depth."""
    return tuple(map(tupled, value)) if isinstance(value, (list, tuple)) else value


def _listed(value: Any) -> Any:
    return list(map(_listed, value)) if isinstance(value, (list, tuple)) else value
