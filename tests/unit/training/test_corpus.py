"""A data folder from its files to its sides."""

import csv
import io
import os
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest

from services.preprocessor.imaging import normalise
from training import datasets
from training.corpus import open_corpus
from training.datasets import NoImagesError, open_folder, prepare_images
from training.splits import SPLITS


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(40, 220, (7, 7, 3), dtype=np.uint8), (256, 240), interpolation=cv2.INTER_CUBIC)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


@pytest.fixture
def packed(tmp_path):
    """Sixty images of thirty lesions in a zip, a copy under another source, and a contradiction."""
    root = tmp_path / "data"
    root.mkdir()
    rows = []
    members = {"one": {}, "two": {}}
    for i in range(60):
        dx, label = [("nv", "benign"), ("mel", "malignant")][i // 2 % 2]
        members["one"][f"one/{i}.png"] = png(picture(i))
        rows.append([f"i{i}", "one", f"L{i // 2}", "", dx, label, f"one/{i}.png"])
    members["two"]["two/copy.png"] = png(picture(3))
    rows.append(["c", "two", "", "", "melanoma", "malignant", "two/copy.png"])
    members["two"]["two/both.png"] = png(picture(99))
    rows.append(["d", "two", "", "", "melanoma", "unknown", "two/both.png"])
    for source, files in members.items():
        with zipfile.ZipFile(root / f"{source}.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["image_id", "source", "lesion_id", "patient_id", "dx", "label", "file"])
    writer.writerows(rows)
    (root / "metadata.csv").write_text(table.getvalue())
    return root


def test_no_lesion_and_no_copy_stands_on_two_sides(packed, tmp_path):
    corpus = open_corpus(packed, tmp_path / "cache")
    kept = corpus.sides >= 0
    for group in np.unique(corpus.groups[kept]):
        assert len(set(corpus.sides[kept & (corpus.groups == group)])) == 1
    assert all((corpus.sides == i).any() for i in range(len(SPLITS)))


def test_the_report_names_the_copy_and_the_contradiction(packed, tmp_path):
    report = open_corpus(packed, tmp_path / "cache").report
    assert report["images"] == 62
    assert report["kept"] == 60
    reasons = {(d["source"], d["reason"]): d["images"] for d in report["dropped"]}
    assert reasons == {
        ("two", "copy of another image"): 1,
        ("two", "two folders of the source label this image differently"): 1,
    }


def test_squares_are_what_the_service_s_own_normalisation_gives(packed, tmp_path):
    prepared = prepare_images(open_folder(packed), tmp_path / "cache", workers=1)
    assert (prepared.pixels[7] == normalise(picture(7)).tensor).all()


def test_a_second_look_reads_the_cache(packed, tmp_path, monkeypatch):
    first = open_corpus(packed, tmp_path / "cache")
    monkeypatch.delattr(datasets, "_prepared")
    second = open_corpus(packed, tmp_path / "cache")
    assert (first.sides == second.sides).all()
    assert first.images.pixels.filename == second.images.pixels.filename


def test_folders_with_the_same_names_do_not_share_their_squares(tmp_path):
    cache = tmp_path / "cache"
    for seed, clinic in enumerate(("here", "there")):
        folder = tmp_path / clinic / "images" / "nevus"
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes(png(picture(seed)))
    here, there = (open_corpus(tmp_path / clinic / "images", cache) for clinic in ("here", "there"))
    assert (here.images.pixels[0] == normalise(picture(0)).tensor).all()
    assert (there.images.pixels[0] == normalise(picture(1)).tensor).all()

    # Withdrawn from the second folder, a photograph leaves the cache; the first folder's stays.
    (tmp_path / "there" / "images" / "nevus" / "0.png").rename(tmp_path / "there" / "images" / "nevus" / "1.png")
    open_corpus(tmp_path / "there" / "images", cache)
    assert not there.images.pixels.filename.exists()
    assert here.images.pixels.filename.exists()


@pytest.mark.parametrize("packed_up", [False, True], ids=["file", "archive"])
def test_a_photograph_put_in_the_place_of_another_is_prepared(tmp_path, packed_up):
    root, cache = tmp_path / "mine", tmp_path / "cache"
    root.mkdir()
    (root / "metadata.csv").write_text("image_id,source,dx,file\na,clinic,nevus,a.png\n")

    def put(seed):
        if packed_up:
            with zipfile.ZipFile(tmp_path / "new.zip", "w") as archive:
                archive.writestr("a.png", png(picture(seed)))
            (tmp_path / "new.zip").replace(root / "clinic.zip")
        else:
            (root / "a.png").write_bytes(png(picture(seed)))
        # However quickly one follows the other.
        os.utime(root / ("clinic.zip" if packed_up else "a.png"), (seed, seed))
        datasets._archive.cache_clear()

    put(1)
    before = open_corpus(root, cache).images.pixels
    put(2)
    after = open_corpus(root, cache).images.pixels
    assert (after[0] == normalise(picture(2)).tensor).all()
    assert not before.filename.exists()


def test_a_photograph_taken_out_of_a_folder_leaves_the_cache_and_other_folders_stay_in_it(tmp_path):
    cache = tmp_path / "cache"
    for name in ("mine", "yours"):
        for i in range(4):
            folder = tmp_path / name / "nevus"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{i}.png").write_bytes(png(picture(i)))
    (cache / "prepared-interrupted.partial.npy").parent.mkdir()
    (cache / "prepared-interrupted.partial.npy").write_bytes(b"squares")
    (cache / "prepared-interrupted.root").write_text(str((tmp_path / "mine").resolve()))
    (cache / "prepared-unknown.npy").write_bytes(b"from before folders were remembered")
    open_corpus(tmp_path / "yours", cache)
    yours = set(cache.iterdir())
    open_corpus(tmp_path / "mine", cache)
    with_it = set(cache.iterdir()) - yours
    assert not list(cache.glob("prepared-interrupted.*"))

    (tmp_path / "mine" / "nevus" / "2.png").unlink()
    open_corpus(tmp_path / "mine", cache)

    left = set(cache.iterdir())
    assert not left & with_it
    assert left >= {path for path in yours if not path.name.startswith("prepared-interrupted")}
    assert len([path for path in left if path.suffix == ".root"]) == 2


def test_subfolders_named_by_diagnosis_are_a_data_folder_and_a_damaged_file_is_left_out(tmp_path):
    root = tmp_path / "mine"
    for i in range(8):
        folder = root / ("Melanoma" if i % 2 else "nevus")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.png").write_bytes(png(picture(i)))
    (root / "nevus" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    corpus = open_corpus(root, tmp_path / "cache")
    assert corpus.report["kept"] == 8
    assert corpus.report["dropped"][0]["reason"] == "the file cannot be read as an image"
    assert corpus.malignant.sum() == 4


def test_different_pictures_with_one_number_all_stay(tmp_path):
    rows = ["image_id,source,dx,file"]
    for i in range(16):
        clinic = f"clinic_{i % 2}"
        path = tmp_path / "clinics" / clinic / f"{i // 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(picture(i)))
        rows.append(f"{i // 2},{clinic},{'nevus' if i // 2 % 2 else 'melanoma'},{clinic}/{i // 2}.png")
    (tmp_path / "clinics" / "metadata.csv").write_text("\n".join(rows))
    assert open_corpus(tmp_path / "clinics", tmp_path / "cache").report["kept"] == 16

    (tmp_path / "mine" / "nevus").mkdir(parents=True)
    for i, ending in enumerate((".png", ".bmp")):
        (tmp_path / "mine" / "nevus" / f"IMG_0{ending}").write_bytes(cv2.imencode(ending, picture(i))[1].tobytes())
    assert open_corpus(tmp_path / "mine", tmp_path / "cache").report["kept"] == 2


def test_images_none_of_which_can_be_used_are_refused_with_the_reasons(tmp_path):
    for name in ("wart", "nevus"):
        (tmp_path / "mine" / name).mkdir(parents=True)
    (tmp_path / "mine" / "wart" / "0.png").write_bytes(png(picture(0)))
    (tmp_path / "mine" / "nevus" / "1.png").write_bytes(b"nothing")
    with pytest.raises(NoImagesError, match=r"none of the 2 images .* 'wart' is not in the vocabulary; the file"):
        open_corpus(tmp_path / "mine", tmp_path / "cache")


def test_an_empty_folder_is_refused_in_words(tmp_path):
    with pytest.raises(NoImagesError, match=r"metadata\.csv"):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    ("parameter", "reaches_the_pixels"),
    [
        ("field_dark", True), ("falloff_from", True), ("least_light", True), ("gain_max", True),
        ("network_meshes", True), ("mask_blur", False), ("blur_sharpness", False), ("max_pixels", False),
        ("off_centre", False),
    ],
)  # fmt: skip
def test_squares_are_prepared_anew_after_what_reaches_their_pixels_changed(parameter, reaches_the_pixels, monkeypatch):
    before = datasets.imaging_fingerprint()
    monkeypatch.setattr(datasets, "DEFAULT", replace(datasets.DEFAULT, **{parameter: 7}))
    assert (datasets.imaging_fingerprint() != before) is reaches_the_pixels
