"""The evaluation as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.evaluation import AGE_GROUPS, DARK_SKIN, SKIN_NOT_RECORDED

# What the original LesionLens project reports, in per cent, on its own images.
_ORIGINAL = {"accuracy": 87.4, "precision": 86.7, "recall": 87.4, "f1": 86.6, "auc": 76.1}


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _auc(measures: Mapping[str, Any]) -> str:
    return f"{measures['auc']:.3f} ({measures['auc_low']:.3f}–{measures['auc_high']:.3f})"


def _was_kept_apart(measured: Mapping[str, Any]) -> bool:
    return bool(measured["same_split"]) and measured["side"] == "test"


def _what_was_seen(measured: Mapping[str, Any]) -> str:
    if not measured["same_split"]:
        return (
            "Whether lesions, patients or copies of it were seen in training is not known: the networks or their stack"
            " are of another split of the images, or of one that was not recorded."
        )
    alone = measured.get("data", {}).get("of_no_known_lesion_or_patient", {})
    of_each = ", ".join(f"{source} {images}" for source, images in alone.items())
    unless = (
        f" Of {sum(alone.values())} images of all sides ({of_each}) neither lesion nor patient is known: other"
        " photographs of the same lesion may have been."
    )
    where = (
        "training, but the stack was fitted to it"
        if measured["side"] == "validation"
        else "training or in fitting the stack"
    )
    return f"No lesion, patient or set of copies of it was seen in {where}.{unless if alone else ''}"


def _was_measured(part: Mapping[str, Any]) -> bool:
    """Whether a group has more than its number of images: it had enough of both kinds."""
    return "auc" in part


def _what_is_known_of_dark_skin(measured: Mapping[str, Any]) -> str:
    people, images = measured["by_person"], measured["stack"]["images"]
    nobody: dict[str, Any] = {"images": 0}
    dark, unknown = people.get(DARK_SKIN, nobody), people.get(SKIN_NOT_RECORDED, nobody)["images"]
    known = f"Skin type is known for {images - unknown} of the {images} images, {DARK_SKIN} for {dark['images']}"
    well = "has a row above" if _was_measured(dark) else "is not known"
    return (
        f"{known}: how well the networks do on dark skin {well}, and other networks trained on the same sources do"
        " worse there (Daneshjou et al. 2022)."
    )


def markdown(measured: Mapping[str, Any]) -> str:
    """Return the page for what :func:`training.pipeline.measure_release` measured."""
    stack = measured["stack"]
    turns = ", ".join(f"{name} {count}" for name, count in measured["turns"].items())
    lines = [
        "# Evaluation",
        "",
        (
            f"The `{measured['side']}` side of the inner split: {stack['images']} images, {stack['malignant']} of them"
            f" malignant. {_what_was_seen(measured)}"
            " Intervals are 95 % (DeLong, with the images of one lesion or patient taken together: Obuchowski 1997)."
            f" Turns averaged in every answer: {turns}."
        ),
        "",
        "| | accuracy % | precision % | recall % | F1 % | AUC % |",
        "|---|---|---|---|---|---|",
        "| this ensemble | " + " | ".join(_percent(stack[k]) for k in _ORIGINAL) + " |",
        "| original project, its own images | " + " | ".join(f"{v:.1f}" for v in _ORIGINAL.values()) + " |",
        "",
        "Precision, recall and F1 are weighted over both sides, at a probability of 0.5.",
        "",
        "| who answers | AUC |",
        "|---|---|",
        f"| stack | {_auc(stack)} |",
        f"| mean of the logits | {_auc(measured['mean_of_logits'])} |",
        *(f"| {name} alone | {_auc(value)} |" for name, value in measured["alone"].items()),
        "",
        "| whose | images | malignant | AUC | accuracy % | specificity at 90 / 95 % sensitivity | ECE |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, part in [("all", stack), *measured["by_source"].items(), *measured["by_person"].items()]:
        if not _was_measured(part):
            lines.append(f"| {name} | {part['images']} | {part['malignant']} | too few to measure | | | |")
            continue
        lines.append(
            f"| {name} | {part['images']} | {part['malignant']} | {_auc(part)} | {_percent(part['accuracy'])} |"
            f" {_percent(part['specificity_at_90'])} / {_percent(part['specificity_at_95'])} | {part['ece']:.3f} |"
        )
    classes = measured["classes"]
    lines += [
        "",
        (
            f"Seven diagnoses, {classes['images']} images: accuracy {_percent(classes['accuracy'])} %, balanced"
            f" accuracy {_percent(classes['balanced_accuracy'])} %."
        ),
        "",
        *_bands(measured["bands"]),
    ]
    turning = measured["turning"]
    lines += [
        "",
        (
            f"Turning and mirroring ({turning['images']} photographs, all eight turns, before any correction):"
            f" decisions at 0.5 that flip {_percent(turning['flips_at_half'])} %,"
            f" at the high band {_percent(turning['flips_at_high_band'])} %;"
            f" with one look {_percent(turning['flips_at_half_one_look'])} %"
            f" ({_percent(turning['flips_at_half_one_look_as_it_lies'])} % were a picture looked at the way it lies)."
            f" AUC {turning['auc_1']:.3f} with one look, {turning['auc_4']:.3f} with four turns averaged,"
            f" {turning['auc_8']:.3f} with eight."
        ),
    ]
    brightness, retaken, framed, drawn = (
        measured[how] for how in ("brightness", "another_camera", "dermatoscope", "surroundings")
    )
    lines += [
        "",
        (
            f"Brightness ({brightness['images']} photographs, 10 % darker and 10 % brighter before any correction):"
            f" decisions at 0.5 that flip {_percent(brightness['flips_at_half'])} %."
        ),
        "",
        (
            f"Another camera ({retaken['images']} photographs, framed up to 15 % closer, each colour up to 10 % lighter"
            " or darker, sharper, and compressed once more, before any correction):"
            f" AUC {retaken['auc']:.3f} instead of {retaken['auc_before']:.3f},"
            f" decisions at 0.5 that flip {_percent(retaken['flips_at_half'])} %."
        ),
        "",
        (
            f"Through a dermatoscope ({framed['images']} photographs, on each a disc 0.7 to 1.2 sides wide with black"
            " around it and up to 60 % less light at its rim, before any correction):"
            f" AUC {framed['auc']:.3f} instead of {framed['auc_before']:.3f},"
            f" decisions at 0.5 that flip {_percent(framed['flips_at_half'])} %."
        ),
        "",
        (
            f"With something drawn on or around the lesion ({drawn['images']} photographs: a surgeon's pen, bubbles, a"
            " ruler, a sticker, a white frame, or half to 85 % of the size, before any correction):"
            f" AUC {drawn['auc']:.3f} instead of {drawn['auc_before']:.3f},"
            f" decisions at 0.5 that flip {_percent(drawn['flips_at_half'])} %."
        ),
        "",
        "| probability answered, mean % | images | malignant among them % |",
        "|---|---|---|",
        *(
            f"| {_percent(row['probability'])} | {row['images']} | {_percent(row['malignant'])} |"
            for row in measured["reliability"]
        ),
        "",
        "![How often a probability comes true](images/reliability.svg)",
        "![ROC curve of the stack and of each network alone](images/roc.svg)",
        "",
        _what_is_known_of_dark_skin(measured),
    ]
    if "refused_as_strange" in measured:
        lines += [
            "",
            (
                f"Refused as not a lesion: {_percent(measured['refused_as_strange'])} % of these images,"
                f" {_percent(retaken['refused_as_strange'])} % of another camera's."
            ),
        ]
    if "with_age" in measured:
        lines += ["", *_with_age(measured["with_age"], stack["images"])]
    return "\n".join(lines) + "\n"


def _bands(bands: Mapping[str, Any]) -> list[str]:
    return [
        "| band | share of images % | malignant among them % | share of all malignant % |",
        "|---|---|---|---|",
        *(
            f"| {name} | {_percent(band['share'])} | {_percent(band['malignant_in_it'])} |"
            f" {_percent(band['share_of_the_malignant'])} |"
            for name, band in bands.items()
        ),
    ]


def _with_age(part: Mapping[str, Any], images: int) -> list[str]:
    """Return the section on the answers with the age, of so many ``images`` on the side."""
    told, untold = part["with"], part["without"]
    gain = "{auc:+.3f} ({auc_low:+.3f} to {auc_high:+.3f})".format(**part["auc_gain"])
    lines = [
        "## With the age of the person",
        "",
        (
            f"The age is known for {part['images']} of the {images} images, {told['malignant']} of them malignant. On"
            f" these the AUC is {_auc(told)} with the age and {_auc(untold)} without it, a difference of {gain};"
            f" accuracy {_percent(told['accuracy'])} % with it,"
            f" {_percent(untold['accuracy'])} % without; ECE {told['ece']:.3f} and {untold['ece']:.3f}. The seven"
            " diagnoses are the photograph's alone."
        ),
        "",
        (
            "| age | images | malignant | AUC without / with | mean probability % without / with | malignant % |"
            " malignant answered as low % without / with |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for name, group in part["by_age"].items():
        counted = f"| {name} | {group['images']} | {group['malignant']} |"
        if "with" not in group:
            lines.append(f"{counted} too few to measure | | | |")
            continue
        without, with_it = group["without"], group["with"]
        lines.append(
            f"{counted} {without['auc']:.3f} / {with_it['auc']:.3f} |"
            f" {_percent(without['probability'])} / {_percent(with_it['probability'])} |"
            f" {_percent(group['malignant_share'])} |"
            f" {_percent(without['malignant_low'])} / {_percent(with_it['malignant_low'])} |"
        )
    return [*lines, "", "The bands with the age:", "", *_bands(part["bands"])]


def summary(measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the main numbers of :func:`training.measuring.measure`, rounded, for ``stack.json``."""
    stack = measured["stack"]
    # The pages call these photographs ones that the networks had not seen before.
    unseen = {key: stack[key] for key in ("images", "malignant")} if _was_kept_apart(measured) else {}
    by_source = {name: part for name, part in measured["by_source"].items() if _was_measured(part)}
    kept = ("auc", "auc_low", "auc_high", "accuracy", "precision", "recall", "f1", "ece")
    with_age = {"with_age": _summary_with_age(measured["with_age"])} if "with_age" in measured else {}
    return {
        "measured_on": f"{measured['side']} side of the inner split, {stack['images']} images",
        **{name: round(stack[name], 4) for name in kept},
        "balanced_accuracy_of_classes": round(measured["classes"]["balanced_accuracy"], 4),
        **unseen,
        "bands": _rounded(measured["bands"]),
        "by_source": {
            name: {"images": part["images"], **{key: round(part[key], 4) for key in ("auc", "auc_low", "auc_high")}}
            for name, part in by_source.items()
        },
        "auc_by_source": {name: round(part["auc"], 4) for name, part in by_source.items()},
        "auc_alone": {name: round(value["auc"], 4) for name, value in measured["alone"].items()},
        **with_age,
    }


def _summary_with_age(part: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "images": part["images"],
        **{name: round(part["with"][name], 4) for name in ("auc", "auc_low", "auc_high", "accuracy", "ece")},
        "auc_without": round(part["without"]["auc"], 4),
        "bands": _rounded(part["bands"]),
        "malignant_low_by_age": [
            {"from_years": int(AGE_GROUPS[name][0]), "share": round(group["with"]["malignant_low"], 4)}
            for name, group in part["by_age"].items()
            if "with" in group
        ],
    }


def _rounded(bands: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {share: round(value, 4) for share, value in band.items()} for name, band in bands.items()}
