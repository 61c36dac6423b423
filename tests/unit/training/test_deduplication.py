"""Copies are found however they were turned, scaled or squashed, and clusters join what belongs together."""

import tracemalloc

import cv2
import numpy as np
import pytest

from training.deduplication import Copy, clusters, find_copies, same_identifiers, superfluous
from training.samples import Sample


def lesion(seed: int) -> np.ndarray:
    """A smooth random picture: no two seeds look alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 220, (7, 7, 3), dtype=np.uint8)
    return cv2.resize(coarse, (224, 224), interpolation=cv2.INTER_CUBIC)


def sample(image_id="a", *, dx="nv", label="benign", source="s", lesion_id="", patient_id="") -> Sample:
    return Sample(image_id, source, dx, label, f"{image_id}.jpg", lesion_id, patient_id)


def recompressed(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)


def smaller(image):
    return cv2.resize(cv2.resize(image, (60, 60), interpolation=cv2.INTER_AREA), (224, 224))


def squashed_from_four_to_three(seed):
    wide = cv2.resize(lesion(seed), (300, 225))
    centre = cv2.resize(wide[:, 37:262], (224, 224), interpolation=cv2.INTER_AREA)
    return centre, cv2.resize(wide, (224, 224), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(
    "change",
    [recompressed, smaller, np.rot90, lambda i: i[:, ::-1], lambda i: smaller(np.rot90(i, 3)[::-1])],
    ids=["recompressed", "smaller", "turned", "mirrored", "smaller, turned and mirrored"],
)
def test_a_changed_copy_is_found(change):
    pictures = np.stack([lesion(0), lesion(1), change(lesion(0)), lesion(2)])
    assert [(c.first, c.second) for c in find_copies(pictures)] == [(0, 2)]


def test_a_copy_squashed_to_a_square_is_found():
    centre, squashed = squashed_from_four_to_three(5)
    pictures = np.stack([centre, lesion(1), squashed])
    assert [(c.first, c.second) for c in find_copies(pictures)] == [(0, 2)]


def test_images_that_cannot_be_read_are_no_copies_of_each_other():
    grey = np.full((224, 224, 3), 128, np.uint8)
    pictures = np.stack([grey, lesion(0), grey, lesion(1), lesion(0), grey])
    readable = np.array([False, True, False, True, True, False])
    assert [(c.first, c.second) for c in find_copies(pictures, readable)] == [(1, 4)]
    assert find_copies(pictures, np.zeros(6, bool)) == []


def test_memory_does_not_grow_with_the_pairs_of_many_copies():
    pictures = np.broadcast_to(lesion(0), (250, 224, 224, 3))
    tracemalloc.start()
    assert len(find_copies(pictures)) == 250 * 249 // 2
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150e6  # all 62,250 pairs at once take 500 MB


def test_different_lesions_are_no_copies():
    assert find_copies(np.stack([lesion(seed) for seed in range(40)])) == []


def test_lesions_patients_and_copies_are_joined_also_in_a_chain():
    samples = [
        sample("a", lesion_id="L1"),
        sample("b", lesion_id="L1", patient_id="P1"),
        sample("c", patient_id="P1"),
        sample("d"),
        sample("e"),
        sample("f", source="other", lesion_id="L1"),
    ]
    group = clusters(samples, [Copy(2, 3, 0.99)])
    assert len({group[0], group[1], group[2], group[3]}) == 1
    assert len({group[0], group[4], group[5]}) == 3


def test_one_id_of_the_isic_archive_in_two_sources_is_a_copy():
    samples = [sample("ISIC_0000001"), sample("ISIC_0000002"), sample("ISIC_0000001", source="t")]
    assert same_identifiers(samples) == [Copy(0, 2, 1.0)]


def test_the_same_number_given_by_two_clinics_says_nothing():
    assert same_identifiers([sample("0"), sample("0", source="t"), sample("IMG_0000001"), sample("IMG_0000001")]) == []


def test_of_agreeing_copies_the_documented_one_stays():
    samples = [sample("a"), sample("b", lesion_id="L1"), sample("c")]
    assert superfluous(samples, [Copy(0, 1, 1.0), Copy(1, 2, 1.0)]) == {0: "copy of b", 2: "copy of b"}


def test_of_agreeing_copies_one_stays_that_can_be_used():
    samples = [sample("a", lesion_id="L1"), sample("b", dx="unknown", label="unknown", lesion_id="L1"), sample("c")]
    copies = [Copy(0, 1, 1.0), Copy(1, 2, 1.0)]
    assert superfluous(samples, copies, np.array([False, True, True])) == {0: "copy of c", 1: "copy of c"}


def test_images_without_an_identifier_are_no_copies_of_each_other():
    assert same_identifiers([sample(""), sample("", source="t")]) == []


def test_copies_with_contradicting_diagnoses_all_go():
    samples = [sample("a", dx="nv"), sample("b", dx="melanoma", label="malignant")]
    assert set(superfluous(samples, [Copy(0, 1, 1.0)])) == {0, 1}


def test_a_half_known_copy_does_not_contradict():
    samples = [sample("a", dx="nv"), sample("b", dx="unknown", label="benign")]
    assert superfluous(samples, [Copy(0, 1, 1.0)]) == {1: "copy of a"}
