"""The published weights, if they are here: which head layout gives the audio that was published with them?

Set MUSICLDM_WEIGHTS to a folder in the hub's layout (or a hub id): the download of `ucsd-reach/musicldm`, or what
`python -m weights_convert` makes of the authors' files. The golden samples are those of the hub's nightly test
(GPU, float32); they were made with whatever the hub's config says, and can tell the open facts apart.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import torch

from musicldm import MusicLDMPipeline
from musicldm.inspection import inspect
from musicldm.schedulers import LMS

WEIGHTS = os.environ.get("MUSICLDM_WEIGHTS")
pytestmark = pytest.mark.skipif(
    not WEIGHTS, reason="PUBLISHED WEIGHTS NOT TESTED: set MUSICLDM_WEIGHTS to a checkpoint folder or hub id"
)

PROMPT = "A hammer hitting a wooden surface"
GUIDANCE = 2.5
SAMPLES = 81_952  # 160 * 512 + 32: uncut, as the reference of that time returned it
GOLDEN_ATOL = 1e-3  # of the hub's own test, which allows for the GPU
LAYOUTS = {"as the config says": None, "as the authors trained": "as-trained"}
GOLDEN = {  # name -> solver, steps, first sample, values
    "ddim": (None, 25, 8680,
             [-0.1042, -0.1068, -0.1235, -0.1387, -0.1428, -0.136, -0.1213, -0.1097, -0.0967, -0.0945]),
    "lms": (LMS, 3, 58020,
            [0.3592, 0.3477, 0.4084, 0.4665, 0.5048, 0.5891, 0.6461, 0.5579, 0.4595, 0.4403]),
}  # fmt: skip


def golden_latents():
    """(1, 8, 128, 16), drawn as the hub's test draws them."""
    return torch.from_numpy(np.random.RandomState(0).standard_normal((1, 8, 128, 16))).float()


def distance(layout, name):
    """Largest difference to the golden samples with this head layout."""
    solver, steps, first, expected = GOLDEN[name]
    pipe = MusicLDMPipeline.from_pretrained(WEIGHTS, torch_dtype=torch.float32, heads=LAYOUTS[layout])
    pipe = pipe.to("cuda") if torch.cuda.is_available() else pipe
    if solver is not None:
        pipe.scheduler = solver.from_config(pipe.scheduler.config)
    latents = pipe(
        PROMPT,
        audio_length_in_s=5.12,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        latents=golden_latents(),
        output_type="latent",
    ).audios
    with torch.no_grad():
        wave = pipe.decode(latents)[0].float().cpu().numpy()
    assert len(wave) == SAMPLES
    return float(np.abs(wave[first : first + len(expected)] - expected).max())


@pytest.mark.parametrize("name", GOLDEN)
def test_one_head_layout_reproduces_the_published_samples(name, capsys):
    found = {layout: distance(layout, name) for layout in LAYOUTS}
    best = min(found, key=found.__getitem__)
    with capsys.disabled():
        told = ", ".join(f"{layout}: {value:.4f}" for layout, value in found.items())
        sys.stdout.write(f"\n{name}: largest difference to the published samples: {told}; {best} fits\n")
    assert found[best] < GOLDEN_ATOL, found


def test_the_published_files_are_all_understood(capsys):
    assert inspect(WEIGHTS, hashes=False).problems == []
    with capsys.disabled():
        sys.stdout.write(f"\n{inspect(WEIGHTS)}\n")
