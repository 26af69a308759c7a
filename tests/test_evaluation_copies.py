"""Planted copies among synthetic songs, by an embedding of sound: found, listed, and nothing else; and what is not."""

from __future__ import annotations

import numpy as np
import pytest

from musicldm.evaluation.logmel import log_mel_covariance, log_mel_feature
from musicldm.evaluation.novelty import novelty

RATE, SECONDS = 16000, 2.0
THRESHOLD = 0.95  # songs of one generator reach 0.923 at most, copies as below 0.978 at least
SCALE = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14])


def song(seed: int, seconds: float = SECONDS) -> np.ndarray:
    """Plucked notes of one scale, tempo, timbre and root, each drawn anew -> (s,)."""
    draw = np.random.default_rng([seed, 77])
    n, beat = round(RATE * seconds), round(RATE * 30 / draw.uniform(80, 170))
    decay, root = draw.uniform(3, 12), draw.uniform(80, 300)
    partials = np.arange(1, 6)
    gains = draw.random(5) * partials ** -draw.uniform(0.3, 1.5)
    t = np.arange(beat * 2, dtype=np.float32) / np.float32(RATE)
    envelope = np.exp(-decay * t)
    pitches = (2 * np.pi * root * 2 ** (SCALE / 12) * partials[:, None]).astype(np.float32)  # partial, step
    gains = gains.astype(np.float32)
    notes = [envelope * (gains @ np.sin(pitch[:, None] * t)) for pitch in pitches.T]
    wave = np.zeros(n + len(t))
    for start in range(0, n, beat):
        wave[start : start + len(t)] += notes[draw.integers(len(notes))]
    return (0.5 * wave[:n] / np.abs(wave[:n]).max()).astype(np.float32)


def longer(seed: int, start: float) -> np.ndarray:
    """A song that goes on, heard from another start."""
    skipped = round(RATE * start)
    return song(seed, SECONDS + start)[skipped:]


def noisy(wave: np.ndarray, seed: int) -> np.ndarray:
    hiss = np.random.default_rng(seed).standard_normal(len(wave)).astype(np.float32)
    return wave + 0.03 * wave.std() * hiss


@pytest.fixture(scope="module")
def training() -> np.ndarray:
    return log_mel_covariance([song(i) for i in range(200)])


def test_ten_planted_copies_among_a_thousand_songs_are_listed_and_nothing_else(training):
    """Three as they are but quieter, by 20 to 40 dB; three from another start, wrapped round; two from 0.1 s later in
    the track; two with noise 30 dB below."""
    places = {
        101: (5, 0.1 * song(5)), 202: (17, 0.03 * song(17)), 303: (190, 0.01 * song(190)),
        404: (60, np.roll(song(60), 12345)), 505: (61, np.roll(song(61), -5000)), 606: (5, np.roll(song(5), 700)),
        707: (80, longer(80, 0.1)), 808: (81, longer(81, 0.1)),
        909: (99, noisy(song(99), 1)), 999: (100, noisy(song(100), 2)),
    }  # fmt: skip
    waves = [places[i][1] if i in places else song(10_000 + i) for i in range(1000)]
    found = novelty(log_mel_feature()(waves).embeddings, training, thresholds=(THRESHOLD,))
    listed = {match.generated: match.training for match in found.matches(THRESHOLD)}
    assert listed == {place: source for place, (source, _) in places.items()}
    assert found.share == {THRESHOLD: 0.01}
    again = novelty(log_mel_feature()(waves[:120]).embeddings, training, thresholds=(THRESHOLD,))
    assert again.nearest.similarity.tobytes() == found.nearest.similarity[:120].tobytes()


def test_what_it_cannot_find(training):
    """A copy at another pitch or tempo, and a half of one: below the threshold, as the README says."""
    positions = np.arange(0, RATE * SECONDS - 2, 2 ** (3 / 12))
    transposed = np.interp(positions, np.arange(RATE * SECONDS), song(30)).astype(np.float32)
    half = np.concatenate([song(31)[:16000], song(5000)[:16000]])
    found = novelty(log_mel_covariance([transposed, half]), training, thresholds=(THRESHOLD,))
    assert found.share[THRESHOLD] == 0


def test_level_goes_exactly_and_silence_is_named(training):
    feature = log_mel_feature()
    one = feature([song(3), 0.001 * song(3)]).embeddings
    np.testing.assert_allclose(one[0], one[1], rtol=0, atol=1e-5 * np.abs(one[0]).max())
    assert feature([np.ones(5, np.float32)]).embeddings.shape == (1, feature.dim)
    with pytest.raises(ValueError, match="rows 1 of the generated set are zero"):
        novelty(log_mel_covariance([song(3), np.zeros(32000, np.float32)]), training)
