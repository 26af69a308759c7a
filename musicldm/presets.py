"""The published sizes (checkpoint `ucsd-reach/musicldm`, 16 kHz, 10.24 s), for training, tests and
benchmarks.

Loading a checkpoint never reads these: its own configs say what it is.

Source: RetroCirce/MusicLDM c8100b5, musicldm.yaml and config_16k_64.json; the head counts are those that the
authors trained with (one head per 32 channels), while the converted checkpoint's config is expected to say 8.
"""

from __future__ import annotations

from typing import Any

from .unet import UNetConfig
from .vae import VAEConfig
from .vocoder import VocoderConfig

__all__ = ["CLAP_16K", "UNET_16K", "VAE_16K", "VOCODER_16K"]

UNET_16K = UNetConfig(
    in_channels=8,
    out_channels=8,
    block_out_channels=(128, 256, 384, 640),
    heads=(0, 8, 12, 20),
    layers_per_block=2,
    cond_dim=512,
    norm_num_groups=32,
    norm_eps=1e-5,
    sample_size=256,
)

VAE_16K = VAEConfig(
    in_channels=1,
    out_channels=1,
    block_out_channels=(128, 256, 512),
    layers_per_block=2,
    latent_channels=8,
    norm_num_groups=32,
    scaling_factor=1.0,  # not part of the architecture: 1 / std of the first training batch's latents
)

VOCODER_16K = VocoderConfig(
    model_in_dim=64,
    sampling_rate=16000,
    upsample_initial_channel=1024,
    upsample_rates=(5, 4, 2, 2, 2),
    upsample_kernel_sizes=(16, 16, 8, 4, 4),
    resblock_kernel_sizes=(3, 7, 11),
    resblock_dilation_sizes=((1, 3, 5), (1, 3, 5), (1, 3, 5)),
    leaky_relu_slope=0.1,
)

CLAP_16K: dict[str, Any] = {  # transformers' ClapConfig, where it differs from that class's defaults
    "audio_config": {
        "patch_embeds_hidden_size": 128,
        "hidden_size": 1024,
        "depths": [2, 2, 12, 2],
        "num_attention_heads": [4, 8, 16, 32],
        "enable_fusion": False,
    },
    "text_config": {"layer_norm_eps": 1e-5},
    "projection_dim": 512,
}
