"""What was kept apart from a training stays apart from it, or the training is refused."""

import pytest

from training.models_folder import write_json
from training.report import _what_was_seen, summary
from training.split_record import UNKNOWN, OtherSplitError, begin, hold_against, published_split, splits_of


def test_a_training_goes_on_with_the_images_it_began_with_and_no_others(tmp_path):
    begin(tmp_path / "mobilenet", "a", None)
    (tmp_path / "mobilenet" / "progress.json").write_text("{}")
    begin(tmp_path / "mobilenet", "a", None)
    with pytest.raises(OtherSplitError, match="mobilenet was trained on other images"):
        begin(tmp_path / "mobilenet", "b", None)
    with pytest.raises(OtherSplitError):
        hold_against(tmp_path / "mobilenet", "b")


def test_a_training_that_never_came_to_a_checkpoint_begins_anew(tmp_path):
    begin(tmp_path / "mobilenet", "a", None)
    begin(tmp_path / "mobilenet", "b", None)
    hold_against(tmp_path / "mobilenet", "b")


def test_a_training_from_before_there_were_records_is_accepted_and_gets_none(tmp_path):
    (tmp_path / "mobilenet").mkdir()
    (tmp_path / "mobilenet" / "progress.json").write_text("{}")
    begin(tmp_path / "mobilenet", "a", None)
    hold_against(tmp_path / "mobilenet", "b")
    assert splits_of(tmp_path / "mobilenet") == {UNKNOWN}


def test_a_training_that_went_on_from_published_networks_has_seen_what_they_had(tmp_path):
    begin(tmp_path / "mobilenet", "a", "before")
    assert splits_of(tmp_path / "mobilenet") == {"a", "before"}


@pytest.mark.parametrize(
    ("content", "split"), [({"split": "a"}, "a"), ({"split": None}, UNKNOWN), ({}, UNKNOWN)], ids=str
)
def test_published_networks_whose_stack_names_no_split_may_have_seen_anything(tmp_path, content, split):
    write_json(tmp_path / "stack.json", content)
    assert published_split(tmp_path) == split


def test_that_nothing_was_seen_is_said_of_the_same_split_alone():
    nothing = "No lesion, patient or set of copies of it was seen in training or in fitting the stack."
    assert _what_was_seen({"same_split": True, "side": "test"}) == nothing
    assert "not known" in _what_was_seen({"same_split": False, "side": "test"})
    assert "the stack was fitted to it" in _what_was_seen({"same_split": True, "side": "validation"})
    data = {"of_no_known_lesion_or_patient": {"isic_2019": 2, "mine": 3}}
    told = _what_was_seen({"same_split": True, "side": "test", "data": data})
    assert told.startswith(
        f"{nothing} Of 5 images of all sides (isic_2019 2, mine 3) neither lesion nor patient is known"
    )


@pytest.mark.parametrize(("same", "side"), [(True, "test"), (False, "test"), (True, "validation")])
def test_the_pages_count_photographs_that_were_not_seen_only_of_the_side_kept_apart(same, side):
    keys = ("auc", "auc_low", "auc_high", "accuracy", "precision", "recall", "f1", "ece")
    parts = {"classes": {"balanced_accuracy": 0.7}, "bands": {}, "by_source": {}, "alone": {}}
    stack = {"images": 9, "malignant": 4, **dict.fromkeys(keys, 0.9)}
    told = summary({"stack": stack, "same_split": same, "side": side, **parts})
    assert ("images" in told) == ("malignant" in told) == (same and side == "test")
