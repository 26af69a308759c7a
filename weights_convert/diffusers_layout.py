"""Tables between the hub's layout (as Diffusers and transformers write it) and our modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .clap_layout import text_constants
from .mapping import FOLD, SQUEEZE, Rule, Table, rule

__all__ = ["CLAP", "UNET", "VAE", "vocoder"]


def _unet_res(ours: str, theirs: str, *, changing: bool = True) -> list[Rule]:
    """A residual block; one that never changes its width has no convolution on its skip."""
    renamed = {"emb": "time_emb_proj", "skip": "conv_shortcut"}
    names = ("norm1", "conv1", "emb", "norm2", "conv2", *["skip"] * changing)
    return [rule(f"{ours}.{name}.{{p}}", f"{theirs}.{renamed.get(name, name)}.{{p}}") for name in names]


def _unet_transformer(ours: str, theirs: str) -> list[Rule]:
    block = f"{theirs}.transformer_blocks.0"
    return [
        rule(f"{ours}.norm.{{p}}", f"{theirs}.norm.{{p}}"),
        rule(f"{ours}.proj_in.weight", f"{theirs}.proj_in.weight", op=SQUEEZE),
        rule(f"{ours}.proj_in.bias", f"{theirs}.proj_in.bias"),
        rule(f"{ours}.norm{{n}}.{{p}}", f"{block}.norm{{n}}.{{p}}"),
        rule(f"{ours}.attn{{n}}.qkv.weight", *(f"{block}.attn{{n}}.to_{x}.weight" for x in "qkv")),
        rule(f"{ours}.attn{{n}}.out.{{p}}", f"{block}.attn{{n}}.to_out.0.{{p}}"),
        rule(f"{ours}.ff.proj.{{p}}", f"{block}.ff.net.0.proj.{{p}}"),
        rule(f"{ours}.ff.out.{{p}}", f"{block}.ff.net.2.{{p}}"),
        rule(f"{ours}.proj_out.weight", f"{theirs}.proj_out.weight", op=SQUEEZE),
        rule(f"{ours}.proj_out.bias", f"{theirs}.proj_out.bias"),
    ]


UNET = Table(
    "U-Net",
    (
        rule("time_embed.fc{n}.{p}", "time_embedding.linear_{n}.{p}"),
        rule("cond_embed.{p}", "class_embedding.{p}"),
        rule("conv_in.{p}", "conv_in.{p}"),
        *_unet_res("down.{i}.res.{j}", "down_blocks.{i}.resnets.{j}"),
        *_unet_transformer("down.{i}.attn.{j}", "down_blocks.{i}.attentions.{j}"),
        rule("down.{i}.downsample.0.{p}", "down_blocks.{i}.downsamplers.0.conv.{p}"),
        *_unet_res("mid.res1", "mid_block.resnets.0", changing=False),
        *_unet_transformer("mid.attn", "mid_block.attentions.0"),
        *_unet_res("mid.res2", "mid_block.resnets.1", changing=False),
        *_unet_res("up.{i}.res.{j}", "up_blocks.{i}.resnets.{j}"),
        *_unet_transformer("up.{i}.attn.{j}", "up_blocks.{i}.attentions.{j}"),
        rule("up.{i}.upsample.0.{p}", "up_blocks.{i}.upsamplers.0.conv.{p}"),
        rule("norm_out.{p}", "conv_norm_out.{p}"),
        rule("conv_out.{p}", "conv_out.{p}"),
    ),
)


def _vae_res(ours: str, theirs: str, *, changing: bool = True) -> list[Rule]:
    renamed = {"skip": "conv_shortcut"}
    names = ("norm1", "conv1", "norm2", "conv2", *["skip"] * changing)
    return [rule(f"{ours}.{name}.{{p}}", f"{theirs}.{renamed.get(name, name)}.{{p}}") for name in names]


def _vae_mid(ours: str, theirs: str) -> list[Rule]:
    attention = f"{theirs}.attentions.0"
    return [
        *_vae_res(f"{ours}.res1", f"{theirs}.resnets.0", changing=False),
        rule(f"{ours}.attn.norm.{{p}}", f"{attention}.group_norm.{{p}}"),
        # the second spelling is that of files written before 2023
        rule(f"{ours}.attn.qkv.{{p}}", *(f"{attention}.to_{x}.{{p}}" for x in "qkv")).also(
            *(f"{attention}.{x}.{{p}}" for x in ("query", "key", "value"))
        ),
        rule(f"{ours}.attn.out.{{p}}", f"{attention}.to_out.0.{{p}}").also(f"{attention}.proj_attn.{{p}}"),
        *_vae_res(f"{ours}.res2", f"{theirs}.resnets.1", changing=False),
    ]


def _vae_half(ours: str, direction: str) -> list[Rule]:
    stage = f"{ours}.{direction}_blocks.{{i}}"
    return [
        rule(f"{ours}.conv_in.{{p}}", f"{ours}.conv_in.{{p}}"),
        *_vae_res(f"{ours}.stages.{{i}}.res.{{j}}", f"{stage}.resnets.{{j}}"),
        rule(f"{ours}.stages.{{i}}.resample.conv.{{p}}", f"{stage}.{direction}samplers.0.conv.{{p}}"),
        *_vae_mid(f"{ours}.mid", f"{ours}.mid_block"),
        rule(f"{ours}.norm_out.{{p}}", f"{ours}.conv_norm_out.{{p}}"),
        rule(f"{ours}.conv_out.{{p}}", f"{ours}.conv_out.{{p}}"),
    ]


VAE = Table(
    "VAE",
    (
        *_vae_half("encoder", "down"),
        *_vae_half("decoder", "up"),
        rule("quant.{p}", "quant_conv.{p}"),
        rule("post_quant.{p}", "post_quant_conv.{p}"),
    ),
)


def vocoder(stages: int, kernels: int) -> Table:
    """The hub numbers residual blocks through all stages, so its table depends on how many there are."""
    return Table(
        "vocoder",
        (
            *_folded("conv_pre", "conv_pre"),
            *(r for i in range(stages) for r in _folded(f"stages.{i}.up", f"upsampler.{i}")),
            *(
                r
                for i in range(stages)
                for j in range(kernels)
                for n in (1, 2)
                for r in _folded(
                    f"stages.{i}.res.{j}.convs{n}.{{d}}", f"resblocks.{i * kernels + j}.convs{n}.{{d}}"
                )
            ),
            *_folded("conv_post", "conv_post"),
        ),
        added={  # input normalisation, off in every MusicLDM; the hub's class has the buffers all the same
            "mean": lambda ours: torch.zeros(ours["conv_pre.weight"].shape[1]),
            "scale": lambda ours: torch.ones(ours["conv_pre.weight"].shape[1]),
        },
    )


def _folded(ours: str, theirs: str) -> list[Rule]:
    """A convolution saved plainly, or with weight norm in either of torch's spellings."""
    old, new = f"{theirs}.weight_", f"{theirs}.parametrizations.weight.original"
    weight = rule(f"{ours}.weight", f"{theirs}.weight")
    weight = weight.also(f"{old}g", f"{old}v", op=FOLD).also(f"{new}0", f"{new}1", op=FOLD)
    return [weight, rule(f"{ours}.bias", f"{theirs}.bias")]


_EMBEDDINGS = "text_model.embeddings"
_TEXT_LAYER = "text_model.encoder.layer.{i}"


def _constant(name: str) -> Callable[[Mapping[str, Tensor]], Tensor]:
    return lambda clap: text_constants(len(clap["text.positions"]))[name]


CLAP = Table(
    "CLAP",
    (
        rule("logit_scale_{side}", "logit_scale_{side}"),
        rule("text.words", f"{_EMBEDDINGS}.word_embeddings.weight"),
        rule("text.positions", f"{_EMBEDDINGS}.position_embeddings.weight"),
        rule("text.kinds", f"{_EMBEDDINGS}.token_type_embeddings.weight"),
        rule("text.norm.{p}", f"{_EMBEDDINGS}.LayerNorm.{{p}}"),
        rule(
            "text.layers.{i}.qkv.{p}",
            *(f"{_TEXT_LAYER}.attention.self.{x}.{{p}}" for x in ("query", "key", "value")),
        ),
        *(
            rule(f"text.layers.{{i}}.{ours}.{{p}}", f"{_TEXT_LAYER}.{theirs}.{{p}}")
            for ours, theirs in (
                ("out", "attention.output.dense"),
                ("norm1", "attention.output.LayerNorm"),
                ("ff1", "intermediate.dense"),
                ("ff2", "output.dense"),
                ("norm2", "output.LayerNorm"),
            )
        ),
        rule("text.pool.{p}", "text_model.pooler.dense.{p}"),
        *(rule(f"text.project{n}.{{p}}", f"text_projection.linear{n}.{{p}}") for n in (1, 2)),
        rule("audio.{rest}", "{rest}"),  # run by transformers, under its names
    ),
    added={name: _constant(name) for name in text_constants(0)},
)
