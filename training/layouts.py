"""The layouts in which the public datasets are published, each read into samples without renaming a file.

A dataset is recognised by the name and the columns of its table. Images may lie in any subfolder beside it, as the
archives unpack them; what a table names and the folder lacks stays a sample, and is reported as unreadable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from training.samples import IMAGE_SUFFIXES, Sample
from training.tables import header as _header
from training.tables import rows as _rows

Row = Mapping[str, str]

# One-hot columns of the ISIC 2018 (AKIEC) and 2019 challenges (AK and SCC).
_ISIC_2019_DIAGNOSES = ("MEL", "NV", "BCC", "AKIEC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")

# ISIC 2019 joins three collections and tells them apart by the beginning of the lesion's id alone.
_ISIC_2019_SOURCES = {"BCN": "bcn_20000", "HAM": "ham10000", "MSK": "msk"}

# ISIC 2019 shipped some images of BCN_20000 smaller than they were, under another name.
_DOWNSAMPLED = "_downsampled"


@dataclass(frozen=True, slots=True)
class _Folder:
    """A dataset's folder and its images by file name without ending."""

    root: Path
    images: Mapping[str, str]

    def file(self, name: str) -> str:
        stem = Path(name).stem if Path(name).suffix.lower() in IMAGE_SUFFIXES else name
        return self.images.get(stem, f"{stem}.jpg")


def read_published(root: Path) -> list[Sample]:
    """Return the samples of every published dataset in ``root`` and in its direct subfolders; files relative to it."""
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    samples: list[Sample] = []
    for folder in folders:
        tables = sorted(path for path in folder.iterdir() if path.is_file())
        found = [(table, read) for table in tables if (read := _reader(table)) is not None]
        if found:
            images = _images(root, folder)
            for table, read in found:
                samples += read(table, _Folder(folder, images))
    return samples


def _reader(table: Path) -> Callable[[Path, _Folder], list[Sample]] | None:
    """The reader for a table, chosen by its columns; ``None`` for any other file."""
    if table.suffix.lower() not in {".csv", ".tab", ""} or table.name.startswith("."):
        return None
    columns = set(_header(table))
    for wanted, read in _READERS:
        if wanted <= columns:
            return read
    return None


def _images(root: Path, folder: Path) -> dict[str, str]:
    return {
        path.stem: str(path.relative_to(root))
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
    }


def _ham10000(table: Path, folder: _Folder) -> list[Sample]:
    """``HAM10000_metadata.csv`` (Tschandl et al. 2018)."""
    return [
        Sample(
            image_id=row["image_id"],
            source="ham10000",
            dx=row["dx"],
            label="",
            file=folder.file(row["image_id"]),
            lesion_id=row["lesion_id"],
            age=row.get("age", ""),
            sex=row.get("sex", ""),
            site=row.get("localization", ""),
        )
        for row in _rows(table)
    ]


def _isic_2019(table: Path, folder: _Folder) -> list[Sample]:
    """``ISIC_2019_Training_GroundTruth.csv`` and its ``…_Metadata.csv``: BCN_20000, HAM10000 and MSK together."""
    about: dict[str, Row] = {}
    for other in sorted(folder.root.glob("*.csv")):
        if {"image", "lesion_id", "age_approx"} <= set(_header(other)):
            about |= {row["image"]: row for row in _rows(other)}
    samples = []
    for row in _rows(table):
        name = row["image"]
        said = about.get(name, {})
        lesion = said.get("lesion_id", "")
        marked = [column for column in _ISIC_2019_DIAGNOSES if float(row.get(column) or 0) > 0]
        samples.append(
            Sample(
                image_id=name.removesuffix(_DOWNSAMPLED),
                source=_ISIC_2019_SOURCES.get(lesion[:3], "isic_2019"),
                # None, or several, is no diagnosis; the vocabulary leaves the image out and says so.
                dx=marked[0] if len(marked) == 1 else "",
                label="",
                file=folder.file(name),
                lesion_id=lesion,
                age=said.get("age_approx", ""),
                sex=said.get("sex", ""),
                site=said.get("anatom_site_general", ""),
            )
        )
    return samples


def _isic_2017(table: Path, folder: _Folder) -> list[Sample]:
    """``ISIC-2017_…_Part3_GroundTruth.csv`` (with the MSK series) and its ``…_Data_metadata.csv``."""
    about: dict[str, Row] = {}
    for other in sorted(folder.root.glob("*.csv")):
        if {"image_id", "age_approximate"} <= set(_header(other)):
            about |= {row["image_id"]: row for row in _rows(other)}
    samples = []
    for row in _rows(table):
        melanoma, keratosis = float(row["melanoma"]), float(row["seborrheic_keratosis"])
        said = about.get(row["image_id"], {})
        samples.append(
            Sample(
                image_id=row["image_id"],
                source="isic2017",
                dx="melanoma" if melanoma else "seborrheic keratosis" if keratosis else "nevus",
                label="",
                file=folder.file(row["image_id"]),
                age=_known(said.get("age_approximate", "")),
                sex=_known(said.get("sex", "")),
            )
        )
    return samples


def _siim_isic_2020(table: Path, folder: _Folder) -> list[Sample]:
    """``train.csv`` or ``ISIC_2020_Training_GroundTruth.csv`` (the second version also names lesions)."""
    return [
        Sample(
            image_id=row["image_name"],
            source="siim_isic2020",
            dx=row["diagnosis"],
            label=row["benign_malignant"],
            file=folder.file(row["image_name"]),
            lesion_id=row.get("lesion_id", ""),
            patient_id=row["patient_id"],
            age=row.get("age_approx", ""),
            sex=row.get("sex", ""),
            site=row.get("anatom_site_general_challenge", ""),
        )
        for row in _rows(table)
    ]


def _pad_ufes_20(table: Path, folder: _Folder) -> list[Sample]:
    """PAD-UFES-20's ``metadata.csv`` (Pacheco et al. 2020): telephone photographs; it spells ``fitspatrick``."""
    return [
        Sample(
            image_id=Path(row["img_id"]).stem,
            source="pad_ufes_20",
            dx=row["diagnostic"],
            label="",
            file=folder.file(row["img_id"]),
            lesion_id=row["lesion_id"],
            patient_id=row["patient_id"],
            age=row.get("age", ""),
            sex=row.get("gender", "").lower(),
            site=row.get("region", "").lower(),
            fitzpatrick=row.get("fitspatrick", "").removesuffix(".0"),
        )
        for row in _rows(table)
    ]


def _known(value: str) -> str:
    return "" if value.lower() == "unknown" else value


_READERS: tuple[tuple[set[str], Callable[[Path, _Folder], list[Sample]]], ...] = (
    ({"lesion_id", "image_id", "dx", "dx_type"}, _ham10000),
    ({"image", "MEL", "NV", "BCC"}, _isic_2019),
    ({"image_id", "melanoma", "seborrheic_keratosis"}, _isic_2017),
    ({"image_name", "patient_id", "diagnosis", "benign_malignant"}, _siim_isic_2020),
    ({"img_id", "patient_id", "lesion_id", "diagnostic"}, _pad_ufes_20),
)
