"""Tables between the authors' checkpoints (the sources) and the hub's layout (the targets).

The full checkpoint (`musicldm-ckpt.ckpt`, key "state_dict") holds five models under five prefixes. Each has
its table, for the names without the prefix. The authors number the U-Net's blocks and the decoder's levels in
their own way, so those tables depend on how many there are.

Source of the names: RetroCirce/MusicLDM c8100b5; README.md here says what is dropped and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .mapping import FOLD, ONES, SQUEEZE, ZEROS, MappingError, Rule, Table, rows, rule, source_names

__all__ = [
    "CLAP",
    "CLAP_PREFIX",
    "EMA_PREFIX",
    "TOP_LEVEL",
    "UNET_PREFIX",
    "VAE_PREFIX",
    "VOCODER",
    "VOCODER_PREFIX",
    "ema",
    "unet",
    "vae",
]

UNET_PREFIX = "model.diffusion_model."
EMA_PREFIX = "model_ema."
VAE_PREFIX = "first_stage_model."
VOCODER_PREFIX = "first_stage_model.vocoder."
CLAP_PREFIX = "cond_stage_model.model."

_SCHEDULE = "table of the noise schedule, computed anew from the scheduler's config"

TOP_LEVEL: Mapping[str, str] = {  # tensors of the full checkpoint under none of the prefixes
    "scale_factor": "goes to vae/config.json as scaling_factor",
    "logvar": "weights of the training loss, constant 0 in this model",
    **dict.fromkeys(
        (
            "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
            "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod",
            "sqrt_recipm1_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped",
            "posterior_mean_coef1", "posterior_mean_coef2", "lvlb_weights",
        ),
        _SCHEDULE,
    ),
}  # fmt: skip


def _unchanging(names: Mapping[str, str]) -> dict[str, str]:
    """The names in a block that keeps its width, and so has no convolution on its skip."""
    return {hub: theirs for hub, theirs in names.items() if hub != "conv_shortcut"}


def _renamed(theirs: str, ours: str, names: Mapping[str, str]) -> list[Rule]:
    return [rule(f"{theirs}.{hub}.{{p}}", f"{ours}.{authors}.{{p}}") for hub, authors in names.items()]


_UNET_RES = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def unet(layers: int, attending: Sequence[bool]) -> Table:
    """The U-Net with `layers` residual blocks per level on the way down; attending: one flag per level."""
    levels, per_level = len(attending), layers + 1
    rules = [
        rule("time_embedding.linear_1.{p}", "time_embed.0.{p}"),
        rule("time_embedding.linear_2.{p}", "time_embed.2.{p}"),
        rule("class_embedding.{p}", "film_emb.{p}"),
        rule("conv_in.{p}", "input_blocks.0.0.{p}"),
        rule("conv_norm_out.{p}", "out.0.{p}"),
        rule("conv_out.{p}", "out.2.{p}"),
        *_renamed("mid_block.resnets.0", "middle_block.0", _unchanging(_UNET_RES)),
        rule("mid_block.attentions.0.{rest}", "middle_block.1.{rest}"),
        *_renamed("mid_block.resnets.1", "middle_block.2", _unchanging(_UNET_RES)),
    ]
    for level, attends in enumerate(attending):
        for j in range(layers):
            block = f"input_blocks.{1 + level * per_level + j}"
            rules += _unet_block(f"down_blocks.{level}", j, block, attends)
        if level < levels - 1:
            hub = f"down_blocks.{level}.downsamplers.0.conv.{{p}}"
            rules.append(rule(hub, f"input_blocks.{(level + 1) * per_level}.0.op.{{p}}"))
    for level, attends in enumerate(reversed(attending)):
        for j in range(per_level):
            block = f"output_blocks.{level * per_level + j}"
            rules += _unet_block(f"up_blocks.{level}", j, block, attends)
        if level < levels - 1:  # the upsampling is the last part of the level's last block
            last = f"output_blocks.{level * per_level + layers}.{1 + attends}.conv.{{p}}"
            rules.append(rule(f"up_blocks.{level}.upsamplers.0.conv.{{p}}", last))
    return Table("U-Net", tuple(rules))


def _unet_block(hub: str, j: int, block: str, attends: bool) -> list[Rule]:
    rules = _renamed(f"{hub}.resnets.{j}", f"{block}.0", _UNET_RES)
    if attends:  # inside a transformer the names are the same on both sides
        rules.append(rule(f"{hub}.attentions.{j}.{{rest}}", f"{block}.1.{{rest}}"))
    return rules


def ema(table: Table, targets: Iterable[str]) -> Table:
    """The table for the moving averages of those U-Net targets.

    The authors' names of them are the U-Net's with every dot deleted, which no parser can undo, so each rule
    is written out from the list of known names. Raises MappingError if two names collide.
    """
    rules: list[Rule] = []
    seen: dict[str, str] = {}
    for target in targets:
        (source,) = source_names(table, [target])
        flat = f"diffusion_model.{source}".replace(".", "")
        if flat in seen:
            raise MappingError(f"{table.name}: {source} and {seen[flat]} have one EMA name, {flat}")
        seen[flat] = source
        rules.append(rule(target, flat))
    ignore = {
        "decay": "setting of the moving average, used in training only",
        "num_updates": "count of the moving average's updates, used in training only",
    }
    return Table(f"{table.name} (EMA)", tuple(rules), ignore=ignore)


_VAE_RES = {
    "norm1": "norm1",
    "conv1": "conv1",
    "norm2": "norm2",
    "conv2": "conv2",
    "conv_shortcut": "nin_shortcut",
}
_VAE_ATTENTION = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def vae(levels: int) -> Table:
    """The autoencoder. The authors count the decoder's levels from the mel side, the hub from the latents."""
    rules = [rule("quant_conv.{p}", "quant_conv.{p}"), rule("post_quant_conv.{p}", "post_quant_conv.{p}")]
    for half in ("encoder", "decoder"):
        rules += [
            rule(f"{half}.conv_in.{{p}}", f"{half}.conv_in.{{p}}"),
            rule(f"{half}.conv_norm_out.{{p}}", f"{half}.norm_out.{{p}}"),
            rule(f"{half}.conv_out.{{p}}", f"{half}.conv_out.{{p}}"),
            *_vae_mid(f"{half}.mid_block", f"{half}.mid"),
        ]
    rules += _renamed("encoder.down_blocks.{i}.resnets.{j}", "encoder.down.{i}.block.{j}", _VAE_RES)
    rules.append(
        rule("encoder.down_blocks.{i}.downsamplers.0.conv.{p}", "encoder.down.{i}.downsample.conv.{p}")
    )
    for level in range(levels):
        hub, theirs = f"decoder.up_blocks.{level}", f"decoder.up.{levels - 1 - level}"
        rules += _renamed(f"{hub}.resnets.{{j}}", f"{theirs}.block.{{j}}", _VAE_RES)
        if level < levels - 1:
            rules.append(rule(f"{hub}.upsamplers.0.conv.{{p}}", f"{theirs}.upsample.conv.{{p}}"))
    ignore = {
        "loss.{rest}": "discriminator and perceptual loss, used in training only",
        "vocoder.{rest}": "the vocoder, which has a table of its own",
    }
    return Table("VAE", tuple(rules), ignore=ignore)


def _vae_mid(hub: str, theirs: str) -> list[Rule]:
    attention = f"{hub}.attentions.0"
    rules = _renamed(f"{hub}.resnets.0", f"{theirs}.block_1", _unchanging(_VAE_RES))
    rules += _renamed(f"{hub}.resnets.1", f"{theirs}.block_2", _unchanging(_VAE_RES))
    rules.append(rule(f"{attention}.group_norm.{{p}}", f"{theirs}.attn_1.norm.{{p}}"))
    for name, authors in _VAE_ATTENTION.items():
        rules += [
            rule(f"{attention}.{name}.weight", f"{theirs}.attn_1.{authors}.weight", op=SQUEEZE),
            rule(f"{attention}.{name}.bias", f"{theirs}.attn_1.{authors}.bias"),
        ]
    return rules


def _folded(hub: str, theirs: str) -> list[Rule]:
    """A convolution: plain in the full checkpoint, with weight norm in the generator's own file."""
    old, new = f"{theirs}.weight_", f"{theirs}.parametrizations.weight.original"
    weight = rule(f"{hub}.weight", f"{theirs}.weight")
    weight = weight.also(f"{old}g", f"{old}v", op=FOLD).also(f"{new}0", f"{new}1", op=FOLD)
    return [weight, rule(f"{hub}.bias", f"{theirs}.bias")]


VOCODER = Table(
    "vocoder",
    (
        *(
            folded
            for hub, theirs in (
                ("conv_pre", "conv_pre"),
                ("upsampler.{i}", "ups.{i}"),
                ("resblocks.{i}.{convs}.{j}", "resblocks.{i}.{convs}.{j}"),
                ("conv_post", "conv_post"),
            )
            for folded in _folded(hub, theirs)
        ),
        # input normalisation, which the hub's class has and MusicLDM does not use
        rule("mean", op=ZEROS),
        rule("scale", op=ONES),
    ),
)


_TEXT, _AUDIO = "text_model", "audio_model.audio_encoder"
_BLOCK = "layers.{i}.blocks.{j}"


def _qkv(hub: str, theirs: str) -> list[Rule]:
    return [
        rule(f"{hub}.{name}.{{p}}", f"{theirs}.{{p}}", op=rows(i, 3))
        for i, name in enumerate(("query", "key", "value"))
    ]


CLAP = Table(
    "CLAP",
    (
        rule("logit_scale_{side}", "logit_scale_{side}"),
        *(
            rule(f"{side}_projection.linear{n}.{{p}}", f"{side}_projection.{k}.{{p}}")
            for side in ("text", "audio")
            for n, k in ((1, 0), (2, 2))
        ),
        rule(f"{_TEXT}.{{rest}}", "text_branch.{rest}"),
        rule(f"{_AUDIO}.batch_norm.{{p}}", "audio_branch.bn0.{p}"),
        rule(f"{_AUDIO}.patch_embed.{{rest}}", "audio_branch.patch_embed.{rest}"),
        rule(f"{_AUDIO}.norm.{{p}}", "audio_branch.norm.{p}"),
        rule(f"{_AUDIO}.layers.{{i}}.downsample.{{rest}}", "audio_branch.layers.{i}.downsample.{rest}"),
        *(
            rule(f"{_AUDIO}.{_BLOCK}.{hub}.{{p}}", f"audio_branch.{_BLOCK}.{theirs}.{{p}}")
            for hub, theirs in (
                ("layernorm_before", "norm1"),
                ("layernorm_after", "norm2"),
                ("attention.output.dense", "attn.proj"),
                ("intermediate.dense", "mlp.fc1"),
                ("output.dense", "mlp.fc2"),
            )
        ),
        *_qkv(f"{_AUDIO}.{_BLOCK}.attention.self", f"audio_branch.{_BLOCK}.attn.qkv"),
        *(
            rule(f"{_AUDIO}.{_BLOCK}.attention.self.{name}", f"audio_branch.{_BLOCK}.attn.{name}")
            for name in ("relative_position_bias_table", "relative_position_index")
        ),
    ),
    ignore={
        "text_branch.embeddings.position_ids": "constant 0, 1, 2, ...; some versions of transformers save it",
        "text_branch.embeddings.token_type_ids": "constant 0; some versions of transformers save it",
        f"audio_branch.{_BLOCK}.attn_mask": "mask of the shifted windows, computed anew from the sizes",
        "audio_branch.spectrogram_extractor.{rest}": "Fourier basis; the feature extractor has it",
        "audio_branch.logmel_extractor.{rest}": "mel bank; the feature extractor has it",
        "audio_branch.tscam_conv.{p}": "AudioSet classifier, no part of the embedding",
        "audio_branch.head.{p}": "AudioSet classifier, no part of the embedding",
        "text_transform.{rest}": "second head of CLAP's training, no part of the embedding",
        "audio_transform.{rest}": "second head of CLAP's training, no part of the embedding",
    },
)
