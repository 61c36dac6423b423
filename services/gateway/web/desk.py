"""What the pages ask of the gateway. They know no table, queue or blob: only this desk."""

from __future__ import annotations

import uuid
from typing import Protocol

from services.analysis.record import Analysis, Feedback
from services.analysis.settings import Settings


class Desk(Protocol):
    """Takes photographs in and tells what became of them."""

    @property
    def settings(self) -> Settings:
        """The settings of the process."""

    def take(self, image: bytes, *, force: bool, store: bool, age_years: int | None) -> uuid.UUID:
        """Accepts a photograph; the id of its analysis.

        Raises:
            LesionLensError: the bytes are refused, or the service cannot take them now.
        """

    def find(self, analysis_id: uuid.UUID) -> Analysis:
        """The analysis as it stands; AnalysisNotFoundError or AnalysisGoneError when there is none."""

    def waiting_ahead(self, analysis: Analysis) -> int:
        """How many were accepted before it and are not finished."""

    def photograph(self, analysis_id: uuid.UUID) -> bytes:
        """The photograph as it is stored; BlobMissingError when it was deleted."""

    def cancel(self, analysis_id: uuid.UUID) -> None:
        """Stops an analysis; AnalysisFinishedError when it has ended by itself."""

    def delete(self, analysis_id: uuid.UUID) -> None:
        """Deletes photograph, answer and feedback."""

    def give_feedback(self, analysis_id: uuid.UUID, feedback: Feedback) -> None:
        """Stores what the lesion was confirmed as."""

    def feedback_of(self, analysis_id: uuid.UUID) -> tuple[Feedback, ...]:
        """What was said about it and not withdrawn since, the oldest first."""

    def withdraw_feedback(self, analysis_id: uuid.UUID, feedback_id: uuid.UUID) -> bool:
        """Takes feedback and consent back; False when there is none with this id."""
