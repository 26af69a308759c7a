"""The table "What to copy": each row copied as it says, and run with everything else blocked."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from .checks import ROOT

BLOCKED = (
    "diffusers", "einops", "huggingface_hub", "musicldm", "safetensors", "soundfile", "soxr", "tokenizers", "tqdm",
    "transformers", "weights_convert", "yaml",
)  # fmt: skip
UNET = (
    "UNet(UNetConfig(in_channels=4, out_channels=4, block_out_channels=(8, 16), heads=(0, 2), layers_per_block=1, "
    "cond_dim=4, norm_num_groups=4, norm_eps=1e-5, sample_size=8))"
)
VAE = (
    "VAE(VAEConfig(in_channels=1, out_channels=1, block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, "
    "norm_num_groups=4, scaling_factor=1.0))"
)
VOCODER = (
    "HiFiGAN(VocoderConfig(model_in_dim=8, sampling_rate=16000, upsample_initial_channel=8, upsample_rates=(2,), "
    "upsample_kernel_sizes=(4,), resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),), leaky_relu_slope=0.1))"
)
RUNS = {  # what is done with each row, by its first column; {at} is the folder's name and a dot, or nothing
    "the U-Net": f"from {{at}}unet import *; {UNET}(torch.zeros(1, 4, 8, 4), 3, torch.zeros(1, 4))",
    "the VAE, mel to latents and back": f"from {{at}}vae import *; {VAE}.decode(torch.zeros(1, 4, 4, 4))",
    "the vocoder, mel to waveform": f"from {{at}}vocoder import *; {VOCODER}(torch.zeros(1, 4, 8))",
    "CLAP's text tower": "from {at}text import *; TextTower(TextTowerConfig(vocab_size=9, hidden_size=8, "
    "num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, max_position_embeddings=9, type_vocab_size=1, "
    "layer_norm_eps=1e-5, projection_dim=4))(torch.tensor([[0, 5, 2]]), torch.ones(1, 3, dtype=torch.bool))",
    "the training mel front end": "from {at}mel import *; log_mel(torch.zeros(1, 16000))",
    "all solvers as tables": "from {at}schedulers import *; DDIM().plan(5)",
    "the sampling loop and guidance": "from {at}sampling import *; from {at}schedulers import DDIM; "
    "sample(lambda x, t: x, DDIM().plan(3), torch.ones(1, 4, 8, 4))",
    "best-of-n ranking": "from {at}ranking import *; rank(torch.eye(2).repeat_interleave(3, 0), torch.eye(2))",
    "low-rank adapters": "from {at}lora import *; from {at}unet import *; "
    f"attach({UNET}, LoRAConfig(rank=2, alpha=2.0, targets=('qkv', 'out')))",
    "long clips by pieces": "from {at}chunks import *; from {at}vae import *; from {at}vocoder import *; "
    f"decode({VAE}, torch.zeros(1, 4, 8, 4), 4); vocode({VOCODER}, torch.zeros(1, 16, 8), 8)",
    "the paper's mixup on tensors": "from {at}mixup import *; latent_mixup(torch.ones(2, 3), torch.zeros(2, 3), 0.5)",
    "weights between layouts": "import weights_convert.mapping, weights_convert.original_layout, weights_convert.release",
}


def rows() -> list[list[str]]:
    table = (ROOT / "README.md").read_text().partition("## What to copy")[2].partition("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in re.findall(r"^\| .*$", table, re.MULTILINE)
    ][1:]


def test_every_row_has_something_that_is_done_with_it():
    assert [row[0] for row in rows()] == list(RUNS)


@pytest.mark.slow  # tests/test_architecture.py copies the leaves at every run
@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_row_works_copied_into_an_empty_folder(tmp_path, row):
    what, take, needs = row
    paths = [path.removeprefix("musicldm/") for path in re.findall(r"`([^`]+)`", take)]
    folder = tmp_path if len(paths) == 1 else tmp_path / "mine"
    folder.mkdir(exist_ok=True)
    for path in paths:
        source = next(s for s in (ROOT / "musicldm" / path, ROOT / path) if s.exists())
        target = folder / source.name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    taken = {path.rstrip("/") for path in paths}
    blocked = sorted(set(BLOCKED) - set(needs.split(", ")) - taken)
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import torch; "
    code += RUNS[what].format(at="" if len(paths) == 1 else "mine.")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, env={}
    )
    assert done.returncode == 0, done.stderr
