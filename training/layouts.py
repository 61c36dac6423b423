"""The layouts in which the public datasets are published, each read into samples without renaming a file.

A dataset is recognised by the columns of its table. Images may lie in any subfolder beside it, or in folders beside the
table's own, as the archives unpack them; what a table names and is not there stays a sample, and is reported as
unreadable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
class _Dataset:
    """A dataset's images by file name without ending, and the tables that may say more about them."""

    images: Mapping[str, str]
    tables: Sequence[Path]

    def file(self, name: str) -> str:
        stem = Path(name).stem if Path(name).suffix.lower() in IMAGE_SUFFIXES else name
        return self.images.get(stem, f"{stem}.jpg")

    def about(self, key: str, column: str) -> dict[str, Row]:
        """What the tables that have both columns say of each image, which ``key`` names; together, if several do."""
        said: dict[str, dict[str, str]] = {}
        for table in self.tables:
            if {key, column} <= set(_header(table)):
                for row in _rows(table):
                    said.setdefault(row[key], {}).update((name, value) for name, value in row.items() if value)
        return dict(said)


def read_published(root: Path) -> list[Sample]:
    """Return the samples of every published dataset in ``root`` and in folders in it; files relative to it."""
    found = {folder: _known_tables(folder) for folder in _subfolders(root)}
    return _read(root, root, _known_tables(root), _without_tables(found)) + _read_inside(root, found)


def _read_inside(root: Path, found: Mapping[Path, Sequence[Path]]) -> list[Sample]:
    samples: list[Sample] = []
    for folder, tables in found.items():
        if tables:
            samples += _read(root, folder, tables, _without_tables(found))
        elif folder.parent == root:
            # Archives that were unpacked side by side, all of them in a folder of the dataset's own.
            samples += _read_inside(root, {inside: _known_tables(inside) for inside in _subfolders(folder)})
    return samples


def _read(root: Path, folder: Path, tables: Sequence[Path], beside: Sequence[Path]) -> list[Sample]:
    """Read a folder's tables; ``beside`` are folders without one, whose images are this one's if it has none itself."""
    if not tables:
        return []
    around = [*beside, *([] if folder == root else [folder.parent]), folder]
    dataset = _Dataset(
        images=_images(root, [folder]) or _images(root, beside),
        tables=[table for place in around for table in sorted(place.glob("*.csv"))],
    )
    return [sample for table in tables if (read := _reader(table)) for sample in read(table, dataset)]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _known_tables(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file() and _reader(path) is not None]


def _without_tables(found: Mapping[Path, Sequence[Path]]) -> list[Path]:
    return [folder for folder, tables in found.items() if not tables]


def is_published(table: Path) -> bool:
    """Return whether a file is the table of a published dataset, by its columns."""
    return _reader(table) is not None


def _reader(table: Path) -> Callable[[Path, _Dataset], list[Sample]] | None:
    """The reader for a table, chosen by its columns; ``None`` for any other file."""
    if table.suffix.lower() not in {".csv", ".tab", ""} or table.name.startswith("."):
        return None
    columns = set(_header(table))
    for wanted, read in _READERS:
        if wanted <= columns:
            return read
    return None


def _images(root: Path, folders: Sequence[Path]) -> dict[str, str]:
    return {
        path.stem: str(path.relative_to(root))
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
    }


def _ham10000(table: Path, dataset: _Dataset) -> list[Sample]:
    """``HAM10000_metadata.csv`` (Tschandl et al. 2018)."""
    return [
        Sample(
            image_id=row["image_id"],
            source="ham10000",
            dx=row["dx"],
            label="",
            file=dataset.file(row["image_id"]),
            lesion_id=row["lesion_id"],
            age=row.get("age", ""),
            sex=row.get("sex", ""),
            site=row.get("localization", ""),
        )
        for row in _rows(table)
    ]


def _isic_2019(table: Path, dataset: _Dataset) -> list[Sample]:
    """``ISIC_2019_Training_GroundTruth.csv`` and its ``…_Metadata.csv``: BCN_20000, HAM10000 and MSK together.

    ISIC 2018 has the same columns but one; its lesions are in ``ISIC2018_Task3_Training_LesionGroupings.csv``.
    """
    about = dataset.about("image", "lesion_id")
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
                file=dataset.file(name),
                lesion_id=lesion,
                age=said.get("age_approx", ""),
                sex=said.get("sex", ""),
                site=said.get("anatom_site_general", ""),
            )
        )
    return samples


def _isic_2017(table: Path, dataset: _Dataset) -> list[Sample]:
    """``ISIC-2017_…_Part3_GroundTruth.csv`` (with the MSK series) and its ``…_Data_metadata.csv``."""
    about = dataset.about("image_id", "age_approximate")
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
                file=dataset.file(row["image_id"]),
                age=_known(said.get("age_approximate", "")),
                sex=_known(said.get("sex", "")),
            )
        )
    return samples


def _siim_isic_2020(table: Path, dataset: _Dataset) -> list[Sample]:
    """``train.csv`` or ``ISIC_2020_Training_GroundTruth.csv`` (the second version also names lesions)."""
    return [
        Sample(
            image_id=row["image_name"],
            source="siim_isic2020",
            dx=row["diagnosis"],
            label=row["benign_malignant"],
            file=dataset.file(row["image_name"]),
            lesion_id=row.get("lesion_id", ""),
            patient_id=row["patient_id"],
            age=row.get("age_approx", ""),
            sex=row.get("sex", ""),
            site=row.get("anatom_site_general_challenge", ""),
        )
        for row in _rows(table)
    ]


def _pad_ufes_20(table: Path, dataset: _Dataset) -> list[Sample]:
    """PAD-UFES-20's ``metadata.csv`` (Pacheco et al. 2020): telephone photographs; it spells ``fitspatrick``."""
    return [
        Sample(
            image_id=Path(row["img_id"]).stem,
            source="pad_ufes_20",
            dx=row["diagnostic"],
            label="",
            file=dataset.file(row["img_id"]),
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


_READERS: tuple[tuple[set[str], Callable[[Path, _Dataset], list[Sample]]], ...] = (
    ({"lesion_id", "image_id", "dx", "dx_type"}, _ham10000),
    ({"image", "MEL", "NV", "BCC"}, _isic_2019),
    ({"image_id", "melanoma", "seborrheic_keratosis"}, _isic_2017),
    ({"image_name", "patient_id", "diagnosis", "benign_malignant"}, _siim_isic_2020),
    ({"img_id", "patient_id", "lesion_id", "diagnostic"}, _pad_ufes_20),
)
