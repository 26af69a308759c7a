"""The three networks of a checkpoint and what each is given for a clip; shapes come from the configs.

Floating-point operations are counted as executed. The VAE's upsampling is written as one transposed
convolution, with 16 products a pixel where the published layers have 36: `extra_gflop` says what that saves.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from musicldm import MusicLDMPipeline
from musicldm.schedulers import DPMSolver
from musicldm.vae import Upsample

MODULES = ("U-Net guided step", "VAE decode", "vocoder")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SECONDS = 10.24
KINDS = ("convolution", "linear", "attention")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(folder: Path, dtype: torch.dtype = torch.float32) -> MusicLDMPipeline:
    """The checkpoint on the GPU, if there is one, with the solver for few steps."""
    pipe = MusicLDMPipeline.from_pretrained(folder, torch_dtype=dtype).to(DEVICE)
    pipe.scheduler = DPMSolver.from_config(pipe.scheduler)
    return pipe


def exact_float32() -> None:
    """No TF32 on a GPU: torch allows it in convolutions unless told."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def noise(pipe: MusicLDMPipeline, seconds: float, batch: int = 1) -> Tensor:
    """(b, c, t, f) float32, always the same."""
    grid = pipe.grid
    columns = pipe.vocoder.config.model_in_dim // grid.factor
    rows = grid.rows(grid.samples(seconds))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, pipe.unet.config.in_channels, rows, columns, generator=generator).to(DEVICE)


def inputs(pipe: MusicLDMPipeline, dtype: torch.dtype, seconds: float) -> dict[str, Tensor]:
    """What the networks get, always the same.

    x: (2, c, t, f), cond: (2, d) of a guided step; latents: (1, c, t, f); mel: (1, mel frames, mel bins).
    """
    latents = noise(pipe, seconds).to(dtype)
    generator = torch.Generator().manual_seed(1)
    cond = torch.randn(2, pipe.unet.config.cond_dim, generator=generator)
    cond = nn.functional.normalize(cond, dim=-1).to(DEVICE, dtype)
    factor = pipe.grid.factor
    mel = torch.randn(1, latents.shape[2] * factor, latents.shape[3] * factor, generator=generator)
    mel = (2 * mel - 4).to(DEVICE, dtype)
    return {"x": torch.cat([latents, latents.flip(2)]), "cond": cond, "latents": latents, "mel": mel}


def calls(pipe: MusicLDMPipeline, dtype: torch.dtype, seconds: float) -> dict[str, Callable[[], Tensor]]:
    """One guided step, the decoder, the vocoder, each on the same input every time."""
    given, t = inputs(pipe, dtype, seconds), torch.tensor(500, device=DEVICE)
    functions: tuple[Callable[[], Tensor], ...] = (
        lambda: pipe.unet(given["x"], t, given["cond"]),
        lambda: pipe.vae.decode(given["latents"]),
        lambda: pipe.vocoder(given["mel"]),
    )
    return dict(zip(MODULES, functions, strict=True))


def networks(pipe: MusicLDMPipeline) -> dict[str, nn.Module]:
    """By the names of `MODULES`: what of the pipeline a call uses."""
    return dict(zip(MODULES, (pipe.unet, pipe.vae.decoder, pipe.vocoder), strict=True))


def count(function: Callable[[], Tensor], network: nn.Module) -> dict[str, float]:
    """GFLOP of one call by kind (a product and a sum are two), and `extra_gflop` of the published layers."""
    saved = 0.0

    def upsampled(module: nn.Module, given: tuple[Tensor, ...], _: Tensor) -> None:
        nonlocal saved
        b, c, t, f = given[0].shape
        saved += 2 * (36 - 16) * b * c * c * t * f

    hooks = [
        each.register_forward_hook(upsampled) for each in network.modules() if isinstance(each, Upsample)
    ]
    on_cpu = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flop
    }  # torch leaves it out
    counter = FlopCounterMode(display=False, custom_mapping=on_cpu)
    with counter, torch.no_grad():
        function()
    for hook in hooks:
        hook.remove()
    found = dict.fromkeys(KINDS, 0.0)
    for operator, flop in counter.get_flop_counts()["Global"].items():
        found[kind_of_flop(str(operator))] += flop / 1e9
    return {**found, "extra_gflop": saved / 1e9}


def attention_flop(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Of shapes (b, h, n, d), for torch's counter."""
    return sdpa_flop_count(query, key, value)


def kind_of_flop(operator: str) -> str:
    """One of `KINDS`."""
    if "conv" in operator:
        return "convolution"
    return "attention" if "attention" in operator or "bmm" in operator else "linear"
