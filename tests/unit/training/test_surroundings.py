"""What is drawn on and around a lesion leaves the lesion to be seen."""

import numpy as np
import pytest

from training import surroundings

RUNS = 40


@pytest.fixture
def lesion():
    """Skin with a dark round spot a fifth of the side wide in its middle."""
    rows, columns = np.mgrid[:224, :224] - 111.5
    return np.where(np.hypot(rows, columns)[..., None] < 22, (90, 50, 40), (214, 170, 150)).astype(np.uint8)


def drawn_by(draw, lesion):
    return [draw(lesion, np.random.default_rng(seed)) for seed in range(RUNS)]


@pytest.mark.parametrize(
    "draw", [surroundings.with_pen, surroundings.in_a_white_frame, surroundings.with_sticker, surroundings.with_ruler]
)
def test_what_lies_around_a_lesion_does_not_cover_it(lesion, draw):
    pictures = drawn_by(draw, lesion)
    assert all(p.shape == lesion.shape and p.dtype == np.uint8 for p in pictures)
    assert np.mean([np.abs(p.astype(int) - lesion).max() > 30 for p in pictures]) > 0.8
    # Strokes of a pen may begin at the lesion's side.
    assert np.median([np.abs(p[95:129, 95:129].astype(int) - lesion[95:129, 95:129]).mean() for p in pictures]) < 1


def test_bubbles_are_thin(lesion):
    changed = [
        (np.abs(p.astype(int) - lesion) > 10).any(axis=2).mean() for p in drawn_by(surroundings.with_bubbles, lesion)
    ]
    assert min(changed) > 0
    assert max(changed) < 0.25


def test_from_farther_away_the_lesion_is_smaller_and_may_lie_anywhere(lesion):
    dark = [p.max(axis=2) < 150 for p in drawn_by(surroundings.from_farther_away, lesion)]
    shares = np.array([d.sum() for d in dark]) / (lesion.max(axis=2) < 150).sum()
    assert 0.2 < shares.min() < 0.35
    assert 0.6 < shares.max() < 0.75
    middles = np.array([np.mean(np.nonzero(d), axis=1) for d in dark])
    assert np.ptp(middles, axis=0).min() > 40


def test_each_drawing_is_made_now_and_then(lesion, monkeypatch):
    made = []
    draws = [lambda image, _rng, n=n: made.append(n) or image for n in range(len(surroundings._DRAWINGS))]
    monkeypatch.setattr(surroundings, "_DRAWINGS", tuple(draws))
    rng = np.random.default_rng(3)
    for _ in range(200):
        surroundings.with_surroundings(lesion, rng)
    assert set(made) == set(range(len(draws)))


def test_a_drawing_leaves_the_picture_that_it_was_given(lesion):
    before = lesion.copy()
    for draw in surroundings._DRAWINGS:
        drawn_by(draw, lesion)
    assert (lesion == before).all()
