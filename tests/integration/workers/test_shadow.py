"""A canary is looked with and never answered from: real PostgreSQL and blobs, and a canary in a real model server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tenacity
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from services.analysis.blobs import BlobStore
from services.analysis.errors import SettingsError
from services.analysis.metrics import LOGIT_DIFFERENCES, PROBABILITY_DIFFERENCES, ShadowMetrics
from services.analysis.record import AnalysisRecord, Lease, Submission
from services.analysis.results import CLASSES, NETWORKS, Result
from services.analysis.settings import load_settings
from services.analysis.states import PREPARE, AnalysisState
from services.stacker.shadow import Shadow, shadow_from
from services.stacker.stack_analysis import Stacker
from services.stacker.stacking import Stack
from services.stacker.turns import pose_of, turned
from serving.answers import EVERYTHING, NetworkAnswer, NetworkFailure
from serving.client import RemoteEnsemble
from serving.model_config import CANARY, STABLE, ModelConfig, write_config

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60.0
NETWORK = "mobilenet"
#: Another of the networks plays the new version: the same inputs and outputs, other answers.
NEW = "densenet121"


def stacking(new_version: int = 1) -> Stack:
    """Fitted with version 1 of each network; or with another one of MobileNet's."""
    return Stack.model_validate(
        {
            "version": "1",
            "networks": [
                {"name": name, "version": new_version if name == NETWORK else 1, "sha256": ""} for name in NETWORKS
            ],
            "malignant": {"coefficients": [0.25] * 4, "intercept": float(1 - new_version)},
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


class Stable:
    """The four networks that answer: always the same."""

    def ask_all(
        self, tensor: NDArray[np.uint8], deadline_s: float, shown: Mapping[str, int] = EVERYTHING
    ) -> tuple[NetworkAnswer | NetworkFailure, ...]:
        return tuple(
            NetworkAnswer(
                name,
                1,
                np.full(shown[name], index, np.float32),
                np.zeros((shown[name], 7), np.float32),
                np.ones((shown[name], 7, 7), np.float32),
                None,
            )
            for index, name in enumerate(NETWORKS)
        )

    def readiness(self, timeout_s: float) -> dict[str, bool]:
        return dict.fromkeys(NETWORKS, True)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded model server with MobileNet as version 1 (stable) and another network as version 2 (canary)."""
    folder = tmp_path_factory.mktemp("shadow")
    models = Path(os.environ.get("MODELS_DIR", ROOT / "serving" / "models"))
    (folder / NETWORK).mkdir()
    for version, network in ((1, NETWORK), (2, NEW)):
        (folder / NETWORK / str(version)).symlink_to(models / network / "1")
    write_config(folder, ModelConfig(NETWORK, f"/models/{NETWORK}", (1, 2), {STABLE: 1, CANARY: 2}))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "serving.embedded", "--models", str(folder), "--config", str(folder)),
            *("--endpoint", f"{NETWORK}={port}"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        with RemoteEnsemble({NETWORK: f"127.0.0.1:{port}"}) as networks:
            for attempt in tenacity.Retrying(
                stop=tenacity.stop_after_delay(PATIENCE_S), wait=tenacity.wait_fixed(0.1), reraise=True
            ):
                with attempt:
                    assert networks.served_versions(1.0)[NETWORK] == {1, 2}
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


@dataclass
class World:
    stacker: Stacker
    registry: CollectorRegistry
    pixels: NDArray[np.uint8]

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"lesionlens_shadow_{name}", labels) or 0.0

    def below(self, name: str, buckets: tuple[float, ...], **labels: str) -> list[float]:
        """Upper bounds of the buckets that something was counted in; there is no sum where values may be negative."""
        counts = [self.count(f"{name}_bucket", le=str(bound), **labels) for bound in (*buckets, "+Inf")]
        return [
            bound
            for bound, count, before in zip((*buckets, np.inf), counts, [0.0, *counts], strict=False)
            if count > before
        ]

    def answer_until(self, holds: Callable[[], bool]) -> None:
        """Analyses, one after the other: one that comes too soon after another is not shown to the shadow."""
        self.until(lambda: bool(self.answer()) and holds())

    def shown_by(self, networks, *, fitted: Stack | None = None) -> World:
        """The same with a shadow over these networks."""
        shadow = Shadow(
            networks, fitted or stacking(), ShadowMetrics(self.registry), PATIENCE_S, fitted=fitted is not None
        )
        return replace(self, stacker=replace(self.stacker, shadow=shadow))

    def answer(self, turns: int | None = None, age_years: int | None = None) -> Result:
        """What one analysis through the stacker is answered."""
        record, analysis_id = self.stacker.record, uuid.uuid4()
        record.accept(Submission(analysis_id, upload_digest=b"photo", turns=turns, age_years=age_years))
        self.stacker.blobs.put_tensor(analysis_id, self.pixels)
        lease = record.claim(analysis_id, PREPARE, lease_s=20, max_deliveries=3)
        assert isinstance(lease, Lease)
        record.advance(lease, {})
        self.stacker.stack_analysis(analysis_id)
        found = record.find(analysis_id)
        assert found.state is AnalysisState.DONE
        assert found.result is not None
        assert [opinion.version for opinion in found.result.networks] == [1] * 4, "nobody answers from a canary"
        of_picture = found.result.probability if found.result.without_age is None else found.result.without_age
        assert of_picture == pytest.approx(1 / (1 + np.exp(-1.5)))
        return found.result

    def until(self, holds: Callable[[], bool]) -> None:
        for attempt in tenacity.Retrying(
            stop=tenacity.stop_after_delay(PATIENCE_S), wait=tenacity.wait_fixed(0.02), reraise=True
        ):
            with attempt:
                assert holds()


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    record, blobs = AnalysisRecord(engine), BlobStore((tmp_path / "blobs").as_uri())
    pixels = np.random.default_rng(3).integers(0, 256, (224, 224, 3), np.uint8)
    stacker = Stacker(record, blobs, Stable(), stacking(), None, deadline_s=1, lease_s=20, max_deliveries=3)
    return World(stacker, CollectorRegistry(), pixels)


def above(value: float, buckets: tuple[float, ...]) -> float:
    """The bound of the bucket that `value` falls into."""
    return min(bound for bound in (*buckets, np.inf) if value <= bound)


@pytest.fixture
def canary(address: str) -> Iterator[RemoteEnsemble]:
    with RemoteEnsemble({NETWORK: address}, label=CANARY) as networks:
        yield networks


def test_a_canary_is_compared_and_nothing_is_answered_from_it(world: World, canary: RemoteEnsemble) -> None:
    (said,) = canary.ask_all(world.pixels[None], PATIENCE_S)
    assert isinstance(said, NetworkAnswer)
    assert said.version == 2
    world = world.shown_by(canary)

    answered = world.answer()

    world.until(lambda: world.count("probability_difference_count") == 1)
    # The stable network's logit is 0.
    assert world.below("logit_difference", LOGIT_DIFFERENCES, network=NETWORK) == [
        above(float(said.logit[0]), LOGIT_DIFFERENCES)
    ]
    would = 1 / (1 + np.exp(-0.25 * (float(said.logit[0]) + 1 + 2 + 3)))
    assert world.below("probability_difference", PROBABILITY_DIFFERENCES) == [
        above(would - answered.probability, PROBABILITY_DIFFERENCES)
    ]
    assert (
        sum(
            world.count("answers_total", band=answered.band.value, shadow_band=band)
            for band in ("low", "unsure", "high")
        )
        == 1
    )
    assert world.count("failures_total") == 0


def test_the_canary_s_own_stack_says_what_its_logits_mean(world: World, canary: RemoteEnsemble) -> None:
    (said,) = canary.ask_all(world.pixels[None], PATIENCE_S)
    assert isinstance(said, NetworkAnswer)
    world = world.shown_by(canary, fitted=stacking(new_version=2))

    answered = world.answer()

    world.until(lambda: world.count("probability_difference_count") == 1)
    would = 1 / (1 + np.exp(1 - 0.25 * (float(said.logit[0]) + 1 + 2 + 3)))
    assert world.below("probability_difference", PROBABILITY_DIFFERENCES) == [
        above(would - answered.probability, PROBABILITY_DIFFERENCES)
    ]


def test_a_person_is_as_old_for_the_canaries(world: World) -> None:
    age = {"scale": 1.0, "per_decade": 0.5, "intercept": 0.0, "from_years": 20, "to_years": 85}
    knowing = Stack.model_validate({**stacking().model_dump(), "age": age})
    world = world.shown_by(Stable(), fitted=knowing)
    world = replace(world, stacker=replace(world.stacker, stack=knowing))
    answered = world.answer(age_years=80)
    world.until(lambda: world.count("probability_difference_count") == 1)
    assert answered.without_age is not None
    assert answered.without_age < answered.probability
    # The same networks and the same stack say the same.
    assert world.below("probability_difference", PROBABILITY_DIFFERENCES) == [above(0.0, PROBABILITY_DIFFERENCES)]


class Watching(Stable):
    """Networks that keep what they are shown, and give embeddings."""

    def __init__(self, embedding: float = 0.0) -> None:
        self.shown: list[tuple[NDArray[np.uint8], dict[str, int]]] = []
        self._embedding = embedding

    def ask_all(
        self, tensor: NDArray[np.uint8], deadline_s: float, shown: Mapping[str, int] = EVERYTHING
    ) -> tuple[NetworkAnswer | NetworkFailure, ...]:
        self.shown.append((tensor, dict(shown)))
        embedding = np.full((1, 1), self._embedding, np.float32)
        return tuple(replace(answer, embedding=embedding) for answer in super().ask_all(tensor, deadline_s, shown))


def looking(turns: int, **said: object) -> Stack:
    return Stack.model_validate({**stacking().model_dump(), "test_time_augmentation": turns, **said})


@pytest.mark.parametrize(("before", "now"), [(1, 4), (4, 1)])
def test_canaries_look_as_often_as_their_own_stack_says(world: World, before: int, now: int) -> None:
    stable, canaries = Watching(), Watching()
    world = replace(world, stacker=replace(world.stacker, networks=stable, stack=looking(before)))
    world.shown_by(canaries, fitted=looking(now)).answer()

    world.until(lambda: world.count("probability_difference_count") == 1)
    (seen, counts), (posed, _) = canaries.shown[0], stable.shown[0]
    assert counts == dict.fromkeys(NETWORKS, now)
    # What they would be shown if they answered.
    np.testing.assert_array_equal(seen, turned(world.pixels, now, pose_of(world.pixels)))
    np.testing.assert_array_equal(seen[0], posed[0])


def test_canaries_look_as_often_as_the_sender_asked_for(world: World) -> None:
    canaries = Watching()
    world.shown_by(canaries, fitted=looking(8)).answer(turns=2)

    world.until(lambda: world.count("probability_difference_count") == 1)
    assert canaries.shown[0][1] == dict.fromkeys(NETWORKS, 2)


def test_what_the_canaries_would_refuse_is_compared_with_no_band(world: World) -> None:
    strange = {
        "method": "outlier_exposure", "network": NETWORK, "weights": [1.0], "intercept": 0.0, "threshold": 0.5,
        "mean": [], "components": [], "deviations": [],
    }  # fmt: skip
    world = world.shown_by(Watching(embedding=1.0), fitted=looking(1, out_of_distribution=strange))

    answered = world.answer()

    world.until(lambda: world.count("answers_total", band=answered.band.value, shadow_band="not_a_lesion") == 1)
    assert world.count("probability_difference_count") == 0


def test_a_stack_for_another_version_is_a_failure_of_the_shadow(world: World, canary: RemoteEnsemble) -> None:
    world = world.shown_by(canary, fitted=stacking(new_version=3))

    world.answer()

    world.until(lambda: world.count("failures_total") == 1)
    assert world.count("probability_difference_count") == 0


def test_without_a_canary_analyses_are_answered_all_the_same(world: World, address: str) -> None:
    with RemoteEnsemble({NETWORK: address}, label="nobody has this label") as networks:
        world = world.shown_by(networks)
        world.answer_until(lambda: world.count("failures_total") >= 2)


class Stuck(Stable):
    """Networks that answer when they are let."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.let = threading.Event()

    def ask_all(
        self, tensor: NDArray[np.uint8], deadline_s: float, shown: Mapping[str, int] = EVERYTHING
    ) -> tuple[NetworkAnswer | NetworkFailure, ...]:
        self.asked.release()
        assert self.let.wait(PATIENCE_S)
        return super().ask_all(tensor, deadline_s, shown)


def test_a_shadow_that_hangs_delays_nothing_and_is_shown_nothing_more(world: World) -> None:
    stuck = Stuck()
    world = world.shown_by(stuck)

    world.answer()
    assert stuck.asked.acquire(timeout=PATIENCE_S)
    world.answer()
    world.answer()

    assert world.count("skipped_total") == 2
    stuck.let.set()
    world.answer_until(lambda: world.count("probability_difference_count") >= 2)


class Broken(Stable):
    def ask_all(
        self, tensor: NDArray[np.uint8], deadline_s: float, shown: Mapping[str, int] = EVERYTHING
    ) -> tuple[NetworkAnswer | NetworkFailure, ...]:
        raise RuntimeError("as no network ever fails")


def test_a_shadow_that_breaks_breaks_nothing(world: World) -> None:
    world = world.shown_by(Broken())

    world.answer_until(lambda: world.count("failures_total") >= 2)


@pytest.mark.parametrize("fitted", [True, False])
def test_the_settings_alone_make_the_shadow(world: World, address: str, tmp_path: Path, *, fitted: bool) -> None:
    """As the worker does: the canary of the addressed server, with its own stack where there is one."""
    if fitted:
        # Made for a version that is not served: what comes of it tells that it was read.
        (tmp_path / "stack.canary.json").write_text(stacking(new_version=3).model_dump_json())
    settings = load_settings(
        {"SHADOW_NETWORKS": NETWORK, "MOBILENET_SERVING_URL": address, "MODELS_DIR": str(tmp_path)}
    )
    shadow = shadow_from(settings, stacking(), ShadowMetrics(world.registry))
    world = replace(world, stacker=replace(world.stacker, shadow=shadow))

    world.answer()

    world.until(lambda: world.count("failures_total") + world.count("probability_difference_count") == 1)
    assert world.count("failures_total") == fitted


@pytest.mark.parametrize(
    ("said", "asked"), [("", []), ("all", list(NETWORKS)), ("nasnetmobile, mobilenet", ["mobilenet", "nasnetmobile"])]
)
def test_the_setting_names_who_is_asked(said: str, asked: list[str]) -> None:
    settings = load_settings({"SHADOW_NETWORKS": said})

    assert list(settings.shadow_addresses()) == asked
    shadow = shadow_from(settings, stacking(), ShadowMetrics(CollectorRegistry()))
    assert (shadow is not None) == bool(asked)


def test_a_network_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingsError, match="no network resnet"):
        load_settings({"SHADOW_NETWORKS": "mobilenet,resnet"})
