"""Kernel distance, inception score, KL, relevance, diversity, intervals: against loops written from the papers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from musicldm.evaluation import intervals
from musicldm.evaluation.classifier import inception_score, paired_kl
from musicldm.evaluation.diversity import mean_pairwise_distance, vendi_score
from musicldm.evaluation.frechet import Gaussian, frechet
from musicldm.evaluation.kernel import GaussianKernel, PolynomialKernel, kernel_distance, median_distance
from musicldm.evaluation.relevance import retrieval, retrieval_bound, text_audio_similarity

ROUNDING = 1e-10  # relative: the same sums in another order
SAME = 1e-12  # relative: few operations in float64
ROOTS = 1e-9  # relative: through eigenvalues or logarithms
MEDIAN = 1e-6  # relative: distances by squares lose half of the digits


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# kernel distance


@pytest.mark.parametrize(("kernel", "k"), [
    (PolynomialKernel(), lambda x, y: (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3),
    (GaussianKernel(1.7), lambda x, y: math.exp(-sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / (2 * 1.7**2))),
])  # fmt: skip
def test_mmd_is_the_mean_over_different_pairs(kernel, k):
    a, b = draw(9, 5), draw(7, 5, seed=1) + 0.5
    within = [np.mean([k(x, y) for x, y in itertools.permutations(list(s), 2)]) for s in (a, b)]
    between = np.mean([k(x, y) for x in a for y in b])
    assert kernel_distance(a, b, kernel) == pytest.approx(sum(within) - 2 * between, rel=ROUNDING)


def test_blocks_change_nothing_but_the_last_digits(monkeypatch):
    a, b = draw(100, 6), draw(90, 6, seed=1)
    whole = kernel_distance(a, b, PolynomialKernel())
    monkeypatch.setattr("musicldm.evaluation.kernel.BLOCK", 7)
    assert kernel_distance(a, b, PolynomialKernel()) == pytest.approx(whole, abs=SAME)


def test_mmd_of_gaussians_is_analytic_and_unbiased():
    """Gaussian kernel, N(0, 1) and N(m, 1) in d dimensions: closed form; the mean of small sets hits it."""
    d, m, h = 3, 0.5, 1.3
    scale = (h**2 / (h**2 + 2)) ** (d / 2)
    truth = 2 * scale * (1 - math.exp(-(d * m**2) / (2 * (h**2 + 2))))
    found = [
        kernel_distance(draw(30, d, seed=2 * i), draw(30, d, seed=2 * i + 1) + m, GaussianKernel(h))
        for i in range(200)
    ]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - truth) < 3 * error
    assert error < truth / 10
    same = [
        kernel_distance(draw(30, d, seed=2 * i), draw(30, d, seed=2 * i + 1), GaussianKernel(h))
        for i in range(100)
    ]
    assert min(same) < 0  # unbiased: not cut at 0


def test_the_median_distance():
    a = draw(40, 3) + 1e6  # far from the origin squares would lose it
    expected = np.median([np.linalg.norm(x - y) for x, y in itertools.combinations(a, 2)])
    assert median_distance(a) == pytest.approx(expected, rel=MEDIAN)
    assert median_distance(draw(90, 2), limit=40) == median_distance(draw(90, 2), limit=40)
    assert median_distance(draw(90, 2), limit=40) != median_distance(draw(90, 2), limit=40, seed=1)
    with pytest.raises(ValueError, match="most rows are equal"):
        median_distance(np.ones((5, 2)))
    with pytest.raises(ValueError, match="bandwidth 0"):
        GaussianKernel(0)


# a tagger's logits


def test_inception_score_is_its_definition():
    logits = 3 * draw(53, 11)
    order = np.random.RandomState(2020).permutation(53)
    scores = []
    for i in range(10):
        part = logits[order][i * 53 // 10 : (i + 1) * 53 // 10]
        p = [[math.exp(x) / sum(map(math.exp, row)) for x in row] for row in part]
        mean = np.mean(p, axis=0)
        scores.append(
            math.exp(np.mean([sum(x * math.log(x / y) for x, y in zip(r, mean, strict=True)) for r in p]))
        )
    found = inception_score(logits)
    assert found.mean == pytest.approx(np.mean(scores), rel=ROUNDING)
    assert found.deviation == pytest.approx(np.std(scores), rel=ROUNDING)
    assert found.splits.shape == (10,)
    assert inception_score(logits, seed=1).mean != found.mean


def test_inception_score_knows_its_ends():
    sure = 1000.0 * np.tile(np.eye(5), (4, 1))  # probabilities of exactly 0 and 1
    assert inception_score(sure, splits=1).mean == pytest.approx(5, rel=SAME)
    assert inception_score(np.zeros((20, 5)), splits=4).mean == pytest.approx(1, rel=SAME)
    with pytest.raises(ValueError, match="21 splits of 20 clips"):
        inception_score(sure, splits=21)


def test_paired_kl_has_both_conventions():
    generated, reference = 4 * draw(6, 9), 4 * draw(6, 9, seed=1)

    def softmax(row):
        return [math.exp(x) / sum(map(math.exp, row)) for x in row]

    def tags(row):
        return [1 / (1 + math.exp(-x)) for x in row]

    for name, activation in (("softmax", softmax), ("sigmoid", tags)):
        clips = [
            sum(t * math.log(t / (p + 1e-6)) for t, p in zip(activation(r), activation(g), strict=True))
            for g, r in zip(generated, reference, strict=True)
        ]
        found = paired_kl(generated, reference, activation=name)
        np.testing.assert_allclose(found.clips, clips, rtol=ROOTS)
        assert found.mean == pytest.approx(np.mean(clips), rel=ROUNDING)
        assert found.mean != pytest.approx(paired_kl(reference, generated, activation=name).mean, rel=1e-3)
    assert paired_kl(reference, reference).mean == pytest.approx(0, abs=1e-5)  # eps, times 9 classes


def test_extreme_logits_stay_finite():
    huge = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    for activation in ("softmax", "sigmoid"):
        assert np.isfinite(paired_kl(huge, huge[::-1], activation=activation).clips).all()
    with pytest.raises(ValueError, match="'tanh'"):
        paired_kl(huge, huge, activation="tanh")
    with pytest.raises(ValueError, match=r"have 2 and 1 rows.*missing"):
        paired_kl(huge, huge[:1])


# relevance


def test_similarity_and_its_bound():
    text, audio = draw(8, 16), draw(8, 16, seed=1)
    cosines = [t @ a / np.linalg.norm(t) / np.linalg.norm(a) for t, a in zip(text, audio, strict=True)]
    found = text_audio_similarity(text, 3 * audio)
    np.testing.assert_allclose(found.clips, cosines, rtol=ROUNDING)
    assert found.mean == pytest.approx(np.mean(cosines), rel=ROUNDING)
    pool = draw(50, 16, seed=2)
    every = (text / np.linalg.norm(text, axis=1, keepdims=True)) @ (
        pool / np.linalg.norm(pool, axis=1, keepdims=True)
    ).T
    bound, best = retrieval_bound(text, pool)
    assert bound == pytest.approx(every.max(1).mean(), rel=ROUNDING)
    assert best.index.tolist() == every.argmax(1).tolist()
    with pytest.raises(ValueError, match="row"):
        text_audio_similarity(text, np.vstack([audio[:7], np.zeros(16)]))
    with pytest.raises(ValueError, match="the pool have widths 16 and 3"):
        retrieval_bound(text, pool[:, :3])


def test_recall_at_k(monkeypatch):
    audio = draw(40, 12)
    text = audio + 1.2 * draw(40, 12, seed=1)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (text, audio)]
    order = np.argsort(-(unit[0] @ unit[1].T), axis=1)
    ranks = [1 + order[i].tolist().index(i) for i in range(40)]
    found = retrieval(text, audio, ks=(1, 3))
    assert found.ranks.tolist() == ranks
    assert found.recall == {1: ranks.count(1) / 40, 3: sum(r <= 3 for r in ranks) / 40}
    assert 0 < found.recall[1] < found.recall[3] < 1
    assert found.median_rank == np.median(ranks)
    monkeypatch.setattr("musicldm.evaluation.relevance.BLOCK", 7)
    assert retrieval(text, audio, ks=(1, 3)).ranks.tolist() == ranks


def test_one_clip_for_everybody_is_right_for_nobody():
    found = retrieval(draw(12, 8), np.tile(draw(1, 8), (12, 1)), ks=(1, 11, 12))
    assert found.recall == {1: 0.0, 11: 0.0, 12: 1.0}
    with pytest.raises(ValueError, match="numbers from 1"):
        retrieval(draw(3, 2), draw(3, 2), ks=(0,))


# diversity


def test_mean_pairwise_distance_is_its_definition():
    a = draw(13, 6) + 0.3
    u = a / np.linalg.norm(a, axis=1, keepdims=True)
    expected = np.mean([1 - x @ y for x, y in itertools.combinations(u, 2)])
    assert mean_pairwise_distance(a) == pytest.approx(expected, rel=ROUNDING)
    assert mean_pairwise_distance(np.tile(a[:1], (9, 1))) == pytest.approx(0, abs=1e-14)


def test_the_vendi_score_counts():
    assert vendi_score(np.eye(7)) == pytest.approx(7, rel=SAME)
    assert vendi_score(np.tile(draw(1, 7), (5, 1))) == pytest.approx(1, rel=SAME)
    assert vendi_score(np.repeat(np.eye(3), 4, axis=0)) == pytest.approx(3, rel=SAME)
    a = draw(13, 6)
    u = a / np.linalg.norm(a, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(u @ u.T / 13)
    values = values[values > SAME]
    assert vendi_score(a) == pytest.approx(math.exp(-sum(x * math.log(x) for x in values)), rel=ROOTS)


# intervals


def test_a_means_interval_is_the_one_of_theory_and_covers():
    hits = 0
    for seed in range(150):
        values = draw(60, seed=seed)
        found = intervals.mean_interval(values, replicates=200, seed=seed)
        hits += found.low < 0 < found.high
    assert 0.88 < hits / 150 < 0.99  # 95 %, less a little for 60 values, give or take 3 %
    assert found.error == pytest.approx(values.std() / np.sqrt(60), rel=0.15)
    assert abs(found.bias) < found.error / 4


def test_intervals_repeat_to_the_last_digit_and_move_with_the_seed():
    a, b, logits = draw(30, 4), draw(40, 4, seed=1), draw(30, 6, seed=2)
    reference = Gaussian.of(b)
    for make in (
        lambda **k: intervals.mean_interval(a[:, 0], **k),
        lambda **k: intervals.frechet_interval(a, reference, **k),
        lambda **k: intervals.kernel_interval(a, b, GaussianKernel(1.0), **k),
        lambda **k: intervals.inception_interval(logits, splits=2, **k),
        lambda **k: intervals.distance_interval(a, **k),
        lambda **k: intervals.vendi_interval(a, **k),
    ):
        first = make(replicates=25, seed=3)
        assert first == make(replicates=25, seed=3)
        assert (first.low, first.high) != (make(replicates=25, seed=4).low, make(replicates=25, seed=4).high)
        assert first.low < first.value < first.high
        assert first.replicates == 25
        assert make(replicates=25, seed=3, level=0.5).high < first.high


def test_each_interval_is_about_its_metric():
    a, b, logits = draw(30, 4), draw(40, 4, seed=1), draw(30, 6, seed=2)
    few = {"replicates": 3}
    kernel = PolynomialKernel()
    assert intervals.frechet_interval(a, Gaussian.of(b), **few).value == frechet(
        Gaussian.of(a), Gaussian.of(b)
    )
    assert intervals.kernel_interval(a, b, kernel, **few).value == pytest.approx(
        kernel_distance(a, b, kernel), rel=ROOTS
    )
    assert intervals.inception_interval(logits, **few).value == inception_score(logits).mean
    assert intervals.distance_interval(a, **few).value == pytest.approx(mean_pairwise_distance(a), rel=SAME)
    assert intervals.vendi_interval(a, **few).value == pytest.approx(vendi_score(a), rel=SAME)


def test_a_frechet_interval_says_its_bias_and_covers_the_distance_at_this_size():
    """Resampled clips push the distance up, about as far as it is from the truth already. The interval, less that,
    holds the mean of fresh sets of this size."""
    truth, reference = 6 * 0.5**2, Gaussian.from_moments(np.zeros(6), np.eye(6))
    fresh = [frechet(Gaussian.of(draw(80, 6, seed=1000 + i) + 0.5), reference) for i in range(200)]
    found = [
        intervals.frechet_interval(draw(80, 6, seed=i) + 0.5, reference, replicates=60, seed=i)
        for i in range(30)
    ]
    biases = [interval.bias for interval in found]
    assert np.mean(biases) > 5 * np.std(biases) / np.sqrt(30)
    assert np.mean(biases) == pytest.approx(np.mean(fresh) - truth, rel=0.5)
    assert np.mean([i.low < np.mean(fresh) < i.high for i in found]) > 0.8
    assert np.mean([interval.error for interval in found]) == pytest.approx(np.std(fresh), rel=0.3)


def test_kernel_and_distance_intervals_are_not_pushed_by_repeats():
    """Replicates leave out pairs of one clip with itself: without that, the bias would be several errors."""
    a, b = draw(60, 8), draw(60, 8, seed=1)
    for found in (intervals.kernel_interval(a, b, GaussianKernel(2.0)), intervals.distance_interval(a)):
        assert abs(found.bias) < found.error / 2


@pytest.mark.parametrize("wrong", [{"n": 1}, {"n": 5, "replicates": 1}, {"n": 5, "level": 1.0}])
def test_an_impossible_interval_is_refused(wrong):
    with pytest.raises(ValueError, match="bootstrap: got"):
        intervals.bootstrap(lambda pick: 0.0, **wrong)
