"""An analysis in the words of the API: plain JSON, the same for polling, uploads, batches and exports."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import asdict
from typing import Any

from flask import Response

from services.analysis.record import Analysis
from services.analysis.results import Result
from services.analysis.states import AnalysisState
from services.gateway.guidance import CLASS_LABELS, DISCLAIMER, STAGE_WORDS, guidance_for, is_malignant


def answer_of(analysis: Analysis, waiting_ahead: int | None = None) -> dict[str, Any]:
    """What the owner of an analysis is told.

    `waiting_ahead` is how many unfinished analyses were accepted before it, while it is queued.
    """
    answer: dict[str, Any] = {
        "id": str(analysis.id),
        "state": analysis.state.value,
        "stage": STAGE_WORDS[analysis.state],
        "created_at": _time(analysis.created_at),
        "finished_at": _time(analysis.finished_at),
        "force": analysis.force,
        "store": analysis.store,
        "tta": analysis.turns,
        "explain": analysis.explain,
        "age": analysis.age_years,
        "image_stored": analysis.images_deleted_at is None,
        "links": links_of(analysis),
    }
    if waiting_ahead is not None:
        answer["waiting_ahead"] = waiting_ahead
    if analysis.batch_id is not None:
        answer["batch"] = {"id": str(analysis.batch_id), "position": analysis.batch_position}
    if analysis.reason is not None:
        answer["reason"] = {"code": analysis.reason.code, "sentence": analysis.reason.sentence}
    if analysis.result is not None:
        answer["result"] = _result(analysis.result, analysis)
    return answer


def links_of(analysis: Analysis) -> dict[str, str]:
    """Addresses that can be asked for in the analysis' present state."""
    own = path_of(analysis)
    links = {"self": own}
    if not analysis.state.terminal:
        links["cancel"] = f"{own}/cancel"
    if analysis.images_deleted_at is None:
        links["image"] = f"{own}/image"
    if analysis.state is AnalysisState.DONE:
        links |= {
            "attention": f"{own}/attention.png",
            "report": f"{own}/report.pdf",
            "fhir": f"{own}/fhir",
            "feedback": f"{own}/feedback",
        }
    return links


def path_of(analysis: Analysis) -> str:
    """The address of an analysis."""
    return f"/v1/analyses/{analysis.id}"


def _result(result: Result, analysis: Analysis) -> dict[str, Any]:
    guidance = guidance_for(result.band)
    preparation = analysis.preparation or {}
    answer = {
        "probability": result.probability,
        "probability_without_age": result.without_age,
        "band": result.band.value,
        "networks": [
            {
                "name": opinion.name,
                "version": opinion.version,
                "logit": opinion.logit,
                "probability": opinion.probability,
            }
            for opinion in result.networks
        ],
        "classes": [
            {
                "name": name,
                "label": CLASS_LABELS[name],
                "malignant": is_malignant(name),
                "probability": probability,
            }
            for name, probability in result.classes
        ],
        "attention": [list(row) for row in result.attention],
        "model_version": result.model_version,
        "guidance": {
            "urgency": guidance.urgency,
            "headline": guidance.headline,
            "steps": list(guidance.steps),
        },
        "concerns": [
            {"code": concern["code"], "sentence": concern["sentence"]} for concern in preparation.get("concerns", ())
        ],
        "hair_share": preparation.get("hair_share"),
        "source_size": preparation.get("source_size"),
        "frame": preparation.get("frame"),
        "disclaimer": DISCLAIMER,
    }
    if result.explanation is not None:
        answer["explanation"] = asdict(result.explanation)
    return answer


def _time(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(dt.UTC).isoformat(timespec="milliseconds")


def json_response(body: object, status: int = 200) -> Response:
    """JSON that no cache keeps: it belongs to whoever knows the id."""
    response = Response(
        json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        status=status,
        content_type="application/json",
    )
    response.headers["Cache-Control"] = "private, no-store"
    return response


def etag_of(body: object) -> str:
    """A strong validator of a JSON body (RFC 9110, section 8.8.3), without the quotes."""
    # Not for secrecy: two different answers must not share a tag by accident.
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]
