"""Both stages against a real PostgreSQL, a real Valkey and real blobs; only the networks' answers are made up."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text

from services.analysis.blobs import BlobStore, tensor_key, upload_key
from services.analysis.circuits import Circuits, CircuitState
from services.analysis.doorbell import Doorbell, make_celery
from services.analysis.errors import BlobMissingError, BlobStoreUnavailableError, LeaseLostError
from services.analysis.metrics import NetworkMetrics
from services.analysis.record import AnalysisRecord, Submission
from services.analysis.results import CLASSES, NETWORKS
from services.analysis.settings import load_settings
from services.analysis.states import PREPARE, STACK, AnalysisState
from services.preprocessor.prepare_analysis import Preprocessor
from services.stacker import sweep
from services.stacker.orphans import OrphanSweeper
from services.stacker.out_of_distribution import Familiarity
from services.stacker.stack_analysis import Stacker
from services.stacker.stacking import Stack
from services.stacker.sweep import Sweeper
from serving.answers import EVERYTHING, NetworkAnswer, NetworkFailure


@dataclass
class Networks:
    """Four networks that agree, or one of which is away."""

    away: set[str] = field(default_factory=set)
    asked: int = 0
    turns: int = 0
    embedding: float | None = None
    code: str = "UNAVAILABLE"

    def ask_all(
        self, tensor: NDArray[np.uint8], deadline_s: float, shown: Mapping[str, int] = EVERYTHING
    ) -> tuple[NetworkAnswer | NetworkFailure, ...]:
        self.asked += 1
        self.turns = len(tensor)
        assert tensor.shape[1:] == (224, 224, 3)
        assert tensor.dtype == np.uint8
        return tuple(
            NetworkFailure(name, self.code, f"{name} is away")
            if name in self.away
            else NetworkAnswer(
                name,
                1,
                np.full(shown[name], index, np.float32),
                np.zeros((shown[name], 7), np.float32),
                np.ones((shown[name], 7, 7), np.float32),
                None if self.embedding is None else np.full((shown[name], 1), self.embedding, np.float32),
            )
            for index, name in enumerate(NETWORKS)
        )

    def readiness(self, timeout_s: float) -> dict[str, bool]:
        return {name: name not in self.away for name in NETWORKS}

    def close(self) -> None:
        pass


STACKING = Stack.model_validate(
    {
        "version": "1",
        "networks": [{"name": name, "version": 1, "sha256": ""} for name in NETWORKS],
        "malignant": {"coefficients": [0.25] * 4, "intercept": 0.0},
        "classes": {"names": list(CLASSES), "coefficients": [[0.0] * 28] * 7, "intercepts": [0.0] * 7},
        "bands": {
            "low_below": 0.2,
            "high_from": 0.6,
            "sensitivity_low": 0.95,
            "sensitivity_high": 0.9,
            "measured_on": "nothing",
        },
    }
)


@dataclass(frozen=True)
class Service:
    record: AnalysisRecord
    blobs: BlobStore
    doorbell: Doorbell
    preprocessor: Preprocessor
    stacker: Stacker
    sweeper: Sweeper
    networks: Networks

    def upload(
        self, photograph: bytes, *, store: bool = True, turns: int | None = None, age_years: int | None = None
    ) -> uuid.UUID:
        analysis_id = uuid.uuid4()
        self.blobs.put_upload(analysis_id, photograph)
        self.record.accept(
            Submission(analysis_id, upload_digest=b"photo", store=store, turns=turns, age_years=age_years)
        )
        return analysis_id


@pytest.fixture
def service(engine: Engine, redis_url: str, tmp_path: Path) -> Service:
    settings = load_settings({"REDIS_URL": redis_url})
    record, blobs = AnalysisRecord(engine), BlobStore((tmp_path / "blobs").as_uri())
    doorbell, networks = Doorbell(make_celery(settings, "test"), redis_url), Networks()
    return Service(
        record,
        blobs,
        doorbell,
        Preprocessor(record, blobs, doorbell, lease_s=20, max_deliveries=3),
        Stacker(record, blobs, networks, STACKING, None, deadline_s=1, lease_s=20, max_deliveries=3),
        Sweeper(record, blobs, doorbell, image_retention_h=24, result_retention_d=30),
        networks,
    )


@pytest.fixture(scope="module")
def photograph(photographs: Path) -> bytes:
    return (photographs / "lesion_0.jpg").read_bytes()


def make_due(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE analysis SET due_at = now(),"
                " lease_until = CASE WHEN lease_until IS NULL THEN NULL ELSE now() - interval '1 s' END"
                " WHERE due_at IS NOT NULL"
            )
        )


def test_a_photograph_goes_through_both_stages(service: Service, photograph: bytes) -> None:
    analysis_id = service.upload(photograph)
    service.preprocessor.prepare_analysis(analysis_id)
    assert service.record.find(analysis_id).state is AnalysisState.PREPARED
    assert service.doorbell.depth(STACK) == 1, "the stacker was rung for"
    assert service.blobs.get_tensor(analysis_id).shape == (224, 224, 3)
    service.stacker.stack_analysis(analysis_id)
    analysis = service.record.find(analysis_id)
    assert analysis.state is AnalysisState.DONE
    assert analysis.result is not None
    assert [opinion.logit for opinion in analysis.result.networks] == [0, 1, 2, 3]
    assert analysis.result.probability == pytest.approx(1 / (1 + np.exp(-1.5)))


@pytest.mark.parametrize(("wanted", "looked"), [(None, 1), (8, 8)])
def test_a_lesion_is_looked_at_from_as_many_sides_as_were_asked_for(
    service: Service, photograph: bytes, wanted: int | None, looked: int
) -> None:
    analysis_id = service.upload(photograph, turns=wanted)
    service.preprocessor.prepare_analysis(analysis_id)
    service.stacker.stack_analysis(analysis_id)
    assert service.networks.turns == looked


def test_the_age_that_was_told_counts_in_the_answer(service: Service, photograph: bytes) -> None:
    age = {"scale": 1.0, "per_decade": 0.25, "intercept": 0.0, "from_years": 20, "to_years": 85}
    knowing = replace(service.stacker, stack=Stack.model_validate({**STACKING.model_dump(), "age": age}))
    results = {}
    for told in (None, 30, 70):
        analysis_id = service.upload(photograph, age_years=told)
        service.preprocessor.prepare_analysis(analysis_id)
        knowing.stack_analysis(analysis_id)
        results[told] = service.record.find(analysis_id).result
    assert results[30].probability < results[None].probability < results[70].probability
    assert results[30].without_age == results[70].without_age == results[None].probability


def test_both_tasks_may_be_delivered_twice(service: Service, photograph: bytes, engine: Engine) -> None:
    analysis_id = service.upload(photograph)
    for _ in range(2):
        service.preprocessor.prepare_analysis(analysis_id)
    for _ in range(2):
        service.stacker.stack_analysis(analysis_id)
    assert service.networks.asked == 1
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM prediction")).scalar_one() == 4


def test_what_is_no_image_is_rejected_with_a_sentence(service: Service) -> None:
    analysis_id = service.upload(b"GIF89a not an image")
    service.preprocessor.prepare_analysis(analysis_id)
    analysis = service.record.find(analysis_id)
    assert analysis.state is AnalysisState.REJECTED
    assert analysis.reason is not None
    assert analysis.reason.code in {"not_an_image", "unsupported_format"}
    assert analysis.reason.sentence.endswith(".")


@pytest.mark.parametrize("stage", [PREPARE, STACK])
def test_a_lost_image_fails_the_analysis(service: Service, photograph: bytes, stage: object) -> None:
    analysis_id = service.upload(photograph)
    if stage is STACK:
        service.preprocessor.prepare_analysis(analysis_id)
    service.blobs.delete(analysis_id)
    service.preprocessor.prepare_analysis(analysis_id)
    service.stacker.stack_analysis(analysis_id)
    analysis = service.record.find(analysis_id)
    assert analysis.state is AnalysisState.FAILED
    assert analysis.reason is not None
    assert analysis.reason.code == "image_missing"


def test_one_network_away_is_retried_and_then_fails_with_its_name(
    service: Service, photograph: bytes, engine: Engine
) -> None:
    analysis_id = service.upload(photograph)
    service.preprocessor.prepare_analysis(analysis_id)
    service.networks.away.add("densenet169")
    for _ in range(2):
        service.stacker.stack_analysis(analysis_id)
        assert service.record.find(analysis_id).state is AnalysisState.PREPARED
        make_due(engine)
        service.sweeper.sweep()
    assert service.doorbell.depth(STACK) == 3
    service.stacker.stack_analysis(analysis_id)
    analysis = service.record.find(analysis_id)
    assert analysis.state is AnalysisState.FAILED
    assert analysis.reason is not None
    assert analysis.reason.code == "network_unavailable"
    assert "densenet169" in analysis.reason.sentence


def test_a_network_that_comes_back_in_time_answers(service: Service, photograph: bytes) -> None:
    analysis_id = service.upload(photograph)
    service.preprocessor.prepare_analysis(analysis_id)
    service.networks.away.add("mobilenet")
    service.stacker.stack_analysis(analysis_id)
    service.networks.away.clear()
    service.stacker.stack_analysis(analysis_id)
    assert service.record.find(analysis_id).state is AnalysisState.DONE


def test_a_store_that_is_away_gives_the_lease_back_and_costs_no_delivery(
    service: Service, photograph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenStore(BlobStore):
        def put_tensor(self, analysis_id: uuid.UUID, tensor: NDArray[np.uint8]) -> None:
            raise BlobStoreUnavailableError("disk full")

    analysis_id = service.upload(photograph)
    broken = replace(service.preprocessor, blobs=BrokenStore.__new__(BrokenStore))
    monkeypatch.setattr(BrokenStore, "get_upload", lambda _self, _id: photograph)
    for _ in range(5):
        with pytest.raises(BlobStoreUnavailableError):
            broken.prepare_analysis(analysis_id)
        assert service.record.find(analysis_id).state is AnalysisState.QUEUED
    assert service.record.find(analysis_id).deliveries == 0, "a full disk is not the image's fault"
    service.preprocessor.prepare_analysis(analysis_id)
    assert service.record.find(analysis_id).state is AnalysisState.PREPARED


@pytest.mark.parametrize("end", [AnalysisRecord.delete, AnalysisRecord.cancel])
def test_an_analysis_ended_by_its_owner_while_it_is_prepared_leaves_no_pixels(
    service: Service,
    photograph: bytes,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[AnalysisRecord, uuid.UUID], object],
) -> None:
    analysis_id = service.upload(photograph)
    put_tensor = service.blobs.put_tensor

    def ended_meanwhile(analysis_id: uuid.UUID, tensor: NDArray[np.uint8]) -> None:
        put_tensor(analysis_id, tensor)
        end(service.record, analysis_id)

    monkeypatch.setattr(service.blobs, "put_tensor", ended_meanwhile)
    with pytest.raises(LeaseLostError):
        service.preprocessor.prepare_analysis(analysis_id)
    with pytest.raises(BlobMissingError):
        service.blobs.get_tensor(analysis_id)


def test_a_worker_that_wakes_after_its_lease_leaves_its_successors_pixels_to_the_stacker(
    service: Service, photograph: bytes, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysis_id = service.upload(photograph)
    put_tensor = service.blobs.put_tensor

    def overtaken_meanwhile(analysis_id: uuid.UUID, tensor: NDArray[np.uint8]) -> None:
        monkeypatch.setattr(service.blobs, "put_tensor", put_tensor)
        make_due(engine)
        service.preprocessor.prepare_analysis(analysis_id)
        put_tensor(analysis_id, tensor)

    monkeypatch.setattr(service.blobs, "put_tensor", overtaken_meanwhile)
    with pytest.raises(LeaseLostError):
        service.preprocessor.prepare_analysis(analysis_id)
    service.stacker.stack_analysis(analysis_id)
    assert service.record.find(analysis_id).state is AnalysisState.DONE


def test_the_sweeper_rings_for_what_was_never_heard(service: Service, photograph: bytes, engine: Engine) -> None:
    service.upload(photograph)
    service.sweeper.sweep()
    assert service.doorbell.depth(PREPARE) == 0, "not yet due"
    make_due(engine)
    service.sweeper.sweep()
    assert service.doorbell.depth(PREPARE) == 1


def test_the_sweeper_deletes_photographs_that_must_not_be_stored(
    service: Service, photograph: bytes, tmp_path: Path
) -> None:
    kept, not_kept = service.upload(photograph), service.upload(photograph, store=False)
    for analysis_id in (kept, not_kept):
        service.preprocessor.prepare_analysis(analysis_id)
        service.stacker.stack_analysis(analysis_id)
    service.sweeper.sweep()
    stored = {path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()}
    assert stored == {str(kept)}
    assert service.record.find(not_kept).result is not None, "the answer stays, the photograph goes"


def test_results_past_retention_are_gone(service: Service, photograph: bytes, tmp_path: Path) -> None:
    analysis_id = service.upload(photograph)
    service.preprocessor.prepare_analysis(analysis_id)
    service.stacker.stack_analysis(analysis_id)
    replace(service.sweeper, result_retention_d=0).sweep()
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert service.record.results_past_retention(0, 10) == ()


@pytest.mark.parametrize(
    ("strangeness", "state", "least", "most"),
    [
        (-9.0, AnalysisState.DONE, -6.0, -4.0),
        (-4.0, AnalysisState.DONE, -1.0, -0.5),
        (-2.6, AnalysisState.REJECTED, 0.5, 1.0),
    ],
)
def test_what_is_refused_as_no_lesion_is_counted_above_0_and_all_else_below(
    service: Service, photograph: bytes, strangeness: float, state: AnalysisState, least: float, most: float
) -> None:
    registry = CollectorRegistry()
    service.networks.embedding = strangeness
    one = np.ones(1)
    familiarity = Familiarity(NETWORKS[0], one, 0.0, -3.3, np.zeros(1), np.ones((1, 1)), one)
    stacker = replace(service.stacker, familiarity=familiarity, metrics=NetworkMetrics(registry))
    analysis_id = service.upload(photograph)
    service.preprocessor.prepare_analysis(analysis_id)
    stacker.stack_analysis(analysis_id)

    def at_most(difference: float) -> float | None:
        return registry.get_sample_value("lesionlens_strangeness_logit_difference_bucket", {"le": str(difference)})

    assert service.record.find(analysis_id).state is state
    assert (at_most(least), at_most(most)) == (0, 1)


def test_while_a_circuit_is_open_analyses_wait_and_nothing_is_asked_of_the_others(
    service: Service, photograph: bytes, engine: Engine
) -> None:
    circuits = Circuits(engine, failures=2, open_s=60)
    stacker = replace(service.stacker, circuits=circuits)
    first, second = service.upload(photograph), service.upload(photograph)
    for analysis_id in (first, second):
        service.preprocessor.prepare_analysis(analysis_id)
    service.networks.away.add("mobilenet")
    stacker.stack_analysis(first)
    stacker.stack_analysis(second)
    asked = service.networks.asked
    for _ in range(5):
        stacker.stack_analysis(first)
    assert service.networks.asked == asked
    assert service.record.find(first).deliveries == 1, "waiting costs no delivery"

    service.networks.away.clear()
    with engine.begin() as connection:
        connection.execute(text("UPDATE circuit SET open_until = now()"))
    for analysis_id in (first, second):
        stacker.stack_analysis(analysis_id)
        assert service.record.find(analysis_id).state is AnalysisState.DONE
    assert set(circuits.states().values()) == {"closed"}


@pytest.mark.parametrize(
    ("code", "answer_within_s", "state"),
    [
        ("DEADLINE_EXCEEDED", 5, CircuitState.CLOSED),
        ("DEADLINE_EXCEEDED", 60, CircuitState.OPEN),
        ("UNAVAILABLE", 5, CircuitState.OPEN),
    ],
)
def test_a_network_that_was_given_less_than_its_time_is_not_blamed_for_being_slow(
    service: Service, photograph: bytes, engine: Engine, code: str, answer_within_s: float, state: CircuitState
) -> None:
    circuits = Circuits(engine, failures=1, open_s=60)
    service.networks.away, service.networks.code = {"mobilenet"}, code
    analysis_id = uuid.uuid4()
    service.blobs.put_upload(analysis_id, photograph)
    service.record.accept(Submission(analysis_id, upload_digest=b"photo", answer_within_s=answer_within_s))
    service.preprocessor.prepare_analysis(analysis_id)
    replace(service.stacker, circuits=circuits, deadline_s=8).stack_analysis(analysis_id)
    assert service.networks.asked == 1
    assert circuits.states() == {**dict.fromkeys(NETWORKS, CircuitState.CLOSED), "mobilenet": state}


def test_what_waits_for_an_open_circuit_ends_when_its_time_is_over(
    service: Service, photograph: bytes, engine: Engine
) -> None:
    circuits = Circuits(engine, failures=1, open_s=60)
    analysis_id = service.upload(photograph)
    service.preprocessor.prepare_analysis(analysis_id)
    circuits.record(set(), {"mobilenet"})
    with engine.begin() as connection:
        connection.execute(text("UPDATE analysis SET answer_by = now()"))
    replace(service.stacker, circuits=circuits).stack_analysis(analysis_id)
    reason = service.record.find(analysis_id).reason
    assert reason is not None
    assert reason.code == "out_of_time"


def test_the_networks_get_no_more_time_than_the_analysis_has_left(service: Service, photograph: bytes) -> None:
    deadlines = []

    class Impatient(Networks):
        def ask_all(
            self, tensor: NDArray[np.uint8], deadline_s: float, shown: Mapping[str, int] = EVERYTHING
        ) -> tuple[NetworkAnswer | NetworkFailure, ...]:
            deadlines.append(deadline_s)
            return super().ask_all(tensor, deadline_s, shown)

    analysis_id = uuid.uuid4()
    service.blobs.put_upload(analysis_id, photograph)
    service.record.accept(Submission(analysis_id, upload_digest=b"photo", answer_within_s=5))
    service.preprocessor.prepare_analysis(analysis_id)
    replace(service.stacker, networks=Impatient(), deadline_s=8).stack_analysis(analysis_id)
    assert len(deadlines) == 1
    assert 0 < deadlines[0] < 5


def test_the_sweeper_does_not_fill_a_queue_that_is_full_of_messages(
    service: Service, photograph: bytes, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "RING_UP_TO", 2)
    for _ in range(4):
        service.upload(photograph)
    for _ in range(5):
        make_due(engine)
        service.sweeper.sweep()
    assert service.doorbell.depth(PREPARE) == 2


def test_blobs_that_no_row_wants_are_collected_and_all_others_stay(
    service: Service, photograph: bytes, engine: Engine, tmp_path: Path
) -> None:
    folder = tmp_path / "blobs"
    kept, deleted, never_recorded = service.upload(photograph), service.upload(photograph), uuid.uuid4()
    service.preprocessor.prepare_analysis(kept)
    service.record.delete(deleted)
    service.blobs.put_tensor(deleted, service.blobs.get_tensor(kept))
    service.blobs.put_upload(never_recorded, photograph)
    (folder / "uploads" / f"{uuid.uuid4()}#1").write_bytes(photograph[:100])
    (folder / "uploads" / "README").write_text("put here by somebody else")
    (folder / "probes").mkdir(exist_ok=True)
    (folder / "probes" / str(uuid.uuid4())).write_bytes(b"?")
    sweeper = OrphanSweeper(service.record, service.blobs)

    assert sweeper.sweep() == 0, "younger than the margin: its row may be under way"
    assert replace(sweeper, margin_s=0).sweep() == 5

    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == {upload_key(kept), tensor_key(kept), "uploads/README"}
    assert replace(sweeper, margin_s=0).sweep() == 0


def test_a_photograph_that_is_written_during_the_sweep_of_orphans_is_none(
    service: Service, photograph: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysis_id = service.upload(photograph)
    whole = tmp_path / "blobs" / upload_key(analysis_id)
    half_written = whole.rename(whole.with_name(f"{whole.name}#1"))
    stat = Path.stat

    def renamed_meanwhile(path: Path, **options: bool) -> os.stat_result:
        if path == half_written and not whole.exists():
            path.rename(whole)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", renamed_meanwhile)
    assert OrphanSweeper(service.record, service.blobs, margin_s=0).sweep() == 0
    assert service.blobs.get_upload(analysis_id) == photograph


def test_a_sweep_of_orphans_that_ran_out_of_time_is_finished_by_later_ones(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.analysis.blobs.LIST_CHUNK", 2)
    for _ in range(9):
        service.blobs.put_upload(uuid.uuid4(), b"photograph")
    sweeper = OrphanSweeper(service.record, service.blobs, margin_s=0, within_s=0)
    sweeps = [sweeper.sweep() for _ in range(12)]
    assert max(sweeps) <= 2
    assert sum(sweeps) == 9
