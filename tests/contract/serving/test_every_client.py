"""What any client of TensorFlow Serving may count on, asked by three that share no code."""

import numpy as np
import pytest

SHAPES = {"logit": (2,), "class_logits": (2, 7), "attention": (2, 7, 7), "embedding": (2, 1536)}


def test_predict_answers_with_every_output_in_its_shape(caller, images):
    outputs = caller.predict(images)
    assert {name: array.shape for name, array in outputs.items()} == SHAPES
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in outputs.values())


def test_different_images_get_different_answers_and_each_its_own(caller, images):
    both = caller.predict(images)
    assert both["logit"][0] != both["logit"][1]
    for at in (0, 1):
        alone = caller.predict(images[at : at + 1])
        np.testing.assert_array_equal(alone["class_logits"][0], both["class_logits"][at])


def test_the_malignant_logit_is_that_of_the_classes(caller, images):
    outputs = caller.predict(images)
    malignant, benign = [0, 2, 3], [1, 4, 5, 6]  # mel, bcc, akiec against nv, bkl, df, vasc
    scores = outputs["class_logits"].astype(float)
    expected = np.logaddexp.reduce(scores[:, malignant], 1) - np.logaddexp.reduce(scores[:, benign], 1)
    np.testing.assert_allclose(outputs["logit"], expected, atol=1e-4)


def test_an_explicit_version_answers(caller, images):
    np.testing.assert_array_equal(caller.predict(images, version=1)["logit"], caller.predict(images)["logit"])


def test_status_says_available_for_every_version_or_for_one(caller):
    assert caller.status() == {1: "AVAILABLE", 2: "AVAILABLE"}
    assert caller.status(version=1) == {1: "AVAILABLE"}


def test_metadata_describes_the_input(caller):
    assert caller.inputs() == {"image": [-1, 224, 224, 3]}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "resnet"}, "Servable not found for request: Latest(resnet)"),
        ({"version": 9}, "Servable not found for request: Specific(mobilenet, 9)"),
    ],
)
def test_an_unknown_network_or_version_is_not_found(caller, images, wrong, words, failed):
    failure = failed(lambda: caller.predict(images, **wrong))
    assert failure.code == "NOT_FOUND"
    assert words in failure.text
    assert failed(lambda: caller.inputs(**wrong)).code == "NOT_FOUND"
    assert failed(lambda: caller.status(**wrong)).code == "NOT_FOUND"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda images: {"images": images.astype(np.float32)},
            "image must be uint8 [-1, 224, 224, 3]; this is float [2,",
        ),
        (lambda images: {"images": images[0]}, "this is [224, 224, 3]"),
        (lambda images: {"images": images[:, :200]}, "this is [2, 200, 224, 3]"),
        (lambda images: {"images": np.repeat(images, 33, axis=0)}, "must hold 1 to 64 images; this holds 66"),
        (
            lambda images: {"images": images, "alias": "x"},
            "input tensor alias not found in signature: x. Inputs expected",
        ),
    ],
    ids=["type", "no batch", "height", "too many", "input name"],
)
def test_an_input_that_does_not_fit_is_an_invalid_argument_with_the_reason(caller, images, change, words, failed):
    failure = failed(lambda: caller.predict(**change(images)))
    assert failure.code == "INVALID_ARGUMENT"
    assert words in failure.text
