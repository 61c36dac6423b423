"""A network's outputs are an answer only when all of them can be believed."""

import numpy as np
import pytest

from serving.answers import NetworkAnswer, NetworkFailure, read_answer


def outputs(**changes) -> dict[str, np.ndarray]:
    good = {
        "logit": np.zeros(2, np.float32),
        "class_logits": np.zeros((2, 7), np.float32),
        "attention": np.zeros((2, 7, 7), np.float32),
    }
    return {name: array for name, array in (good | changes).items() if array is not None}


def test_complete_outputs_are_an_answer_with_the_version_that_gave_it():
    answer = read_answer("mobilenet", 3, outputs(embedding=np.zeros((2, 1024), np.float32)), 2)
    assert isinstance(answer, NetworkAnswer)
    assert (answer.name, answer.version) == ("mobilenet", 3)
    assert answer.embedding.shape == (2, 1024)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attention": None}, "has no output attention"),
        ({"logit": np.zeros((2, 1), np.float32)}, "gave logit as float32 [2, 1]"),
        ({"logit": np.zeros(1, np.float32)}, "gave logit as float32 [1]"),
        ({"class_logits": np.zeros((2, 7), np.float64)}, "gave class_logits as float64"),
        ({"logit": np.array([0, np.nan], np.float32)}, "gave logit that is not finite"),
        ({"class_logits": np.full((2, 7), np.inf, np.float32)}, "gave class_logits that is not finite"),
        ({"embedding": np.zeros((1, 9), np.float32)}, "gave embedding as [1, 9]"),
    ],
)
def test_anything_else_is_a_failure_that_says_what(changes, words):
    failure = read_answer("mobilenet", 3, outputs(**changes), 2)
    assert isinstance(failure, NetworkFailure)
    assert failure.code == "MALFORMED_ANSWER"
    assert failure.sentence.startswith(f"mobilenet version 3 {words}")
