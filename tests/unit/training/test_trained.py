"""A student is taught by networks that are trained before it."""

import pytest

from training.recipe import Recipe
from training.trained import NotTrainedError, refuse_untrained, refuse_without_teachers

TEACHER, STUDENT = Recipe("mobilenet"), Recipe("nasnetmobile", teachers=("mobilenet",))


def trained(runs, name):
    (runs / name).mkdir()
    for file in ("weights.npz", "recipe.json"):
        (runs / name / file).touch()


def test_a_teacher_is_trained_before_or_already(tmp_path):
    refuse_without_teachers([TEACHER, STUDENT], tmp_path)
    for recipes in ([STUDENT], [STUDENT, TEACHER]):
        with pytest.raises(NotTrainedError, match="no finished training of mobilenet"):
            refuse_without_teachers(recipes, tmp_path)
    trained(tmp_path, "mobilenet")
    refuse_without_teachers([STUDENT], tmp_path)


def test_a_student_that_is_trained_needs_its_teacher_no_more(tmp_path):
    trained(tmp_path, "nasnetmobile")
    refuse_without_teachers([STUDENT], tmp_path)


def test_a_training_that_was_interrupted_is_not_finished(tmp_path):
    trained(tmp_path, "mobilenet")
    (tmp_path / "mobilenet" / "weights.npz").rename(tmp_path / "mobilenet" / "checkpoint.npz")
    with pytest.raises(NotTrainedError, match="no finished training of mobilenet, densenet121"):
        refuse_untrained(tmp_path, ["mobilenet", "densenet121"])
