"""The nearest training clip: exact against every pair, in any blocks, and the planted copies found."""

from __future__ import annotations

import numpy as np
import pytest

from musicldm.evaluation import novelty as module
from musicldm.evaluation.novelty import Match, nearest, novelty


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def unit(a: np.ndarray) -> np.ndarray:
    return a / np.linalg.norm(a, axis=1, keepdims=True)


@pytest.mark.parametrize(("queries", "pool"), [(1024, 8192), (7, 11), (1, 1), (64, 50)])
def test_it_is_the_maximum_over_every_pair(monkeypatch, queries, pool):
    monkeypatch.setattr(module, "QUERIES", queries)
    monkeypatch.setattr(module, "POOL", pool)
    a, b = draw(60, 24) + 0.4, draw(133, 24, seed=1) + 0.4
    every = unit(a) @ unit(b).T
    found = nearest(a, b)
    assert found.index.tolist() == every.argmax(1).tolist()
    np.testing.assert_allclose(found.similarity, every.max(1), rtol=0, atol=1e-14)


def test_blocks_do_not_touch_the_last_digit(monkeypatch):
    a, b = draw(40, 512), draw(300, 512, seed=1)
    b[200:] = a[:1] + 1e-5 * draw(100, 512, seed=2)  # a hundred that float32 cannot tell apart
    whole = nearest(a, b)
    for queries, pool, recheck in ((3, 17, 5), (40, 300, 1), (1, 299, 1 << 14)):
        monkeypatch.setattr(module, "QUERIES", queries)
        monkeypatch.setattr(module, "POOL", pool)
        monkeypatch.setattr(module, "RECHECKED", recheck)
        again = nearest(a, b)
        assert again.index.tolist() == whole.index.tolist()
        assert again.similarity.tobytes() == whole.similarity.tobytes()
    products = (unit(a)[:1] * unit(b)).sum(1)
    assert whole.index[0] == products.argmax() >= 200  # float64 could


def test_of_equals_the_first_is_named():
    b = draw(50, 8)
    b[[31, 40]] = b[12]
    b[20] = -0.0 * b[20] + b[3]  # and once over, with signs of zero
    found = nearest(b[[12, 31, 3]], b)
    assert found.index.tolist() == [12, 12, 3]
    many = nearest(draw(5, 8), np.tile(draw(1, 8), (20000, 1)))
    assert many.index.tolist() == [0] * 5


def test_planted_copies_are_listed_and_nothing_else():
    """Of 1,000 clips, ten are training clips with a little noise: cosines of about 0.98 against at most 0.6."""
    training = draw(4000, 64)
    generated = draw(1000, 64, seed=1)
    where = np.random.default_rng(2).choice(1000, 10, replace=False)
    source = np.random.default_rng(3).choice(4000, 10, replace=False)
    generated[where] = training[source] + 0.2 * draw(10, 64, seed=4)
    found = novelty(generated, training, thresholds=(0.9, 0.999))
    assert found.share == {0.9: 0.01, 0.999: 0.0}
    matches = found.matches(0.9)
    assert {(m.generated, m.training) for m in matches} == {
        (int(i), int(j)) for i, j in zip(where, source, strict=True)
    }
    assert [m.similarity for m in matches] == sorted((m.similarity for m in matches), reverse=True)
    assert found.matches(0.999) == []
    assert len(found.matches(-1)) == 1000
    rest = np.delete(found.nearest.similarity, where)
    assert rest.max() < 0.7  # the threshold stands in a gap


def test_a_copy_is_a_copy_at_any_level_and_over_means_over():
    training = np.eye(4)
    found = novelty(np.array([[0.0, 5.0, 0, 0], [1.0, 1.0, 0, 0]]), training, thresholds=(0.5, 1.0))
    assert found.share == {0.5: 1.0, 1.0: 0.0}  # a cosine of exactly 1 is not over 1
    assert found.matches(0.9) == [Match(0, 1, 1.0)]
    assert found.nearest.index[1] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: novelty(draw(3, 4), draw(3, 4), thresholds=(90,)), r"thresholds \(90,\)"),
        (lambda: novelty(draw(3, 4), draw(3, 5)), "generated set and the training set have widths 4 and 5"),
        (lambda: novelty(np.zeros((3, 4)), draw(3, 4)), "rows 0, 1, 2 of the generated set are zero"),
        (lambda: novelty(draw(3, 4), np.full((3, 4), np.nan)), "the training set has NaN"),
        (lambda: novelty(draw(3, 4), np.zeros((0, 4))), "the training set has 0 rows"),
    ],
)
def test_bad_sets_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
