"""The metrics against torchmetrics, and the front ends against torchlibrosa, on spectra that real features have."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from musicldm.evaluation.classifier import inception_score, log_softmax, paired_kl
from musicldm.evaluation.frechet import Gaussian, frechet, frechet_distance
from musicldm.evaluation.kernel import PolynomialKernel, kernel_distance
from musicldm.evaluation.panns import MEL, Cnn14, log_mel_decibels, table
from musicldm.evaluation.vggish import VggishNetwork, log_mel_patches
from weights_convert.mapping import convert

fid = pytest.importorskip("torchmetrics.image.fid", reason="pip install '.[parity]'")
kid = pytest.importorskip("torchmetrics.image.kid")

FULL_RANK, DEFICIENT = (
    1e-6,
    1e-5,
)  # relative; rank-deficient products have eigenvalues of 1e-16, roots of 1e-8
DECIBELS = 1e-3  # torchlibrosa's transform is a float32 convolution


def decaying(n: int, d: int, seed: int, power: float, shift: float) -> np.ndarray:
    """Eigenvalues k^-power, as embeddings have, in a basis that the sets share, and a mean away from 0."""
    generator = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((d, d)))
    return generator.standard_normal((n, d)) * np.arange(1, d + 1) ** (-power / 2) @ basis + 0.2 + shift


def theirs(a: np.ndarray, b: np.ndarray) -> float:
    moments = [torch.from_numpy(m) for x in (a, b) for m in (x.mean(0), np.cov(x, rowvar=False))]
    return fid._compute_fid(*moments).item()


@pytest.mark.parametrize(
    ("n", "m", "d", "power"),
    [
        (2000, 1500, 128, 1.0),
        (2000, 1500, 128, 2.0),
        (3000, 2500, 512, 1.5),
        (2500, 2200, 1024, 1.0),
        (4200, 4100, 2048, 1.0),
    ],
)
def test_frechet_distance_of_full_rank(n, m, d, power):
    a, b = decaying(n, d, 1, power, 0), decaying(m, d, 2, power, 0.01)
    b *= np.linspace(0.8, 1.3, d)
    assert frechet_distance(a, b) == pytest.approx(theirs(a, b), rel=FULL_RANK)


@pytest.mark.parametrize(("n", "m", "d"), [(100, 120, 512), (1000, 1000, 2048), (60, 3000, 512)])
def test_frechet_distance_of_fewer_clips_than_columns(n, m, d):
    a, b = decaying(n, d, 1, 1.0, 0), decaying(m, d, 2, 1.0, 0.01)
    assert frechet_distance(a, b) == pytest.approx(theirs(a, b), rel=DEFICIENT)


def test_frechet_distance_of_moments():
    a, b = decaying(900, 256, 1, 1.5, 0), decaying(800, 256, 2, 1.5, 0.02)
    ours = [Gaussian.from_moments(x.mean(0), np.cov(x, rowvar=False)) for x in (a, b)]
    assert frechet(*ours) == pytest.approx(theirs(a, b), rel=FULL_RANK)


@pytest.mark.parametrize("d", [128, 512])
def test_kernel_distance(d):
    a, b = decaying(300, d, 1, 1.0, 0), decaying(300, d, 2, 1.0, 0.1)
    expected = kid.poly_mmd(torch.from_numpy(a), torch.from_numpy(b)).item()
    assert kernel_distance(a, b, PolynomialKernel()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.filterwarnings("ignore:std\\(\\)")  # theirs takes the deviation over one split
def test_inception_score():
    """Theirs shuffles by torch's generator: one split has no order."""
    from torchmetrics.image.inception import InceptionScore

    logits = 4 * np.random.default_rng(0).standard_normal((300, 527))
    metric = SimpleNamespace(features=[torch.from_numpy(logits)], splits=1)  # the constructor wants a network
    expected = InceptionScore.compute(metric)[0]
    assert inception_score(logits, splits=1).mean == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_paired_kl(activation):
    """torch's kl_div, as the tools of the field call it."""
    generator = np.random.default_rng(0)
    a, b = (3 * generator.standard_normal((50, 527)) for _ in range(2))
    p, t = (
        torch.from_numpy(x).softmax(1) if activation == "softmax" else torch.from_numpy(x).sigmoid()
        for x in (a, b)
    )
    expected = torch.nn.functional.kl_div((p + 1e-6).log(), t, reduction="sum").item() / 50
    assert paired_kl(a, b, activation=activation).mean == pytest.approx(expected, rel=1e-6)
    if activation == "softmax":
        from torchmetrics.functional import kl_divergence

        plain = kl_divergence(t, p, reduction="mean").item()
        assert paired_kl(a, b, eps=0.0).mean == pytest.approx(plain, rel=1e-6)


def test_log_softmax():
    logits = 50 * np.random.default_rng(0).standard_normal((20, 30))
    np.testing.assert_allclose(
        log_softmax(logits), torch.from_numpy(logits).log_softmax(1).numpy(), rtol=1e-12, atol=1e-12
    )


def test_panns_front_end():
    stft = pytest.importorskip("torchlibrosa.stft")
    spectrogram = stft.Spectrogram(
        n_fft=512, hop_length=160, win_length=512, window="hann", center=True, pad_mode="reflect"
    )
    bank = stft.LogmelFilterBank(
        sr=16000, n_fft=512, n_mels=64, fmin=50, fmax=8000, ref=1.0, amin=1e-10, top_db=None
    )
    generator = torch.Generator().manual_seed(0)
    wave = 0.1 * torch.randn(2, 163840, generator=generator) * torch.linspace(0, 1, 163840)
    with torch.no_grad():
        expected = bank(spectrogram(wave))
    found = log_mel_decibels(wave)
    assert found.shape == expected.shape == (2, 1, 1025, 64)
    assert (found - expected).abs().max() < DECIBELS
    later = log_mel_decibels(wave[:, 1:])
    assert (later - expected[:, :, : later.shape[2]]).abs().max() > 1  # a control: one sample is heard
    assert MEL.f_min == 50


def test_cnn14_against_panns_inference(monkeypatch):
    """The maintainers' own package, its class told to be the 16 kHz network, with random weights given to ours.

    Only its models.py is loaded: the package itself fetches a file when it is imported, and wants matplotlib.
    """
    package = importlib.util.find_spec("panns_inference")
    if package is None:
        pytest.skip("pip install '.[parity]'")
    shell = ModuleType("panns_inference")
    shell.__path__ = list(package.submodule_search_locations)
    monkeypatch.setitem(sys.modules, "panns_inference", shell)
    monkeypatch.setitem(sys.modules, "matplotlib", ModuleType("matplotlib"))
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", ModuleType("matplotlib.pyplot"))
    models = importlib.import_module("panns_inference.models")
    reference = models.Cnn14(16000, 512, 160, 64, 50, 8000, 527).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, p in reference.named_parameters():
            if "stft" not in name and "melW" not in name and p.ndim == 1:
                p.add_(0.2 * torch.randn(p.shape, generator=generator))
    network = Cnn14().eval()
    network.load_state_dict(convert(table(), reference.state_dict(), network.state_dict()))
    wave = 0.1 * torch.randn(1, 48000, generator=generator)
    with torch.no_grad():
        expected = reference(wave, None)
        embedding, logits = network(log_mel_decibels(wave))
    assert (embedding - expected["embedding"]).abs().max() < 1e-4 * expected["embedding"].abs().max()
    assert (logits.sigmoid() - expected["clipwise_output"]).abs().max() < 1e-4


def test_vggish_against_torchvggish():
    """The port that the published weights come with: its front end in numpy, its network with our random weights."""
    pytest.importorskip("resampy")
    examples = pytest.importorskip("torchvggish.vggish_input")
    port = pytest.importorskip("torchvggish.torchvggish")
    generator = torch.Generator().manual_seed(4)
    wave = 0.1 * torch.randn(40000, generator=generator, dtype=torch.float64)
    expected = examples.waveform_to_examples(wave.numpy(), 16000, return_tensor=False)
    patches = log_mel_patches(wave)
    np.testing.assert_allclose(patches.numpy(), expected, rtol=0, atol=1e-9)
    network = VggishNetwork().eval()
    reference = port.VGG(port.make_layers(), postprocess=False).eval()
    reference.load_state_dict(network.state_dict())
    with torch.no_grad():
        ours = network(patches.float())
        whole = reference(patches.float()[:, None])
    assert (ours.clamp_min(0) - whole).abs().max() < 1e-5 * ours.abs().max()  # it keeps the last ReLU
    assert ours.min() < 0 < whole.max()
