"""Photographs that show nothing are refused, softly; everything short of that is advice."""

import cv2
import numpy as np
import pytest

from services.preprocessor.imaging import PreparedLesion, Rejection, prepare_lesion


def blurred(pixels, deviation):
    return cv2.GaussianBlur(pixels, (0, 0), deviation)


def refused(make_skin):
    return {
        "blank": np.full((300, 400, 3), 128, np.uint8),
        "too_dark": (make_skin() * 0.06).astype(np.uint8),
        "too_bright": np.clip(make_skin().astype(int) + 130, 0, 255).astype(np.uint8),
        "too_blurred": blurred(make_skin(), 30),
    }


@pytest.mark.parametrize("code", ["blank", "too_dark", "too_bright", "too_blurred"])
def test_what_shows_nothing_is_refused_with_a_reason(code, make_skin, encode):
    outcome = prepare_lesion(encode(refused(make_skin)[code]))
    assert isinstance(outcome, Rejection)
    assert outcome.code == code
    assert outcome.soft


@pytest.mark.parametrize("code", ["blank", "too_dark", "too_bright", "too_blurred"])
def test_a_soft_reason_can_be_overruled_and_stays_on_record(code, make_skin, encode):
    lesion = prepare_lesion(encode(refused(make_skin)[code]), force=True)
    assert isinstance(lesion, PreparedLesion)
    assert lesion.concerns[0].code == code


def test_force_does_not_overrule_hard_reasons(make_skin, encode):
    assert prepare_lesion(b"no image", force=True).code == "not_an_image"
    assert prepare_lesion(encode(make_skin(50, 50)), force=True).code == "too_small"


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: pixels,
        lambda pixels: (pixels * 0.3).astype(np.uint8),
        lambda pixels: np.clip(pixels * 1.25, 0, 255).astype(np.uint8),
        lambda pixels: blurred(pixels, 2),
        lambda pixels: np.repeat(pixels[..., 1:2], 3, axis=2),
    ],
    ids=["good", "dim", "bright", "slightly soft", "grey"],
)
def test_usable_photos_pass(change, skin, encode):
    lesion = prepare_lesion(encode(change(skin)))
    assert isinstance(lesion, PreparedLesion)
    assert lesion.concerns == ()


def test_dark_skin_passes_without_concern(make_skin, encode):
    lesion = prepare_lesion(encode(make_skin(skin=(92, 62, 48), lesion=(45, 30, 25))))
    assert isinstance(lesion, PreparedLesion)
    assert lesion.concerns == ()


def with_glare(make_skin):
    pixels = make_skin()
    cv2.ellipse(pixels, (130, 60), (60, 30), 20, 0, 360, (255, 255, 255), -1)
    return pixels


@pytest.mark.parametrize(
    ("code", "photo"),
    [
        ("no_lesion_found", lambda make_skin: make_skin(lesion=None, grain=3.0)),
        ("off_centre", lambda make_skin: make_skin(at=(0.88, 0.12), radius=0.1)),
        ("cut_off", lambda make_skin: make_skin(at=(0.5, 1.2), radius=0.8)),
        ("glare", with_glare),
    ],
)
def test_advice_does_not_refuse(code, photo, make_skin, encode):
    lesion = prepare_lesion(encode(photo(make_skin)))
    assert isinstance(lesion, PreparedLesion)
    assert code in {concern.code for concern in lesion.concerns}
    assert all(concern.soft for concern in lesion.concerns)


def test_every_reason_says_what_is_wrong_and_what_to_do():
    from services.preprocessor.imaging import header, quality

    reasons = [value for module in (header, quality) for value in vars(module).values() if isinstance(value, Rejection)]
    # Too many pixels is one reason with two limits: formats that cannot be decoded in strips have a lower one.
    assert len({reason.code for reason in reasons}) == 15
    assert len({reason.sentence for reason in reasons}) == len(reasons)
    for reason in reasons:
        assert reason.code == reason.code.lower()
        what, action = reason.sentence.rstrip(".").split(". ")
        assert len(what) > 10
        assert len(action) > 10


def test_sharpness_falls_with_blur_and_not_with_contrast(make_skin, encode):
    def sharpness(pixels):
        return prepare_lesion(encode(pixels), force=True).quality.sharpness

    pixels = make_skin()
    steps = [sharpness(pixels)] + [sharpness(blurred(pixels, deviation)) for deviation in (3, 6, 12, 24)]
    assert steps == sorted(steps, reverse=True)
    assert steps[-1] < steps[0] / 20
    pale = (128 + (pixels.astype(float) - 128) * 0.5).astype(np.uint8)
    assert sharpness(pale) == pytest.approx(steps[0], rel=0.25)


def test_brightness_and_contrast_are_those_of_the_photo(encode):
    halves = np.full((300, 300, 3), 60, np.uint8)
    halves[:, 150:] = 160
    quality = prepare_lesion(encode(halves, "PNG"), force=True).quality
    assert quality.brightness == pytest.approx(110, abs=0.5)
    assert quality.contrast == pytest.approx(50, abs=0.5)
