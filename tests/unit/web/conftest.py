"""A desk in memory, so that every page can be rendered in every state without a database, and a reader of pages."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from services.analysis.errors import (
    AnalysisFinishedError,
    AnalysisGoneError,
    AnalysisNotFoundError,
    BlobMissingError,
    LesionLensError,
)
from services.analysis.record import CANCELLED, Analysis, Feedback
from services.analysis.results import CLASSES, NETWORKS, Band, NetworkOpinion, Reason, Result
from services.analysis.settings import Settings
from services.analysis.states import AnalysisState
from services.gateway.problems import register_problems
from services.gateway.web import register_pages

VOID = frozenset({"meta", "link", "input", "img", "br", "hr", "source", "col", "wbr"})


@dataclass
class Page(HTMLParser):
    """What a page contains, by kind."""

    html: str
    inline_code: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""
    title: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self.feed(self.html)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        if tag not in VOID:
            self._open.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        for name, value in attributes:
            if name == "style" or name.startswith("on"):
                self.inline_code.append(f"{tag} {name}")
            if name in {"src", "href", "action"} and (value or "").startswith(("http:", "https:", "//", "data:")):
                self.foreign.append(value)
        if tag == "style" or (tag == "script" and not values.get("src")):
            self.inline_code.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open and self._open[-1] == "script" and data.strip():
            self.inline_code.append(data)
        if "title" in self._open and "svg" not in self._open:
            self.title += data
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [values for name, values in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


MOMENT = dt.datetime(2026, 5, 4, 12, 30, tzinfo=dt.UTC)

STACK = {
    "version": "7",
    "networks": [],
    "bands": {
        "low_below": 0.12,
        "high_from": 0.55,
        "sensitivity_low": 0.95,
        "sensitivity_high": 0.9,
        "measured_on": "held-out lesions",
    },
    "age": {"scale": 0.9, "per_decade": 0.25, "intercept": -0.2, "from_years": 20, "to_years": 85},
    "metrics": {"bands": {"low": {"share_of_the_malignant": 0.05}, "high": {"share_of_the_malignant": 0.9}}},
}


class MemoryDesk:
    """What the pages ask, answered from a dictionary."""

    def __init__(self, models_dir: Path) -> None:
        self.settings = Settings(models_dir=models_dir)
        self.analyses: dict[uuid.UUID, Analysis] = {}
        self.photographs: dict[uuid.UUID, bytes] = {}
        self.feedback: dict[uuid.UUID, Feedback] = {}
        self.about: dict[uuid.UUID, uuid.UUID] = {}
        self.refuse_with: LesionLensError | None = None
        self.ahead = 0

    def add(self, state: AnalysisState, **fields: object) -> Analysis:
        analysis = Analysis(
            id=uuid.uuid4(),
            state=state,
            created_at=MOMENT,
            updated_at=MOMENT,
            finished_at=MOMENT if state.terminal else None,
            deliveries=1,
            force=False,
            store=True,
            images_deleted_at=None,
            upload_digest=b"digest",
            turns=None,
        )
        analysis = replace(analysis, **fields)
        self.analyses[analysis.id] = analysis
        return analysis

    def add_done(self, band: Band = Band.LOW, probability: float = 0.07, **fields: object) -> Analysis:
        return self.add(
            AnalysisState.DONE, **{"result": result(band, probability), "preparation": PREPARATION, **fields}
        )

    def add_doubtful(self, **fields: object) -> Analysis:
        return self.add_done(preparation={**PREPARATION, "concerns": [GLARE]}, **fields)

    def add_rejected(self, code: str = "too_blurred", **fields: object) -> Analysis:
        return self.add(AnalysisState.REJECTED, reason=Reason(code, "A sentence from the record."), **fields)

    def take(self, image: bytes, *, force: bool, store: bool, age_years: int | None) -> uuid.UUID:
        if self.refuse_with:
            raise self.refuse_with
        analysis = self.add(AnalysisState.QUEUED, force=force, store=store, age_years=age_years)
        self.photographs[analysis.id] = image
        return analysis.id

    def find(self, analysis_id: uuid.UUID) -> Analysis:
        if analysis_id not in self.analyses:
            raise AnalysisNotFoundError
        if self.analyses[analysis_id].state is AnalysisState.DELETED:
            raise AnalysisGoneError
        return self.analyses[analysis_id]

    def waiting_ahead(self, analysis: Analysis) -> int:
        return self.ahead

    def photograph(self, analysis_id: uuid.UUID) -> bytes:
        if analysis_id not in self.photographs:
            raise BlobMissingError
        return self.photographs[analysis_id]

    def cancel(self, analysis_id: uuid.UUID) -> None:
        found = self.find(analysis_id)
        if found.state.terminal:
            raise AnalysisFinishedError
        self.analyses[analysis_id] = replace(
            found, state=AnalysisState.FAILED, reason=CANCELLED, finished_at=MOMENT, images_deleted_at=MOMENT
        )

    def delete(self, analysis_id: uuid.UUID) -> None:
        self.analyses[analysis_id] = replace(self.find(analysis_id), state=AnalysisState.DELETED)
        self.photographs.pop(analysis_id, None)

    def give_feedback(self, analysis_id: uuid.UUID, feedback: Feedback) -> None:
        self.feedback[feedback.id] = feedback
        self.about[feedback.id] = analysis_id

    def feedback_of(self, analysis_id: uuid.UUID) -> tuple[Feedback, ...]:
        return tuple(given for given in self.feedback.values() if self.about[given.id] == analysis_id)

    def withdraw_feedback(self, analysis_id: uuid.UUID, feedback_id: uuid.UUID) -> bool:
        return self.feedback.pop(feedback_id, None) is not None


PREPARATION = {"hair_share": 0.034, "concerns": []}
GLARE = {"code": "glare", "sentence": "Light is reflected from the skin.", "soft": True}


def result(band: Band, probability: float) -> Result:
    shares = (0.05, 0.6, 0.1, 0.05, 0.1, 0.06, 0.04)
    return Result(
        probability=probability,
        band=band,
        networks=tuple(NetworkOpinion(name, 1, -2.0 + i, 0.1 + i * 0.05) for i, name in enumerate(NETWORKS)),
        classes=tuple(zip(CLASSES, shares, strict=True)),
        attention=tuple(tuple(max(0.0, 1 - ((x - 3) ** 2 + (y - 3) ** 2) / 9) for x in range(7)) for y in range(7)),
        model_version="7",
    )


@pytest.fixture
def read() -> Callable[[TestResponse], Page]:
    """Turns a response into what a browser would find in it."""
    return lambda response: Page(response.get_data(as_text=True))


@pytest.fixture
def desk(tmp_path: Path) -> MemoryDesk:
    (tmp_path / "stack.json").write_text(json.dumps(STACK))
    return MemoryDesk(tmp_path)


@pytest.fixture
def app(desk: MemoryDesk) -> Flask:
    app = Flask("pages")
    register_problems(app)
    register_pages(app, lambda: desk)
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
