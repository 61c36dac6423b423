"""Dark hair is painted over; what belongs to the lesion stays."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from services.preprocessor.imaging import DEFAULT
from services.preprocessor.imaging.hair import enclosed_meshes, hair_mask, line_kernels, without_hair

HAIR = (45, 35, 30)
#: Times finer at which a hair is drawn, so that its width and angle are what they are said to be.
FINE = 8


@pytest.fixture
def clean(make_skin):
    return make_skin(224, 224, radius=0.25)


def drawn(clean, strands, width=2.0):
    """The image with strands of hair, each a list of points, and where they cover it by more than half."""
    fine = np.zeros((224 * FINE, 224 * FINE), np.uint8)
    for points in strands:
        curve = np.rint((np.asarray(points, float) + 0.5) * FINE).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(fine, [curve], isClosed=False, color=255, thickness=round(width * FINE))
    cover = cv2.resize(fine, (224, 224), interpolation=cv2.INTER_AREA)[..., None] / 255
    hairy = np.rint(clean * (1 - cover) + np.asarray(HAIR) * cover).astype(np.uint8)
    return hairy, cover[..., 0] > 0.5


STRANDS = [
    [(10, 30), (90, 70), (200, 85)],
    [(30, 200), (120, 110), (215, 20)],
    [(60, 5), (75, 120), (60, 218)],
]


@pytest.mark.parametrize("width", [2, 2.5, 3, 3.5])
def test_hair_is_found_at_every_angle(width, clean):
    found = []
    for angle in np.radians(np.arange(0, 180, 7.5)):
        along = np.asarray([np.cos(angle), np.sin(angle)])
        middle = np.asarray([111.5, 111.5]) + 60 * along[::-1] * (1, -1)
        hairy, covered = drawn(clean, [[middle - 80 * along, middle + 80 * along]], width)
        found.append(hair_mask(hairy, DEFAULT)[covered].mean())
    assert min(found) > 0.5
    assert np.mean(found) > 0.95


@pytest.mark.parametrize("width", [1.5, 2, 3, 3.5])
def test_hair_is_painted_over(width, clean):
    hairy, covered = drawn(clean, STRANDS, width)
    restored, share = without_hair(hairy, DEFAULT)
    before = np.abs(hairy.astype(int) - clean)[covered].mean()
    after = np.abs(restored.astype(int) - clean)[covered].mean()
    assert after < before / 5
    assert 0 < share <= DEFAULT.hair_share_cap


def test_nothing_but_the_hair_is_touched(clean):
    hairy, _ = drawn(clean, STRANDS)
    mask = hair_mask(hairy, DEFAULT)
    restored, _ = without_hair(hairy, DEFAULT)
    np.testing.assert_array_equal(restored[~mask], hairy[~mask])


def test_skin_without_hair_is_left_exactly_as_it_is(clean):
    restored, share = without_hair(clean, DEFAULT)
    np.testing.assert_array_equal(restored, clean)
    assert share == 0
    assert not np.shares_memory(restored, clean)


def test_over_the_cap_nothing_is_painted(clean):
    forest = [[(x, 0), (x + 4, 112), (x, 223)] for x in range(4, 222, 12)]
    hairy, covered = drawn(clean, forest, 2.5)
    assert covered.mean() > DEFAULT.hair_share_cap
    assert hair_mask(hairy, replace(DEFAULT, hair_share_cap=1.0)).mean() > DEFAULT.hair_share_cap
    untouched, share = without_hair(hairy, DEFAULT)
    np.testing.assert_array_equal(untouched, hairy)
    assert share == 0


def test_dots_and_globules_of_the_lesion_stay(clean):
    rng = np.random.default_rng(3)
    for x, y in rng.integers(70, 154, (60, 2)):
        cv2.circle(clean, (int(x), int(y)), 2, (40, 25, 20), -1, cv2.LINE_AA)
    assert not hair_mask(clean, DEFAULT).any()


def honeycomb(clean, mesh, colour):
    """The image with a pigment network on its lesion: jittered hexagons of the given width in pixels."""
    rng = np.random.default_rng(1)
    side = mesh / np.sqrt(3)
    corners = {}

    def corner(x, y):
        key = round(x, 1), round(y, 1)
        if key not in corners:
            corners[key] = np.asarray([x, y]) + rng.normal(0, 0.2 * side, 2)
        return tuple(int(v) for v in np.rint(corners[key] * FINE))

    fine = cv2.resize(clean, None, fx=FINE, fy=FINE, interpolation=cv2.INTER_CUBIC)
    for row in range(-12, 13):
        for column in range(-12, 13):
            x, y = 112 + mesh * (column + row % 2 / 2), 112 + 1.5 * side * row
            if np.hypot(x - 112, y - 112) > 42:
                continue
            hexagon = [corner(x + side * np.sin(turn), y + side * np.cos(turn)) for turn in np.arange(6) * np.pi / 3]
            for start, end in zip(hexagon, hexagon[1:] + hexagon[:1], strict=True):
                cv2.line(fine, start, end, colour, round(1.5 * FINE))
    return cv2.resize(fine, (224, 224), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(
    ("mesh", "colour"),
    [(mesh, (85, 50, 38)) for mesh in (4, 5, 6, 8, 10, 12)] + [(mesh, (55, 30, 20)) for mesh in (4, 5, 6)],
)
def test_pigment_network_stays(mesh, colour, clean):
    network = honeycomb(clean, mesh, colour)
    assert np.abs(network.astype(int) - clean).max() > 25
    assert hair_mask(network, DEFAULT).mean() < 0.005


def test_crossing_hairs_are_no_network(clean):
    """A grid of hairs is one component with as many holes as its crossings enclose."""
    grid = [[(20, y), (200, y + 10)] for y in (40, 90, 140)] + [[(x, 20), (x + 10, 200)] for x in (50, 100, 150)]
    hairy, covered = drawn(clean, grid)
    assert hair_mask(hairy, DEFAULT)[covered].mean() > 0.9


def test_holes_are_counted_in_each_component():
    image = np.zeros((40, 60), np.uint8)
    image[2:9, 2:9] = 1  # solid
    image[2:13, 20:31] = 1  # a frame with a bar: two holes
    image[4:7, 22:29] = 0
    image[8:11, 22:29] = 0
    cv2.line(image, (40, 5), (45, 10), 1)  # a diamond of diagonal steps: one hole
    cv2.line(image, (45, 10), (40, 15), 1)
    cv2.line(image, (40, 15), (35, 10), 1)
    cv2.line(image, (35, 10), (40, 5), 1)
    image[0, 50] = 1  # a pixel at the frame
    count, labels = cv2.connectedComponents(image, connectivity=8)
    holes = enclosed_meshes(labels, count)
    assert [int(holes[labels[spot]]) for spot in ((5, 5), (2, 20), (5, 40), (0, 50))] == [0, 2, 1, 0]


def test_short_strokes_stay(clean):
    strokes = [[(40 + 30 * k, 40), (52 + 30 * k, 52)] for k in range(5)]
    hairy, _ = drawn(clean, strokes)
    assert not hair_mask(hairy, DEFAULT).any()


def test_broad_bands_stay(clean):
    band, _ = drawn(clean, [[(20, 60), (200, 150)]], 12)
    assert not hair_mask(band, DEFAULT).any()


def test_a_dark_edge_of_the_frame_is_no_hair(clean):
    clean[-2:] = 10
    for corner in [(0, 0), (223, 0)]:
        cv2.circle(clean, corner, 30, (5, 5, 5), -1)
    assert not hair_mask(clean, DEFAULT).any()


def test_bright_hair_and_reflections_stay(clean):
    cv2.line(clean, (20, 20), (200, 150), (250, 250, 250), 2, cv2.LINE_AA)
    assert not hair_mask(clean, DEFAULT).any()


@pytest.mark.parametrize("length", [7, 17])
def test_line_kernels_are_closed_under_turns_and_mirrors(length):
    kernels = line_kernels(length, 12)
    assert len(kernels) == 12
    lines = {kernel.tobytes() for kernel in kernels}
    assert len(lines) == 12
    for kernel in kernels:
        assert kernel.shape == (length, length)
        assert kernel.sum() == length
        for moved in (np.rot90(kernel), kernel[:, ::-1], kernel[::-1], kernel.T):
            assert np.ascontiguousarray(moved).tobytes() in lines


def test_the_mask_turns_and_mirrors_with_the_image(clean):
    hairy, _ = drawn(clean, STRANDS)
    mask = hair_mask(hairy, DEFAULT)
    for move in (np.rot90, np.fliplr, np.flipud, lambda a: np.rot90(a, 2)):
        np.testing.assert_array_equal(hair_mask(np.ascontiguousarray(move(hairy)), DEFAULT), move(mask))
