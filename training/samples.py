"""One labelled image, as its source describes it."""

from __future__ import annotations

from dataclasses import dataclass

from training.vocabulary import Term, interpret

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".heic"})


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and what its source says about it; unknown fields are empty."""

    image_id: str
    source: str
    dx: str
    label: str
    file: str
    lesion_id: str = ""
    patient_id: str = ""
    age: str = ""
    sex: str = ""
    site: str = ""
    fitzpatrick: str = ""

    @property
    def term(self) -> Term:
        """What the label means, see :func:`training.vocabulary.interpret`."""
        return interpret(self.dx, self.label)
