"""What operators see."""

from __future__ import annotations

import json
import uuid

import pytest

from services.analysis.results import NETWORKS
from services.gateway.api.schemas import ModelsSchema
from services.gateway.app import create_app
from services.gateway.parts import make_parts


def test_alive_says_nothing_about_the_parts_behind(settings, networks):
    away = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:9/nowhere"})
    assert create_app(away, make_parts(away, networks)).test_client().get("/healthz").status_code == 200


def test_ready_when_every_part_answers(client):
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json["status"]) == (200, "ready")
    assert set(answer.json["parts"]) == {"database", "doorbell", "blob_store", *NETWORKS}


@pytest.mark.parametrize("network", NETWORKS)
def test_not_ready_without_one_network(client, networks, network):
    networks.answers = {name: name != network for name in NETWORKS}
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json["status"]) == (503, "not ready")
    assert [part for part, answers in answer.json["parts"].items() if not answers] == [network]


@pytest.mark.parametrize(
    ("setting", "url", "part"),
    [
        ("database_url", "postgresql://nobody@127.0.0.1:9/nowhere", "database"),
        ("redis_url", "redis://127.0.0.1:9/0", "doorbell"),
    ],
)
def test_not_ready_without_a_part(settings, networks, setting, url, part):
    away = settings.model_copy(update={setting: url})
    answer = create_app(away, make_parts(away, networks)).test_client().get("/readyz")
    assert answer.status_code == 503
    assert [name for name, answers in answer.json["parts"].items() if not answers] == [part]


def test_not_ready_while_draining(client, parts):
    assert client.get("/readyz").status_code == 200
    parts.drain()
    assert client.get("/readyz").status_code == 503


def test_metrics_count_requests_refusals_and_the_backlog(client, upload):
    upload()
    upload(b"words")
    address = f"/v1/analyses/{uuid.uuid4()}"
    client.get(address)
    metrics = client.get("/metrics")
    assert metrics.content_type.startswith("text/plain")
    for line in (
        'lesionlens_http_requests_total{method="POST",route="/v1/analyses",status="202"} 1.0',
        "lesionlens_uploads_accepted_total 1.0",
        'lesionlens_uploads_refused_total{reason="not_an_image"} 1.0',
        'lesionlens_backlog_analyses{stage="prepare"} 1.0',
        'lesionlens_backlog_analyses{stage="stack"} 0.0',
        "lesionlens_dead_letters 0.0",
        *(f'lesionlens_circuit_open{{network="{name}"}} 0.0' for name in NETWORKS),
    ):
        assert line in metrics.text
    assert address not in metrics.text


def test_invented_methods_are_counted_as_one(client):
    for number in range(3):
        assert client.open("/v1/analyses", method=f"INVENTED{number}").status_code == 405
    metrics = client.get("/metrics").text
    assert 'lesionlens_http_requests_total{method="other",route="unknown",status="405"} 3.0' in metrics
    assert "INVENTED" not in metrics


def test_metrics_are_told_without_the_database(settings, networks):
    away = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:9/nowhere"})
    metrics = create_app(away, make_parts(away, networks)).test_client().get("/metrics")
    assert metrics.status_code == 200
    assert "lesionlens_backlog" not in metrics.text


def test_logs_do_not_hold_whole_ids(client, upload, capsys):
    analysis_id = upload().json["id"]
    client.get(f"/v1/analyses/{analysis_id}")
    client.delete(f"/v1/analyses/{analysis_id}")
    printed = capsys.readouterr()
    assert "/v1/analyses/<string:analysis_id>" in printed.out + printed.err
    assert analysis_id not in printed.out + printed.err


def test_polls_go_on_without_redis(settings, networks):
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"})
    client = create_app(away, make_parts(away, networks)).test_client()
    assert client.get(f"/v1/analyses/{uuid.uuid4()}").status_code == 404


def test_the_models_are_described(client, settings):
    stack = {
        "version": "3",
        "networks": [{"name": name, "version": 1, "sha256": "ab" * 32} for name in NETWORKS],
        "malignant": {"coefficients": [1, 1, 1, 1], "intercept": 0},
        "classes": {"names": ["mel"], "coefficients": [], "intercepts": []},
        "bands": {"low_below": 0.1, "high_from": 0.5, "sensitivity_low": 0.95, "sensitivity_high": 0.9},
        "test_time_augmentation": 1,
        "out_of_distribution": None,
        "metrics": {"auc": 0.9},
    }
    stack["networks"][0]["turns"] = 4
    settings.models_dir.mkdir()
    (settings.models_dir / "stack.json").write_text(json.dumps(stack))
    answer = client.get("/v1/models")
    assert ModelsSchema().validate(answer.json) == {}
    assert answer.json["model_version"] == "3"
    assert [network["test_time_augmentation"] for network in answer.json["networks"]] == [4, 1, 1, 1]
    assert answer.json["bands"]["high_from"] == 0.5
    assert answer.json["metrics"] == {"auc": 0.9}
    assert answer.json["age"] is False


@pytest.mark.parametrize("stack", [None, "{", '{"version": "1"}'], ids=["missing", "damaged", "incomplete"])
def test_models_that_cannot_be_described_are_a_problem(client, settings, stack):
    settings.models_dir.mkdir()
    if stack is not None:
        (settings.models_dir / "stack.json").write_text(stack)
    answer = client.get("/v1/models")
    assert (answer.status_code, answer.json["type"]) == (503, "/problems/models-unavailable")
