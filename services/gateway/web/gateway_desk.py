"""The desk of the real gateway: uploads, record and blobs."""

from __future__ import annotations

import uuid
from typing import cast

from flask import current_app

from services.analysis.record import Analysis, Feedback
from services.analysis.settings import Settings
from services.gateway.api.analyses import remove, stop
from services.gateway.parts import Gateway
from services.gateway.uploads import UploadOptions, take
from services.gateway.web.desk import Desk


class GatewayDesk(Desk):
    """Answers the pages from the same parts, and by the same functions, as the API."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @property
    def settings(self) -> Settings:
        """The settings of the process."""
        return self._gateway.settings

    def take(self, image: bytes, *, force: bool, store: bool, age_years: int | None) -> uuid.UUID:
        """Accepts a photograph as `POST /v1/analyses` does."""
        return take(self._gateway, image, UploadOptions(force=force, store=store, age_years=age_years)).id

    def find(self, analysis_id: uuid.UUID) -> Analysis:
        """Reads the record."""
        return self._gateway.record.find(analysis_id)

    def waiting_ahead(self, analysis: Analysis) -> int:
        """Counts in the record."""
        return self._gateway.record.waiting_ahead(analysis)

    def photograph(self, analysis_id: uuid.UUID) -> bytes:
        """Reads the blob."""
        return self._gateway.blobs.get_upload(analysis_id)

    def cancel(self, analysis_id: uuid.UUID) -> None:
        """Stops as `POST /v1/analyses/{id}/cancel` does."""
        stop(self._gateway, analysis_id)

    def delete(self, analysis_id: uuid.UUID) -> None:
        """Deletes as `DELETE /v1/analyses/{id}` does."""
        remove(self._gateway, analysis_id)

    def give_feedback(self, analysis_id: uuid.UUID, feedback: Feedback) -> None:
        """Writes the record."""
        self._gateway.record.add_feedback(analysis_id, feedback)

    def feedback_of(self, analysis_id: uuid.UUID) -> tuple[Feedback, ...]:
        """Reads the record."""
        return self._gateway.record.standing_feedback(analysis_id)

    def withdraw_feedback(self, analysis_id: uuid.UUID, feedback_id: uuid.UUID) -> bool:
        """Writes the record."""
        return self._gateway.record.revoke_feedback(analysis_id, feedback_id)


def gateway_desk() -> GatewayDesk:
    """The desk of the application that answers the present request."""
    return GatewayDesk(cast("Gateway", current_app.extensions["lesionlens"]))
