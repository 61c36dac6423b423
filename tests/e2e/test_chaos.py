"""A hundred uploads, six faults, nothing lost. `make chaos` tells the long story, with more that can break."""

from __future__ import annotations

import random

import pytest

from tests.chaos.faults import short_list
from tests.chaos.story import PATIENCE_S, tell
from tests.chaos.world import World, endings_noted
from tests.e2e.product import Product

UPLOADS = 100


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_whatever_dies_every_accepted_upload_ends_once(product: Product) -> None:
    seed = random.SystemRandom().randrange(10**6)
    world = World(product)
    with endings_noted(world):
        verdict = tell(world, short_list(), seed, UPLOADS, per_s=8.0, pauses_s=1.0)

    story = verdict.table(seed)
    assert verdict.uploads == UPLOADS, story
    assert (verdict.lost, verdict.doubled, verdict.stuck, verdict.wrong) == (0, 0, 0, 0), story
    assert verdict.failed == {}, story
    # The bound of the promise is for `make chaos` on a quiet machine; here it only has to come back.
    assert all(event.recovery_s < PATIENCE_S for event in verdict.events), story
    # What the log says of it, which is gone with the product.
    assert verdict.unexpected == [], story + product.log.read_text().partition("unexpected_error")[2][:10_000]
