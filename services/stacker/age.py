"""What a person's age adds to the stack's answer: the same picture is likelier malignant on somebody older.

One more logistic regression, on the stack's own logit and the age, for when that is known. It is fitted by
`training/age.py` and stands in `stack.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.analysis.results import OLDEST_YEARS, YOUNGEST_YEARS

Floats = NDArray[np.float64]

#: Ages are counted from here, about the mean of dermatology's published collections.
MIDDLE_AGE_YEARS = 50


@dataclass(frozen=True, slots=True)
class AgeEffect:
    """What becomes of a logit: `scale` × logit + `intercept` + `of_age`. Itself, where no age counts."""

    scale: float = 1.0
    intercept: float = 0.0
    #: The part that depends on the age; None: it does not count.
    of_age: float | None = None

    def logit(self, of_picture: float) -> float:
        """The malignant logit with the age."""
        return self.scale * of_picture + self.intercept + (self.of_age or 0.0)


class AgeRegression(BaseModel):
    """`scale` × logit + `per_decade` × (age − 50) / 10 + `intercept`.

    Of people younger than `from_years` and older than `to_years` there were too few to learn from. The older count as
    of `to_years`. The age of the younger does not count at all: it would lower an answer that nothing is known about.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    scale: Annotated[float, Field(gt=0)]
    per_decade: float
    intercept: float
    from_years: Annotated[int, Field(ge=YOUNGEST_YEARS, le=OLDEST_YEARS)]
    to_years: Annotated[int, Field(ge=YOUNGEST_YEARS, le=OLDEST_YEARS)]

    @model_validator(mode="after")
    def _ordered(self) -> AgeRegression:
        if self.from_years > self.to_years:
            raise ValueError("from_years is above to_years")
        return self

    def effect(self, age_years: int) -> AgeEffect:
        """What it means that a person is so old."""
        if age_years < self.from_years:
            return AgeEffect()
        return AgeEffect(self.scale, self.intercept, float(self._of_age(np.float64(age_years))))

    def logits(self, of_pictures: Floats, age_years: Floats) -> Floats:
        """The malignant logits `[n]` of people so old `[n]`; where an age is NaN or does not count, as they are."""
        counts = age_years >= self.from_years
        with_age = (
            self.scale * of_pictures + self.intercept + self._of_age(np.where(counts, age_years, self.from_years))
        )
        return np.where(counts, with_age, of_pictures)

    def _of_age(self, age_years: Any) -> Any:
        return self.per_decade * (np.minimum(age_years, self.to_years) - MIDDLE_AGE_YEARS) / 10
