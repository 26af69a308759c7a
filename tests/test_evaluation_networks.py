"""PANNs and VGGish: front ends from the papers' formulas, networks from a slow reference, weights from files."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation_toys import published_names
from safetensors.torch import save_file

from musicldm.evaluation import panns, vggish
from musicldm.evaluation.panns import Cnn14, Panns, log_mel_decibels
from musicldm.evaluation.vggish import Vggish, VggishNetwork, log_mel_patches, mel_bank
from weights_convert.mapping import MappingError, convert
from weights_convert.reading import CheckpointError

RATE = 16000
FORMULA = 1e-12  # the same float64 operations
LOGARITHM = 1e-6  # of float32 powers, in nats
FLOAT32 = 2e-4  # dB: float32 transforms of 512 samples, in the logarithm
FORWARD = 1e-5  # relative to the largest value: float32 sums in another order
WIDTHS = (4, 6, 8, 8, 10, 12)  # of a Cnn14 small enough for a test
LAYERS, HIDDEN, DIM = (4, 0, 6, 0, 8, 8, 0, 10, 10, 0), 20, 16


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def tone(hz: float, seconds: float = 1.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(RATE * seconds)) / RATE)).astype(np.float32)


def alive(module: torch.nn.Module) -> torch.nn.Module:
    """Weights with which every layer matters: gain 1, biases and running statistics away from 0 and 1."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, p in [*module.named_parameters(), *module.named_buffers()]:
            if not p.is_floating_point():
                continue
            r = torch.randn(p.shape, generator=generator)
            if name.endswith("running_var"):
                p.copy_(0.5 + r.abs())
            elif p.ndim == 1:
                p.add_(0.3 * r)
            else:
                p.copy_(1.4 * r / math.sqrt(p[0].numel()))
    return module.eval()


def small_cnn() -> Cnn14:
    return alive(Cnn14(WIDTHS, classes=5))


def small_vggish() -> VggishNetwork:
    return alive(VggishNetwork(LAYERS, HIDDEN, DIM))


# front ends


def test_panns_front_end_is_its_formula():
    """A slow Fourier transform and a bank written down bin by bin, in float64."""
    wave = noise(2000).astype(np.float64)
    padded = np.pad(wave, 256, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)

    def mel(f):  # Slaney
        return f / (200 / 3) if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4)

    def hz(m):
        return m * 200 / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27)

    edges = [hz(mel(50) + (mel(8000) - mel(50)) * i / 65) for i in range(66)]
    expected = np.zeros((2000 // 160 + 1, 64))
    for t in range(len(expected)):
        power = np.abs(np.fft.fft(padded[160 * t : 160 * t + 512] * window)[:257]) ** 2
        for k in range(64):
            low, mid, high = edges[k : k + 3]
            weights = [
                max(0.0, min((f - low) / (mid - low), (high - f) / (high - mid))) * 2 / (high - low)
                for f in np.arange(257) * RATE / 512
            ]
            expected[t, k] = 10 * math.log10(max(1e-10, np.dot(weights, power)))
    found = log_mel_decibels(torch.from_numpy(noise(2000))[None])
    assert found.shape == (1, 1, 13, 64)
    np.testing.assert_allclose(found[0, 0].numpy(), expected, rtol=0, atol=FLOAT32)
    assert (log_mel_decibels(torch.zeros(1, 4000)) == -100).all()


def test_vggish_front_end_is_its_formula():
    wave = noise(30900).astype(np.float64)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)

    def mel(f):
        return 1127 * math.log(1 + f / 700)

    low, high = mel(125), mel(7500)
    edges = [low + (high - low) * i / 65 for i in range(66)]
    bank = np.array([
        [0.0] + [max(0.0, min((mel(f) - edges[k]) / (edges[k + 1] - edges[k]), (edges[k + 2] - mel(f)) / (edges[k + 2] - edges[k + 1])))
                 for f in np.arange(1, 257) * RATE / 512]
        for k in range(64)
    ])  # fmt: skip
    np.testing.assert_allclose(mel_bank().numpy(), bank, rtol=0, atol=FORMULA)
    found = log_mel_patches(torch.from_numpy(noise(30900)))
    assert found.shape == (
        1,
        96,
        64,
    )  # 191 windows: the second patch is not finished
    for t in (0, 1, 50, 95):
        spectrum = np.abs(np.fft.fft(np.pad(wave[160 * t : 160 * t + 400] * window, (0, 112)))[:257])
        np.testing.assert_allclose(
            found[0, t].numpy(), np.log(bank @ spectrum + 0.01), rtol=0, atol=LOGARITHM
        )
    assert len(log_mel_patches(torch.zeros(400 + 191 * 160))) == 2
    assert len(log_mel_patches(torch.zeros(400 + 191 * 160 - 1))) == 1
    assert log_mel_patches(torch.zeros(163840)).shape == (10, 96, 64)  # a clip of 10.24 s
    assert torch.allclose(
        log_mel_patches(torch.zeros(15600)), torch.tensor(math.log(0.01), dtype=torch.float64)
    )


@pytest.mark.parametrize("hz", [500.0, 1000.0, 4000.0])
def test_a_tone_is_in_its_band(hz):
    decibels = log_mel_decibels(torch.from_numpy(tone(hz))[None])[0, 0, 50]
    band = int(decibels.argmax())
    bank = panns.mel_filterbank(panns.MEL)
    assert bank[:, round(hz / RATE * 512)].argmax() == band
    found = log_mel_patches(torch.from_numpy(tone(hz)))[0, 50]
    assert mel_bank()[:, round(hz / RATE * 512)].argmax() == found.argmax()
    louder = log_mel_decibels(torch.from_numpy(tone(hz, level=0.05))[None])[0, 0, 50]
    assert decibels[band] - louder[band] == pytest.approx(20, abs=1e-3)


# networks


def test_cnn14_is_the_papers_network():
    """Written again from the table of the paper, with the published file's names, one operation a line."""
    network = small_cnn()
    theirs = published_names(network)
    mels = torch.randn(2, 1, 70, 64, generator=torch.Generator().manual_seed(1)) * 20 - 40

    def norm(x, name):
        shape = (1, -1, 1, 1)
        mean, var = theirs[f"{name}.running_mean"].view(shape), theirs[f"{name}.running_var"].view(shape)
        return (x - mean) / (var + 1e-5).sqrt() * theirs[f"{name}.weight"].view(shape) + theirs[
            f"{name}.bias"
        ].view(shape)

    x = norm(mels.transpose(1, 3), "bn0").transpose(1, 3)
    for i in range(1, 7):
        for j in (1, 2):
            x = norm(
                F.conv2d(x, theirs[f"conv_block{i}.conv{j}.weight"], padding=1), f"conv_block{i}.bn{j}"
            ).clamp_min(0)
        if i < 6:
            t, f = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
            x = (
                x[:, :, 0:t:2, 0:f:2] + x[:, :, 1:t:2, 0:f:2] + x[:, :, 0:t:2, 1:f:2] + x[:, :, 1:t:2, 1:f:2]
            ) / 4
    x = x.mean(3)
    x = x.max(2).values + x.mean(2)
    embedding = (x @ theirs["fc1.weight"].T + theirs["fc1.bias"]).clamp_min(0)
    logits = embedding @ theirs["fc_audioset.weight"].T + theirs["fc_audioset.bias"]
    with torch.no_grad():
        found = network(mels)
    for got, expected in zip(found, (embedding, logits), strict=True):
        assert (got - expected).abs().max() < FORWARD * expected.abs().max()
    assert found[0].min() == 0 < found[0].max()  # rectified, and not dead


def test_vggish_is_the_releases_network():
    network = small_vggish()
    theirs = network.state_dict()
    patches = torch.randn(3, 96, 64, generator=torch.Generator().manual_seed(1))
    x = patches[:, None]
    for name in ("0", "M", "3", "M", "6", "8", "M", "11", "13", "M"):  # the file's numbers: a ReLU counts
        if name == "M":
            x = x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
        else:
            x = F.conv2d(
                x, theirs[f"features.{name}.weight"], theirs[f"features.{name}.bias"], padding=1
            ).clamp_min(0)
    flat = torch.stack(
        [torch.cat([torch.cat([one[:, t, f] for f in range(4)]) for t in range(6)]) for one in x]
    )
    for name in ("0", "2", "4"):
        flat = flat @ theirs[f"embeddings.{name}.weight"].T + theirs[f"embeddings.{name}.bias"]
        flat = flat.clamp_min(0) if name != "4" else flat
    with torch.no_grad():
        found = network(patches)
    assert (found - flat).abs().max() < FORWARD * flat.abs().max()
    assert found.min() < 0  # the last ReLU is not there


def test_the_published_sizes():
    with torch.device("meta"):
        cnn, vgg = Cnn14(), VggishNetwork()
    assert sum(p.numel() for p in cnn.parameters()) == 80_753_615  # the paper's table
    assert sum(p.numel() for p in vgg.parameters()) == 72_141_184
    assert cnn.hidden.out_features == 2048
    assert cnn.tags.out_features == 527
    assert [tuple(vgg.state_dict()[f"embeddings.{i}.weight"].shape) for i in (0, 2, 4)] == [
        (4096, 12288),
        (4096, 4096),
        (128, 4096),
    ]


# features


def test_panns_hears_each_clip_alone():
    feature = Panns(small_cnn(), "0" * 64, "a test")
    clips = [noise(40000), noise(50001, 1), noise(3000, 2)]
    found = feature(clips)
    assert found.embeddings.shape == (3, 12)
    assert found.logits.shape == (3, 5)
    assert found.embeddings.dtype == np.float64
    assert (feature.dim, feature.classes, feature.rate) == (12, 5, 16000)
    for i, clip in enumerate(clips):
        alone = feature([clip])
        assert alone.embeddings.tobytes() == found.embeddings[i : i + 1].tobytes()
        assert alone.logits.tobytes() == found.logits[i : i + 1].tobytes()
    offset = feature([clips[0] + np.float32(0.2)])
    np.testing.assert_allclose(offset.logits, found.logits[:1], rtol=0, atol=1e-3)  # the mean goes
    silence = feature([np.zeros(3000, np.float32), np.zeros(32000, np.float32)])
    assert silence.logits[0].tobytes() == silence.logits[1].tobytes()  # the padding is silence, up to 2 s
    assert feature([]).logits.shape == (0, 5)


def test_vggish_gives_frames_and_their_mean():
    feature = Vggish(small_vggish(), "0" * 64, "a test")
    found = feature([noise(163840), noise(16000, 1), noise(5, 2)])
    assert [frame.shape for frame in found.frames] == [(10, 16), (1, 16), (1, 16)]
    np.testing.assert_allclose(found.embeddings[0], found.frames[0].mean(0), rtol=FORMULA)
    assert found.rows.shape == (12, 16)
    assert found.logits is None
    alone = feature([noise(16000, 1)])
    assert alone.embeddings.tobytes() == found.embeddings[1:2].tobytes()
    assert feature([]).embeddings.shape == (0, 16)


@pytest.mark.parametrize("make", [lambda: Panns(small_cnn(), "", ""), lambda: Vggish(small_vggish(), "", "")])
def test_bad_clips_are_named(make):
    feature = make()
    for clip, message in (
        (np.zeros((2, 100), np.float32), r"clip 1 has shape \(2, 100\)"),
        (np.zeros(0, np.float32), r"clip 1 has shape \(0,\)"),
        (np.full(100, np.nan, np.float32), "clip 1 has samples that are NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            feature([noise(100), clip])


# weights


@pytest.fixture
def small_published(monkeypatch):
    """`load` builds small networks: the files of a test stay small."""
    monkeypatch.setattr(panns, "Cnn14", lambda: Cnn14(WIDTHS, classes=5))
    monkeypatch.setattr(vggish, "VggishNetwork", lambda: VggishNetwork(LAYERS, HIDDEN, DIM))


@pytest.mark.usefixtures("small_published")
@pytest.mark.parametrize("legacy", [False, True])
def test_panns_loads_the_published_form_of_file(tmp_path, caplog, legacy):
    network = small_cnn()
    path = tmp_path / "cnn.pth"
    held = {"iteration": 600000, "model": published_names(network)}
    torch.save(held, path, _use_new_zipfile_serialization=not legacy)
    with caplog.at_level(logging.WARNING):
        feature = Panns.load(path)
    assert feature.id.sha256 == __import__("hashlib").sha256(path.read_bytes()).hexdigest()
    assert "e2ee543a2791" in caplog.text  # not the published file: said, and used
    clip = noise(40000)
    expected = Panns(network, "", "")([clip])
    assert feature([clip]).logits.tobytes() == expected.logits.tobytes()
    assert feature.id.sha256_of == "file cnn.pth"
    assert not feature.network.training


@pytest.mark.usefixtures("small_published")
def test_vggish_loads_either_form_of_file(tmp_path):
    network = small_vggish()
    torch.save(network.state_dict(), tmp_path / "v.pth", _use_new_zipfile_serialization=False)
    save_file({**network.state_dict(), "pproc.pca_means": torch.zeros(3)}, tmp_path / "v.safetensors")
    one, two = (Vggish.load(tmp_path / name) for name in ("v.pth", "v.safetensors"))
    assert one([noise(16000)]).embeddings.tobytes() == two([noise(16000)]).embeddings.tobytes()
    assert one.id != two.id


@pytest.mark.usefixtures("small_published")
def test_wrong_weights_are_refused_by_name(tmp_path):
    with pytest.raises(CheckpointError, match=r"no file .*zenodo.org/records/3987831 \(Creative Commons"):
        Panns.load(tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match=r"harritaylor/torchvggish, release v0.1 \(Apache"):
        Vggish.load(tmp_path)
    theirs = published_names(small_cnn())
    broken = {k: v for k, v in theirs.items() if k != "fc1.bias"} | {"bn9.weight": torch.zeros(1)}
    torch.save({"model": broken}, tmp_path / "broken.pth")
    with pytest.raises(MappingError, match=r"(?s)fc1.bias.*bn9.weight|bn9.weight.*fc1.bias"):
        Panns.load(tmp_path / "broken.pth")
    torch.save({"model": theirs | {"fc1.bias": torch.full((12,), torch.nan)}}, tmp_path / "nan.pth")
    with pytest.raises(CheckpointError, match=r"NaN or infinity in hidden.bias"):
        Panns.load(tmp_path / "nan.pth")
    (tmp_path / "text.pth").write_text("<html>not found</html>")
    with pytest.raises(CheckpointError, match=r"text.pth is broken"):
        Panns.load(tmp_path / "text.pth")


def test_the_table_fills_the_published_size():
    """Every name and shape of the published file, written out, fills our network and nothing is left over."""
    shapes = {
        "bn0": (64,),
        "fc1.weight": (2048, 2048),
        "fc1.bias": (2048,),
        "fc_audioset.weight": (527, 2048),
        "fc_audioset.bias": (527,),
    }
    ends = (1, 64, 128, 256, 512, 1024, 2048)
    for i in range(6):
        shapes[f"conv_block{i + 1}.conv1.weight"] = (ends[i + 1], ends[i], 3, 3)
        shapes[f"conv_block{i + 1}.conv2.weight"] = (ends[i + 1], ends[i + 1], 3, 3)
        shapes |= {f"conv_block{i + 1}.bn{j}": (ends[i + 1],) for j in (1, 2)}
    theirs = {}
    with torch.device("meta"):
        for name, shape in shapes.items():
            if "bn" in name.rsplit(".", 1)[-1]:
                theirs |= {
                    f"{name}.{p}": torch.empty(shape)
                    for p in ("weight", "bias", "running_mean", "running_var")
                }
                theirs[f"{name}.num_batches_tracked"] = torch.empty((), dtype=torch.int64)
            else:
                theirs[name] = torch.empty(shape)
        filled = convert(panns.table(), theirs, Cnn14().state_dict())
    assert len(filled) == len(theirs) == 81
