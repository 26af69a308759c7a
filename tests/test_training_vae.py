"""The VAE's stage and its losses."""

from __future__ import annotations

import pytest
import torch
from helpers import TINY, draw
from training_toys import write_clips

from musicldm import VAE
from musicldm.checkpoint import load_network
from musicldm.io.distributed import Group
from musicldm.training.config import parse
from musicldm.training.log import read_log
from musicldm.training.loop import Trainer
from musicldm.training.patch import PatchDiscriminator
from musicldm.training.stage import Batch, Draws
from musicldm.training.vae import Config, VAESettings, VAEStage, build
from musicldm.training.vae_losses import adaptive_weight, hinge, kl_divergence, reconstruction
from musicldm.vae import Posterior, VAEConfig

EXACT = 1e-6
SMALL_VAE = {
    "in_channels": 1, "out_channels": 1, "block_out_channels": [8, 16], "layers_per_block": 1, "latent_channels": 4,
    "norm_num_groups": 4, "scaling_factor": 1.0,
}  # fmt: skip


def test_the_divergence_is_torchs():
    posterior = Posterior(draw(2, 3, 4, 5), 0.5 * draw(2, 3, 4, 5, seed=1))
    normal = torch.distributions.Normal(posterior.mean, (0.5 * posterior.logvar).exp())
    unit = torch.distributions.Normal(torch.zeros(2, 3, 4, 5), torch.ones(2, 3, 4, 5))
    expected = torch.distributions.kl_divergence(normal, unit).sum((1, 2, 3)).mean()
    assert kl_divergence(posterior).item() == pytest.approx(expected.item(), rel=1e-5)
    assert kl_divergence(Posterior(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2))).item() == 0


def test_hinge_is_zero_only_beyond_the_margins():
    assert hinge(torch.tensor([1.0, 2.0]), torch.tensor([-1.0, -3.0])).item() == 0
    assert hinge(torch.tensor([0.0]), torch.tensor([0.0])).item() == 1
    assert hinge(torch.tensor([-1.0]), torch.tensor([1.0])).item() == 2


def test_the_adaptive_weight_balances_gradients_and_is_bounded():
    assert adaptive_weight(torch.full((4,), 3.0), torch.full((4,), 1.0)).item() == pytest.approx(3, rel=1e-3)
    assert adaptive_weight(torch.full((4,), 3.0), torch.zeros(4)).item() == 1e4


def test_reconstruction_is_a_mean_over_values():
    assert reconstruction(torch.zeros(2, 1, 3, 4), torch.full((2, 1, 3, 4), -2.0)).item() == 2


def test_a_patchs_score_does_not_depend_on_the_rest_of_the_batch():
    judge = PatchDiscriminator(8, 2).eval()
    mel = draw(3, 1, 32, 16)
    scores = judge(mel)
    assert scores.shape == (3, 1, 6, 2)
    assert torch.allclose(judge(mel[1:2]), scores[1:2], rtol=0, atol=EXACT)
    with pytest.raises(ValueError, match="PatchDiscriminator: got 6 channels"):
        PatchDiscriminator(6, 2)


def small_stage(**settings) -> tuple[VAEStage, Batch]:
    torch.manual_seed(0)
    made = VAEStage(
        VAE(parse(VAEConfig, SMALL_VAE, "test")), PatchDiscriminator(8, 1), VAESettings(**settings), Group()
    )
    return made, Batch({"wave": 0.1 * draw(2, 5120)}, ("a.wav", "b.wav"))


def test_the_adversarial_term_joins_at_its_step():
    stage, batch = small_stage(judge_from=5)
    before = stage.autoencoder_loss(batch, 4, Draws([0, 1]))
    after = stage.autoencoder_loss(batch, 5, Draws([0, 1]))
    assert set(before.figures) == {"reconstruction", "kl"}
    figures = after.figures
    expected = before.value + figures["weight"] * figures["adversarial"]
    assert after.value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert figures["weight"] > 0
    assert [turn.starts for turn in stage.turns] == [0, 5]
    before.value.backward()
    assert all(p.grad is None for p in stage.judge.parameters())


def test_the_latent_scale_has_no_part_in_the_autoencoder():
    from musicldm.training.targets import scaled

    stage, batch = small_stage()
    plain = stage.autoencoder_loss(batch, 0, Draws([0, 1])).value.item()
    scaled(stage.vae, 3.0)
    assert stage.autoencoder_loss(batch, 0, Draws([0, 1])).value.item() == pytest.approx(plain, rel=1e-5)


def test_it_overfits_eight_clips_and_writes_a_vae_that_loads(tmp_path):
    manifest = write_clips(tmp_path / "clips")
    table = {
        "output": str(tmp_path / "run"),
        "parts": {"init": str(TINY), "vae": SMALL_VAE},
        "data": {"manifest": str(manifest), "seconds": 0.16, "repeat_after": 1, "held_out": "train"},
        "loop": {"steps": 30, "batch_size": 8, "log_every": 1, "ema": 0.8},
        "vae": {"lr": 1e-2, "judge_from": 28, "judge_channels": 8, "judge_layers": 1},
        "evaluate": {"every": 30},
        "preview": {"every": 30, "clips": 1},
    }
    config = parse(Config, table, "test")
    stage, train, held_out = build(config, Group())
    Trainer(stage, config, Group(), train, held_out).run()
    lines = read_log(tmp_path / "run" / "log.jsonl")
    assert lines[-1]["held_out/reconstruction"] < lines[0]["autoencode/reconstruction"] / 2
    assert "judge/loss" in lines[-2]
    assert (tmp_path / "run" / "previews" / "step-00000030-reconstruction-0.wav").exists()
    loaded = load_network(tmp_path / "run", "vae")
    assert loaded.config == parse(VAEConfig, SMALL_VAE, "test")
    averaged = stage.networks["vae"].state_dict()
    with_average = torch.load(tmp_path / "run" / "checkpoints" / "step-00000030.pt")["average"]["copies"]
    assert all(torch.equal(t, with_average[f"vae.{k}"]) for k, t in loaded.state_dict().items())
    assert not all(torch.equal(t, averaged[k]) for k, t in loaded.state_dict().items())
