"""The vocoder's stage: its judges, its losses by hand, eight clips learnt, resumed, shared by two processes."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import draw, relative
from torch import nn
from training_toys import write_clips
from training_waves import Waves, check_resumes_exactly, check_two_are_one, config, losses, train, wave

from musicldm.checkpoint import load_network, save_network
from musicldm.io.distributed import Group
from musicldm.mel import log_mel
from musicldm.training import gan
from musicldm.training.command import example, run_stage
from musicldm.training.config import ConfigError, keys_of, parse, read_toml
from musicldm.training.discriminators import (
    PERIODS,
    Judgement,
    PeriodDiscriminator,
    ScaleDiscriminator,
    WaveDiscriminators,
)
from musicldm.training.stage import Draws
from musicldm.training.vocoder import Config, VocoderSettings, VocoderStage, fold, normed, segment
from musicldm.vocoder import HiFiGAN, VocoderConfig

TINY = VocoderConfig(
    model_in_dim=64, sampling_rate=16000, upsample_initial_channel=64, upsample_rates=(5, 4, 2, 2, 2),
    upsample_kernel_sizes=(16, 16, 8, 4, 4), resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),),
    leaky_relu_slope=0.1,
)  # fmt: skip
SAME = 1e-6  # folding and unfolding: a product and a quotient of float32
SUM = 1e-5  # relative: float32 losses added in another order
BESIDE = 0.01  # relative: what the waves themselves add to an offset of 100
DATA = Waves(1600)


def make(group=None, **changes):
    """A stage that always starts from the same weights."""
    settings = VocoderSettings(**{"lr": 2e-3, "segment": 1280, "judge_width": 128, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vocoder, judges = HiFiGAN(TINY), WaveDiscriminators(settings.judge_width)
    # one judge of each kind: all eight are looked at above, and cost five times as much
    judges.periods, judges.scales = judges.periods[:1], judges.scales[:2]
    return VocoderStage(vocoder, judges, settings, group or Group(), clips=8, batch_size=4)


# ---- judges ------------------------------------------------------------------------------------------


def plain(module):
    """Weights and biases as if there were no norms (weight norm adds a magnitude for each channel)."""
    norms = [p for name, p in module.named_parameters() if name.endswith("weight.original0")]
    return sum(p.numel() for p in module.parameters()) - sum(p.numel() for p in norms)


def test_the_judges_have_the_sizes_of_the_paper_s_code():
    """Kernel x channels in x channels out + bias, layer by layer, added up by hand from the published code."""
    period = 32 * 5 + 32 + 128 * 32 * 5 + 128 + 512 * 128 * 5 + 512 + 1024 * 512 * 5 + 1024
    period += 1024 * 1024 * 5 + 1024 + 1024 * 3 + 1
    scale = 128 * 15 + 128 + 128 * 32 * 41 + 128 + 256 * 8 * 41 + 256 + 512 * 16 * 41 + 512
    scale += 1024 * 32 * 41 + 1024 + 1024 * 64 * 41 + 1024 + 1024 * 1024 * 5 + 1024 + 1024 * 3 + 1
    with torch.device("meta"):
        assert plain(PeriodDiscriminator(2, 1024)) == period == 8_218_433
        assert plain(ScaleDiscriminator(1024, spectral=False)) == scale == 9_870_209


def test_the_shapes_of_what_they_say():
    judges = WaveDiscriminators(128)
    said = judges(draw(2, 2000))
    assert len(said) == 8
    for judged, period in zip(said, PERIODS, strict=False):
        rows = math.ceil(2000 / period)
        for _ in range(4):
            rows = math.ceil(rows / 3)
        assert judged.scores.shape == (2, 1, rows, period)
        assert [f.shape[1] for f in judged.features] == [4, 16, 64, 128, 128, 1]
    for judged, samples in zip(said[5:], (2000, 1001, 501), strict=True):
        length = samples
        for stride in (2, 2, 4, 4):
            length = (length - 1) // stride + 1
        assert judged.scores.shape == (2, 1, length)
        assert [f.shape[1] for f in judged.features] == [16, 16, 32, 64, 128, 128, 128, 1]
    assert all(torch.equal(judged.features[-1], judged.scores) for judged in said)


def test_a_period_judge_sees_columns_apart():
    """A change in one residue of the period leaves the scores of the others as they were."""
    judge = PeriodDiscriminator(3, 128)
    x = draw(1, 999)
    y = x.clone()
    y[:, 1::3] += 1
    a, b = judge(x).scores, judge(y).scores
    assert torch.equal(a[..., [0, 2]], b[..., [0, 2]])
    assert not torch.equal(a[..., 1], b[..., 1])


def test_only_the_finest_scale_has_spectral_norm():
    names = [{n.split(".")[-1] for n, _ in scale.named_buffers()} for scale in WaveDiscriminators(128).scales]
    assert names == [{"_u", "_v"}, set(), set()]


@pytest.mark.parametrize("width", [0, 64, 200])
def test_widths_that_do_not_split_are_refused(width):
    with pytest.raises(ValueError, match=f"got width {width}, expected a multiple of 128"):
        WaveDiscriminators(width)


# ---- losses ------------------------------------------------------------------------------------------


def said(scores, *features):
    return Judgement(torch.tensor(scores), tuple(torch.tensor(f) for f in features))


def test_losses_by_hand():
    real = [said([1.0, 0.5], [0.0, 2.0], [1.0]), said([0.0], [1.0])]
    made = [said([0.5, 0.5], [1.0, 0.0], [1.5]), said([2.0], [4.0])]
    # (0 + 0.25) / 2 + (0.25 + 0.25) / 2, and 1 + 4
    assert gan.judge_loss(real, made).item() == pytest.approx(0.125 + 0.25 + 1 + 4)
    assert gan.persuasion(made).item() == pytest.approx(0.25 + 1)
    assert gan.feature_matching(real, made).item() == pytest.approx(1.5 + 0.5 + 3)


def test_the_mel_distance_is_the_mean_of_absolute_differences():
    x, y = 0.1 * draw(2, 2048, seed=1), 0.1 * draw(2, 2048, seed=2)
    expected = (log_mel(x) - log_mel(y)).abs().sum() / log_mel(x).numel()
    assert gan.mel_distance(x, log_mel(y)).item() == pytest.approx(expected.item(), rel=1e-6)
    assert gan.mel_distance(y, log_mel(y)).item() == 0


def test_an_offset_counts_though_the_mel_bank_does_not_hear_it():
    wave = 0.1 * draw(2, 8000)
    lifted = wave + 0.25
    assert gan.mel_distance(lifted, log_mel(wave)).item() < gan.offset_distance(lifted, wave).item()
    assert gan.offset_distance(lifted, wave).item() == pytest.approx(0.25)
    tone = 0.25 * torch.sin(2 * torch.pi * 440 / 16000 * torch.arange(8000.0)).expand(2, -1)
    assert gan.offset_distance(wave + tone, wave).item() < 0.01


def test_the_generator_s_loss_has_the_paper_s_weights_and_an_offset():
    stage = make()
    batch = {"wave": torch.stack([wave(k, 1600) for k in range(2)])}
    loss = stage.generator_loss(batch, 0, Draws([1, 2]))
    figures = {name: value.item() for name, value in loss.figures.items()}
    expected = figures["adversarial"] + 2 * figures["features"] + 45 * (figures["mel"] + figures["offset"])
    assert loss.value.item() == pytest.approx(expected, rel=SUM)
    alone = make(judge_from=5).generator_loss(batch, 0, Draws([1, 2]))
    assert alone.value.item() == pytest.approx(45 * (figures["mel"] + figures["offset"]), rel=SUM)


def test_a_generator_that_stands_at_one_is_told_the_way_back():
    """Behind tanh there is no gradient; before it, each unit of offset costs as much as the first."""
    stage = make(judge_from=5)
    last = stage.generator.conv_post
    with torch.no_grad():
        last.bias.fill_(100.0)
    batch = {"wave": torch.stack([wave(k, 1600) for k in range(2)])}
    loss = stage.generator_loss(batch, 0, Draws([1, 2]))
    assert loss.figures["offset"].item() == pytest.approx(100, rel=BESIDE)
    (slope,) = torch.autograd.grad(loss.value, [last.bias])
    assert slope.item() == pytest.approx(gan.MEL_WEIGHT, rel=BESIDE)
    mel = log_mel(batch["wave"])[:, 0]
    (flat,) = torch.autograd.grad(stage.generator(mel).sum(), [last.bias])
    assert flat.item() == 0


# ---- the stage ---------------------------------------------------------------------------------------


def test_weight_norm_changes_nothing_and_folds_bit_for_bit():
    vocoder = HiFiGAN(TINY)
    trained = normed(vocoder)
    mel = draw(1, 20, 64)
    assert relative(trained(mel), vocoder(mel)) < SAME
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            if name.endswith("original0"):
                parameter.mul_(1.5)
    folded = fold(trained)
    assert folded.state_dict().keys() == vocoder.state_dict().keys()
    assert torch.equal(folded(mel), trained(mel))
    assert not torch.equal(folded(mel), vocoder(mel))
    up = trained.stages[0].up.parametrizations.weight.original0
    assert up.shape == (64, 1, 1)  # of a transposed convolution too, the first axis


def test_segments_lie_in_their_clips_and_anywhere():
    clips = torch.arange(1000.0).repeat(64, 1)
    cut = segment(clips, 300, Draws(range(64)))
    assert cut.shape == (64, 300)
    assert torch.equal(cut - cut[:, :1], torch.arange(300.0).expand(64, -1))
    starts = cut[:, 0]
    assert starts.min() < 100
    assert starts.max() > 600
    assert torch.equal(segment(clips[:, :200], 300, Draws(range(64))), clips[:, :200])


def test_the_learning_rate_decays_with_each_pass():
    judge, generate = make(judge_from=6).turns
    assert [generate.schedule(step) for step in (0, 1, 2, 4)] == [1.0, 1.0, 0.999, 0.999**2]
    assert judge.schedule(0) == generate.schedule(6)  # its own steps count from where it starts


def test_eight_clips_are_learnt_and_the_folder_holds_a_plain_vocoder(tmp_path):
    """By the mel distance alone at first, as a run may start; then against the judges, which must not undo it."""
    stage = make(judge_from=100)
    train(stage, config(tmp_path, 120, batch=8, every=1000), DATA)
    mel = losses(tmp_path, "generate/mel")
    assert sum(mel[-5:]) / 5 < mel[0] / 2
    loaded = load_network(tmp_path, "vocoder")
    assert isinstance(loaded.conv_pre, nn.Conv1d)
    assert not nn.utils.parametrize.is_parametrized(loaded.conv_pre)
    batch = torch.stack([wave(k, 1600) for k in range(8)])
    with torch.no_grad():
        assert torch.equal(loaded(log_mel(batch)[:, 0]), fold(stage.generator)(log_mel(batch)[:, 0]))


def test_it_resumes_exactly(tmp_path):
    check_resumes_exactly(make, tmp_path, DATA)


def test_two_processes_are_one(tmp_path):
    check_two_are_one(make, tmp_path, DATA, 1e-6)


def test_evaluation_hears_whole_clips_and_needs_no_judge():
    stage = make()
    batch = {"wave": torch.stack([wave(k, 1600) for k in range(2)])}
    before = copy.deepcopy(stage.judges.state_dict())
    with torch.no_grad():
        figures = stage.evaluate(batch, Draws([1, 2]))
        made = F.pad(stage.generator(log_mel(batch["wave"])[:, 0]), (0, -32))
    assert figures["loss"].item() == pytest.approx(
        gan.mel_distance(made, log_mel(batch["wave"])).item(), rel=1e-6
    )
    assert all(torch.equal(value, before[name]) for name, value in stage.judges.state_dict().items())


# ---- the command -------------------------------------------------------------------------------------


def test_the_example_config_is_understood():
    path = example(Path("vocoder"))
    parsed = parse(Config, read_toml(path), str(path))
    assert parsed.vocoder == VocoderSettings()  # the paper's
    assert all(meaning for _, _, meaning in keys_of(Config))


def test_a_checkpoint_s_vocoder_is_trained_on_by_a_config(tmp_path):
    """From files to files: what was read is what the run starts from, and it moves."""
    clips = write_clips(tmp_path / "clips", n=4)
    path = tmp_path / "v.toml"
    path.write_text(
        f"""output = "{tmp_path / "run"}"
device = "cpu"
[data]
manifest = "{clips}"
seconds = 0.16
[parts]
init = "{tmp_path / "before"}"
[loop]
steps = 1
batch_size = 2
ema = 0.0
[vocoder]
judge_width = 128
judge_from = 1
segment = 1280
lr = 1e-2
"""
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        before = HiFiGAN(TINY)
    save_network(tmp_path / "before", "vocoder", before)
    assert run_stage("vocoder", path, bar=False).step == 1
    after = load_network(tmp_path / "run", "vocoder").state_dict()
    moved = [(after[name] - tensor).abs().max().item() for name, tensor in before.state_dict().items()]
    assert 0 < max(moved) < 0.2
    with pytest.raises(ConfigError, match=r"vocoder\.segment: got 800"):
        run_stage("vocoder", path, overrides=["vocoder.segment=800", f"output={tmp_path / 'x'}"], bar=False)
    save_network(tmp_path / "other", "vocoder", HiFiGAN(replace(TINY, model_in_dim=80)))
    with pytest.raises(ConfigError, match="got 80 mel bins, expected 64"):
        run_stage("vocoder", path, overrides=[f"parts.init={tmp_path / 'other'}"], bar=False)
