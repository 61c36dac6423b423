"""The public datasets in the layouts in which they are published."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.corpus import open_corpus
from training.datasets import NoImagesError, open_folder
from training.samples import Sample
from training.tables import TableNotReadError


def written(folder: Path, name: str, text: str, *images: str) -> Path:
    """A dataset's folder with its table and its images, as its archives unpack them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    for image in images:
        path = folder / image
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = sum(path.stem.encode())
        noise = np.random.default_rng(seed).integers(40, 220, (7, 7, 3), dtype=np.uint8)
        cv2.imwrite(str(path), cv2.resize(noise, (120, 100), interpolation=cv2.INTER_CUBIC))
    return folder


def ham10000(root: Path) -> Path:
    return written(
        root,
        "HAM10000_metadata.csv",
        "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
        "HAM_0000118,ISIC_0027419,bkl,histo,80.0,male,scalp\n"
        "HAM_0000118,ISIC_0025030,bkl,histo,80.0,male,scalp\n",
        "HAM10000_images_part_1/ISIC_0027419.jpg",
        "HAM10000_images_part_2/ISIC_0025030.jpg",
    )


def isic_2019(root: Path) -> Path:
    written(
        root,
        "ISIC_2019_Training_Metadata.csv",
        "image,age_approx,anatom_site_general,lesion_id,sex\n"
        "ISIC_0053453,55.0,upper extremity,BCN_0000047,female\n"
        "ISIC_0000013_downsampled,30.0,posterior torso,MSK4_0011169,female\n"
        "ISIC_0027419,80.0,head/neck,HAM_0000118,male\n"
        "ISIC_0073240,,,,\n",
    )
    return written(
        root,
        "ISIC_2019_Training_GroundTruth.csv",
        "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\n"
        "ISIC_0053453,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0\n"
        "ISIC_0000013_downsampled,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\n"
        "ISIC_0027419,0.0,0.0,0.0,0.0,1.0,0.0,0.0,0.0,0.0\n"
        "ISIC_0073240,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0\n",
        *(
            f"ISIC_2019_Training_Input/{name}.jpg"
            for name in ("ISIC_0053453", "ISIC_0000013_downsampled", "ISIC_0027419", "ISIC_0073240")
        ),
    )


def only(root: Path, image_id: str) -> Sample:
    (found,) = [sample for sample in open_folder(root).samples if sample.image_id == image_id]
    return found


def test_ham10000(tmp_path: Path) -> None:
    sample = only(ham10000(tmp_path), "ISIC_0025030")
    assert sample == Sample(
        image_id="ISIC_0025030",
        source="ham10000",
        dx="bkl",
        label="",
        file="HAM10000_images_part_2/ISIC_0025030.jpg",
        lesion_id="HAM_0000118",
        age="80.0",
        sex="male",
        site="scalp",
    )


def test_bcn_20000_comes_with_isic_2019_and_is_told_apart_by_its_lesion_ids(tmp_path: Path) -> None:
    folder = isic_2019(tmp_path)
    sources = {sample.image_id: (sample.source, sample.term.diagnosis) for sample in open_folder(folder).samples}
    assert sources == {
        "ISIC_0053453": ("bcn_20000", "akiec"),
        "ISIC_0000013": ("msk", "nv"),
        "ISIC_0027419": ("ham10000", "bkl"),
        "ISIC_0073240": ("isic_2019", None),
    }
    carcinoma = only(folder, "ISIC_0053453")
    assert (carcinoma.lesion_id, carcinoma.age, carcinoma.sex) == ("BCN_0000047", "55.0", "female")
    assert only(folder, "ISIC_0000013").file == "ISIC_2019_Training_Input/ISIC_0000013_downsampled.jpg"


def test_isic_2018_has_the_columns_of_isic_2019_but_one(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        "ISIC2018_Task3_Training_GroundTruth.csv",
        "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n"
        "ISIC_0024306,0.0,1.0,0.0,0.0,0.0,0.0,0.0\n"
        "ISIC_0024329,0.0,0.0,0.0,1.0,0.0,0.0,0.0\n",
    )
    assert [sample.term.diagnosis for sample in open_folder(folder).samples] == ["nv", "akiec"]


@pytest.mark.parametrize("inside", [".", "ISIC2018"])
def test_isic_2018_as_its_archives_unpack_side_by_side_with_the_lesions_in_a_table_of_their_own(
    tmp_path: Path, inside: str
) -> None:
    place = tmp_path / inside
    written(
        place,
        "ISIC2018_Task3_Training_LesionGroupings.csv",
        "image,lesion_id,diagnosis_confirm_type\n"
        "ISIC_0024306,HAM_0000550,serial imaging showing no change\n"
        "ISIC_0024329,HAM_0002954,histopathology\n",
        "ISIC2018_Task3_Training_Input/ISIC_0024306.jpg",
        "ISIC2018_Task3_Training_Input/ISIC_0024329.jpg",
    )
    written(
        place / "ISIC2018_Task3_Training_GroundTruth",
        "ISIC2018_Task3_Training_GroundTruth.csv",
        "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n"
        "ISIC_0024306,0.0,1.0,0.0,0.0,0.0,0.0,0.0\n"
        "ISIC_0024329,0.0,0.0,0.0,1.0,0.0,0.0,0.0\n",
    )
    # A dataset beside it keeps its images to itself.
    written(
        place / "PAD-UFES-20",
        "metadata.csv",
        "patient_id,lesion_id,smoke,age,gender,fitspatrick,region,diagnostic,img_id,biopsed\n"
        "PAT_1,2,,8,,,ARM,NEV,ISIC_0024306.png,False\n",
        "ISIC_0024306.png",
    )
    samples = [sample for sample in open_folder(tmp_path).samples if sample.source != "pad_ufes_20"]
    assert [(s.image_id, s.source, s.lesion_id, s.term.diagnosis) for s in samples] == [
        ("ISIC_0024306", "ham10000", "HAM_0000550", "nv"),
        ("ISIC_0024329", "ham10000", "HAM_0002954", "akiec"),
    ]
    assert all((tmp_path / sample.file).name == f"{sample.image_id}.jpg" for sample in samples)
    assert all((tmp_path / sample.file).is_file() for sample in samples)


def test_what_is_known_of_no_lesion_or_patient_is_told(tmp_path: Path) -> None:
    ham10000(tmp_path / "data" / "HAM10000")
    written(
        tmp_path / "data" / "ISIC_2018",
        "ISIC2018_Task3_Validation_GroundTruth.csv",
        "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n"
        "ISIC_0034321,0.0,1.0,0.0,0.0,0.0,0.0,0.0\n"
        "ISIC_0034322,0.0,0.0,0.0,1.0,0.0,0.0,0.0\n",
        "ISIC_0034321.jpg",
        "ISIC_0034322.jpg",
    )
    corpus = open_corpus(tmp_path / "data", tmp_path / "cache")
    assert corpus.report["of_no_known_lesion_or_patient"] == {"isic_2019": 2}


@pytest.mark.parametrize("parted_by", [",", ";", "\t"])
def test_a_table_saved_by_excel_is_read_as_any_other(tmp_path: Path, parted_by: str) -> None:
    table = "image_id,source,dx,file,site\na,mine,nevus,a.jpg,back\n".replace(",", parted_by)
    (tmp_path / "metadata.csv").write_text(table, encoding="utf-8-sig")
    assert open_folder(tmp_path).samples == (Sample("a", "mine", "nevus", "", "a.jpg", site="back"),)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("image_id,dx\na,nevus\n", "lacks the columns source, file"),
        ("image_id;source;dx;path\na;mine;nevus;a.jpg\n", "lacks the columns file"),
        ("image_id,source,dx,file\n", "has no row"),
        ("", "is empty, or no text in UTF-8"),
        ("image_id,source,dx,file,site\na,mine,nevus,a.jpg,R\xfccken\n", "no text in UTF-8"),
    ],
)
def test_a_table_of_one_s_own_that_says_too_little_is_not_passed_over(tmp_path: Path, table: str, problem: str) -> None:
    written(tmp_path, "notes.txt", "", "nevus/a.jpg")
    (tmp_path / "metadata.csv").write_text(table, encoding="latin-1")
    with pytest.raises(TableNotReadError, match=problem):
        open_folder(tmp_path)


def test_a_published_dataset_in_a_subfolder_does_not_hide_that_one_s_own_table_is_not_read(tmp_path: Path) -> None:
    ham10000(tmp_path / "HAM10000")
    (tmp_path / "metadata.csv").write_text("image_id,dx\na,nevus\n", encoding="utf-8")
    with pytest.raises(TableNotReadError, match="lacks the columns source, file"):
        open_folder(tmp_path)


def test_isic_2017_with_the_msk_series(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        "ISIC-2017_Training_Part3_GroundTruth.csv",
        "image_id,melanoma,seborrheic_keratosis\nISIC_0000000,0.0,0.0\nISIC_0000002,1.0,0.0\nISIC_0007038,0.0,1.0\n",
    )
    written(
        tmp_path,
        "ISIC-2017_Training_Data_metadata.csv",
        "image_id,age_approximate,sex\nISIC_0000000,55,female\nISIC_0000002,unknown,unknown\n",
    )
    assert [(s.image_id, s.term.diagnosis, s.age, s.sex) for s in open_folder(folder).samples] == [
        ("ISIC_0000000", "nv", "55", "female"),
        ("ISIC_0000002", "mel", "", ""),
        ("ISIC_0007038", "bkl", "", ""),
    ]


def test_siim_isic_2020(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        "train.csv",
        "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target\n"
        "ISIC_2637011,IP_7279968,male,45.0,head/neck,unknown,benign,0\n"
        "ISIC_0149568,IP_0962375,female,55.0,upper extremity,melanoma,malignant,1\n",
        "train/ISIC_2637011.jpg",
    )
    unknown, melanoma = open_folder(folder).samples
    assert (unknown.patient_id, unknown.file) == ("IP_7279968", "train/ISIC_2637011.jpg")
    assert unknown.term.allowed == (0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0)
    assert melanoma.term.diagnosis == "mel"


def test_pad_ufes_20_with_skin_types(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        "metadata.csv",
        "patient_id,lesion_id,smoke,age,gender,fitspatrick,region,diagnostic,img_id,biopsed\n"
        "PAT_1516,1765,,8,,,ARM,NEV,PAT_1516_1765_530.png,False\n"
        "PAT_46,881,False,55,FEMALE,3.0,NECK,BCC,PAT_46_881_939.png,True\n",
        "images/imgs_part_1/PAT_46_881_939.png",
    )
    naevus, carcinoma = open_folder(folder).samples
    assert (naevus.term.diagnosis, naevus.sex, naevus.fitzpatrick) == ("nv", "", "")
    assert carcinoma.term.diagnosis == "bcc"
    assert (carcinoma.patient_id, carcinoma.sex, carcinoma.fitzpatrick) == ("PAT_46", "female", "3")
    assert carcinoma.file == "images/imgs_part_1/PAT_46_881_939.png"


def test_several_datasets_side_by_side_share_their_lesions_and_lose_their_copies(tmp_path: Path) -> None:
    ham10000(tmp_path / "data" / "HAM10000")
    isic_2019(tmp_path / "data" / "ISIC_2019")
    (tmp_path / "data" / "ISIC_2019" / "ISIC_2019_Training_Input" / "ISIC_0053453.jpg").unlink()

    corpus = open_corpus(tmp_path / "data", tmp_path / "cache")

    kept = [sample.image_id for sample, side in zip(corpus.samples, corpus.sides, strict=True) if side >= 0]
    assert sorted(kept) == ["ISIC_0000013", "ISIC_0025030", "ISIC_0027419"]
    assert {(d["source"], d["reason"]) for d in corpus.report["dropped"]} == {
        ("ham10000", "copy of another image"),
        ("bcn_20000", "the file cannot be read as an image"),
        ("isic_2019", "the ground truth says that the diagnosis is none of the known ones"),
    }
    lesion = {corpus.groups[i] for i, s in enumerate(corpus.samples) if s.lesion_id == "HAM_0000118"}
    assert len(lesion) == 1


def test_a_folder_without_anything_known_says_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(NoImagesError, match=r"no table of a published dataset"):
        open_folder(tmp_path)
