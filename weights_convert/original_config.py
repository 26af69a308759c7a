"""The shapes of the authors' tensors, and the facts beside them -> the hub's JSON configs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from . import hub_config
from .hub_config import ConfigError
from .original_facts import Facts, check_stated

__all__ = ["clap_config", "scheduler_config", "unet_config", "vae_config", "vocoder_config"]

NORM_GROUPS = 32  # fixed in the authors' code, for the U-Net and the autoencoder
TEXT_HEAD_WIDTH = 64  # of RoBERTa-base, which the authors load by name
TEXT_NORM_EPS = 1e-5  # of RoBERTa-base; the hub's class would default to 1e-12
SPEC_SIZE = 256  # side of the square that HTSAT folds a spectrogram into, fixed in its code
MOST = 64  # blocks or levels counted before giving up
BETAS_AGREE = 1e-6  # absolute; the file's table is float32 of a float64 computation

Tensors = Mapping[str, Tensor]


def _shape(tensors: Tensors, name: str, what: str, ndim: int) -> torch.Size:
    if name not in tensors or tensors[name].ndim != ndim:
        got = tuple(tensors[name].shape) if name in tensors else "none"
        raise ConfigError(f"{what}: expected a tensor {name} with {ndim} axes, got {got}")
    return tensors[name].shape


def _count_while(tensors: Tensors, template: str, first: int = 0) -> int:
    """How many of template.format(first), (first + 1), ... there are, up to MOST."""
    numbers = itertools.takewhile(lambda i: template.format(i) in tensors, range(first, MOST))
    return sum(1 for _ in numbers)


def unet_config(tensors: Tensors, facts: Facts) -> dict[str, Any]:
    """The authors' U-Net tensors, without prefix -> the hub's U-Net config, with a head count per level.

    Raises ConfigError if they are no such U-Net, or the YAML contradicts them.
    """
    what = "the authors' U-Net"
    base, channels_in, *_ = _shape(tensors, "input_blocks.0.0.weight", what, 4)
    ends = [i for i in range(1, MOST) if f"input_blocks.{i}.0.op.weight" in tensors]  # of all levels but one
    layers = _count_while(tensors, "input_blocks.{}.0.in_layers.0.weight", first=1)
    widths, heads = [], []
    for level in range(len(ends) + 1):
        block = f"input_blocks.{1 + level * (layers + 1)}"
        width = _shape(tensors, f"{block}.0.in_layers.2.weight", what, 4)[0]
        attends = f"{block}.1.norm.weight" in tensors
        if attends and width % facts.num_head_channels:
            raise ConfigError(
                f"{what}: {width} channels do not split into heads of {facts.num_head_channels}; give the "
                "authors' YAML with --config"
            )
        widths.append(width)
        heads.append(width // facts.num_head_channels if attends else 0)
    multiples = [width // base for width in widths]
    check_stated(
        facts, {"U-Net model_channels": base, "U-Net channel_mult": multiples, "U-Net num_res_blocks": layers}
    )
    return hub_config.unet_to_hub(
        {
            "in_channels": channels_in,
            "out_channels": _shape(tensors, "out.2.weight", what, 4)[0],
            "block_out_channels": widths,
            "heads": heads,
            "layers_per_block": layers,
            "cond_dim": _shape(tensors, "film_emb.weight", what, 2)[1],
            "norm_num_groups": NORM_GROUPS,
            "norm_eps": 1e-5,
            "sample_size": facts.latent_t_size,
        }
    )


def vae_config(tensors: Tensors, scaling_factor: float, facts: Facts) -> dict[str, Any]:
    """The authors' autoencoder tensors, without prefix -> the hub's VAE config.

    Raises ConfigError if they are no such autoencoder, or the YAML contradicts them.
    """
    what = "the authors' autoencoder"
    levels = _count_while(tensors, "encoder.down.{}.block.0.conv1.weight")
    layers = _count_while(tensors, "encoder.down.0.block.{}.conv1.weight")
    base, channels_in, *_ = _shape(tensors, "encoder.conv_in.weight", what, 4)
    widths = [_shape(tensors, f"encoder.down.{i}.block.0.conv1.weight", what, 4)[0] for i in range(levels)]
    latent = _shape(tensors, "post_quant_conv.weight", what, 4)[0]
    check_stated(
        facts,
        {
            "VAE ch": base,
            "VAE ch_mult": [width // base for width in widths],
            "VAE num_res_blocks": layers,
            "VAE z_channels": latent,
        },
    )
    return hub_config.vae_to_hub(
        {
            "in_channels": channels_in,
            "out_channels": _shape(tensors, "decoder.conv_out.weight", what, 4)[0],
            "block_out_channels": widths,
            "layers_per_block": layers,
            "latent_channels": latent,
            "norm_num_groups": NORM_GROUPS,
            "scaling_factor": scaling_factor,
        }
    )


def vocoder_config(tensors: Tensors, facts: Facts) -> dict[str, Any]:
    """The authors' generator tensors, without prefix, with weight norm or not -> the hub's vocoder config.

    Raises ConfigError if they are no such generator, or its strides are not known.
    """
    what = "the authors' vocoder"

    def shape(name: str) -> torch.Size:  # of a weight, which weight norm keeps in its direction
        spellings = ("weight", "weight_v", "parametrizations.weight.original1")
        spelling = next((s for s in spellings if f"{name}.{s}" in tensors), "weight")
        return _shape(tensors, f"{name}.{spelling}", what, 3)

    stages = _count_while(tensors, "ups.{}.bias")
    kernels = tuple(shape(f"ups.{i}")[2] for i in range(stages))
    if kernels != facts.upsample_kernel_sizes:
        raise ConfigError(
            f"{what}: upsampling kernels {kernels}, the known strides are for {facts.upsample_kernel_sizes}; "
            "give the authors' config_16k_64.json with --vocoder-config"
        )
    blocks = _count_while(tensors, "resblocks.{}.convs1.0.bias")
    per_stage = blocks // max(1, stages)
    channels, bins, _ = shape("conv_pre")
    return hub_config.vocoder_to_hub(
        {
            "model_in_dim": bins,
            "sampling_rate": facts.sampling_rate,
            "upsample_initial_channel": channels,
            "upsample_rates": facts.upsample_rates,
            "upsample_kernel_sizes": kernels,
            "resblock_kernel_sizes": [shape(f"resblocks.{j}.convs1.0")[2] for j in range(per_stage)],
            "resblock_dilation_sizes": facts.resblock_dilation_sizes,
            "leaky_relu_slope": 0.1,
        }
    )


def clap_config(tensors: Tensors) -> dict[str, Any]:
    """The authors' CLAP tensors, without prefix -> the hub's ClapModel config.

    Raises ConfigError if they are no CLAP of HTSAT and RoBERTa without fusion.
    """
    what = "the authors' CLAP"
    text, audio = "text_branch", "audio_branch"
    vocabulary, width = _shape(tensors, f"{text}.embeddings.word_embeddings.weight", what, 2)
    if width % TEXT_HEAD_WIDTH:
        raise ConfigError(f"{what}: text width {width} does not split into heads of {TEXT_HEAD_WIDTH}")
    stages = _count_while(tensors, audio + ".layers.{}.blocks.0.attn.qkv.weight")
    depths = [_count_while(tensors, f"{audio}.layers.{i}.blocks.{{}}.attn.qkv.weight") for i in range(stages)]
    tables = [
        _shape(tensors, f"{audio}.layers.{i}.blocks.0.attn.relative_position_bias_table", what, 2)
        for i in range(stages)
    ]
    if not tables:
        raise ConfigError(f"{what}: no {audio}.layers.0.blocks.0.attn.qkv.weight: is this another file?")
    embed, _, patch, _ = _shape(tensors, f"{audio}.patch_embed.proj.weight", what, 4)
    inner = _shape(tensors, f"{audio}.layers.0.blocks.0.mlp.fc1.weight", what, 2)[0]
    joint = _shape(tensors, "text_projection.2.weight", what, 2)[0]
    return {
        "architectures": ["ClapModel"],
        "model_type": "clap",
        "projection_dim": joint,
        "projection_hidden_act": "relu",
        "text_config": {
            "model_type": "clap_text_model",
            "vocab_size": vocabulary,
            "hidden_size": width,
            "num_hidden_layers": _count_while(tensors, text + ".encoder.layer.{}.output.dense.weight"),
            "num_attention_heads": width // TEXT_HEAD_WIDTH,
            "intermediate_size": _shape(tensors, f"{text}.encoder.layer.0.output.dense.weight", what, 2)[1],
            "max_position_embeddings": _shape(
                tensors, f"{text}.embeddings.position_embeddings.weight", what, 2
            )[0],
            "type_vocab_size": _shape(tensors, f"{text}.embeddings.token_type_embeddings.weight", what, 2)[0],
            "layer_norm_eps": TEXT_NORM_EPS,
            "hidden_act": "gelu",
            "projection_dim": joint,
            "projection_hidden_act": "relu",
        },
        "audio_config": {
            "model_type": "clap_audio_model",
            "patch_embeds_hidden_size": embed,
            "hidden_size": embed << (stages - 1),
            "depths": depths,
            "num_hidden_layers": stages,
            "num_attention_heads": [heads for _, heads in tables],
            "window_size": (isqrt(tables[0][0]) + 1) // 2,
            "num_mel_bins": _shape(tensors, f"{audio}.bn0.weight", what, 1)[0],
            "patch_size": patch,
            "patch_stride": [patch, patch],
            "spec_size": SPEC_SIZE,
            "mlp_ratio": inner / embed,
            "enable_fusion": False,
            "projection_dim": joint,
            "projection_hidden_act": "relu",
        },
    }


def scheduler_config(tensors: Tensors, facts: Facts) -> dict[str, Any]:
    """The hub's config of the sampler. tensors: the checkpoint's own, whose `betas`, if there, must agree.

    Raises ConfigError if they do not.
    """
    if "betas" in tensors:
        roots = (facts.linear_start**0.5, facts.linear_end**0.5, facts.timesteps)
        expected = torch.linspace(*roots, dtype=torch.float64) ** 2
        betas = tensors["betas"].double()
        if betas.shape != expected.shape or (betas - expected).abs().max() > BETAS_AGREE:
            raise ConfigError(
                f"the checkpoint's betas are not those from {facts.linear_start} to {facts.linear_end} in "
                f"{facts.timesteps} steps; give the authors' YAML with --config"
            )
    return {
        "_class_name": "DDIMScheduler",
        "_diffusers_version": "0.33.1",
        "beta_end": facts.linear_end,
        "beta_schedule": "scaled_linear",
        "beta_start": facts.linear_start,
        "clip_sample": False,
        "num_train_timesteps": facts.timesteps,
        "prediction_type": "epsilon",
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "thresholding": False,
        "timestep_spacing": "leading",
    }
