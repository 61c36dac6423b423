"""Dashboards and alert rules ask for numbers that the processes really give."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.analysis.record.kinds import OUT_OF_TIME, TOO_MANY_DELIVERIES
from services.preprocessor import prepare_analysis
from services.stacker import stack_analysis
from services.stacker.look import Unanswered

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "observability"
DASHBOARDS = sorted((FOLDER / "grafana/dashboards").glob("*.json"))
#: What Prometheus itself adds.
ITS_OWN = {"up"}

#: Every process' metrics with one thing counted in each, and the gateway's exposition of all of them.
COUNT_ONE_OF_EACH = """
import sys
from types import SimpleNamespace
from services.analysis.circuits import CircuitState
from services.analysis.metrics import NetworkMetrics, ShadowMetrics, StageMetrics
from services.analysis.record import Backlog
from services.analysis.states import STAGES
from services.gateway.metrics import Metrics

stages, networks, shadow = StageMetrics(), NetworkMetrics(), ShadowMetrics()
for outcome in ("rejected", "failed"):
    with stages.stage("prepare") as in_hand:
        in_hand.ended(outcome, "blurred")
networks.probability.observe(0.5)
networks.strangeness.observe(0.5)
networks.drift.set(1.0)
shadow.answers.labels("low", "high").inc()
shadow.logits.labels("mobilenet").observe(-0.5)
shadow.probability.observe(0.1)
gateway = Metrics(
    SimpleNamespace(backlog=lambda: [Backlog(stage, 1, 2.0) for stage in STAGES]),
    SimpleNamespace(count=lambda: 1),
    SimpleNamespace(states=lambda: {"mobilenet": CircuitState.OPEN}),
)
gateway.requests.labels("POST", "/v1/analyses", 202).inc()
gateway.durations.labels("POST", "/v1/analyses").observe(0.1)
gateway.uploads_accepted.inc()
gateway.uploads_refused.labels("too_large").inc()
sys.stdout.buffer.write(gateway.exposition())
"""


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Name of each series of a scrape → the names of its labels."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path_factory.mktemp("metrics"))}
    done = subprocess.run([sys.executable, "-c", COUNT_ONE_OF_EACH], env=environment, check=True, capture_output=True)
    series: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", done.stdout.decode(), re.MULTILINE):
        series.setdefault(name, set()).update(re.findall(r"(\w+)=", labels))
    return series


WHAT_STANDS_BEFORE_ANYTHING_HAPPENED = """
import sys
from prometheus_client import generate_latest
from services.analysis.metrics import StageMetrics, shared_registry

StageMetrics()
sys.stdout.buffer.write(generate_latest(shared_registry()))
"""


def test_failures_are_counted_from_nought_so_that_the_first_one_is_an_increase(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command = [sys.executable, "-c", WHAT_STANDS_BEFORE_ANYTHING_HAPPENED]
    done = subprocess.run(command, env=environment, check=True, capture_output=True)

    at_nought = r'^lesionlens_failures_total\{reason="(.*)",stage="(.*)"\} 0\.0$'
    counted = re.findall(at_nought, done.stdout.decode(), re.MULTILINE)

    given_up = {TOO_MANY_DELIVERIES, OUT_OF_TIME}
    reasons = {"prepare": given_up | {prepare_analysis.IMAGE_MISSING},
               "stack": given_up | {stack_analysis.IMAGE_MISSING, Unanswered(()).reason}}  # fmt: skip
    assert set(counted) == {(reason.code, stage) for stage, those in reasons.items() for reason in those}


def asked() -> list[tuple[str, str]]:
    """Where an expression stands, and the expression."""
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())
    found = [(rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"]]
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            found += [(f"{file.stem}: {panel['title']}", target["expr"]) for target in panel["targets"]]
    return found


def unknown(expression: str, scraped: dict[str, set[str]]) -> set[str]:
    """Series and labels in `expression` that no scrape has."""
    missing = set()
    for name, matchers in re.findall(r"\b(lesionlens_\w+|up)\b(?:\{(.*?)\})?", expression):
        if name in ITS_OWN:
            continue
        if name not in scraped:
            missing.add(name)
        else:
            missing |= set(re.findall(r"(\w+)\s*[=!]", matchers)) - scraped[name]
    known = set().union(*scraped.values())
    for grouped in re.findall(r"\bby \((.*?)\)", expression):
        missing |= set(re.split(r",\s*", grouped)) - known
    return missing


@pytest.mark.parametrize(("where", "expression"), asked(), ids=lambda value: value[:40])
def test_what_is_asked_for_is_there(where: str, expression: str, scraped: dict[str, set[str]]) -> None:
    assert re.search(r"lesionlens_\w+|\bup\b", expression), where
    assert unknown(expression, scraped) == set(), where


@pytest.mark.parametrize(
    ("mistake", "missing"),
    [
        ("sum(rate(lesionlens_rejected_total[5m]))", "lesionlens_rejected_total"),
        ('lesionlens_http_requests_total{code="500"}', "code"),
        ("max by (queue) (lesionlens_backlog_analyses)", "queue"),
    ],
)
def test_a_planted_mistake_is_caught(mistake: str, missing: str, scraped: dict[str, set[str]]) -> None:
    assert unknown(mistake, scraped) == {missing}


def test_every_series_of_the_workers_is_looked_at(scraped: dict[str, set[str]]) -> None:
    looked_at = " ".join(expression for _, expression in asked())
    families = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for name in scraped
        if name.startswith("lesionlens_") and not name.endswith("_created")
    }
    unseen = {family for family in families if not re.search(rf"\b{family}(_bucket|_count)?\b", looked_at)}
    assert {family for family in unseen if "shadow" not in family} == set()


def test_every_alert_is_explained_to_whoever_it_wakes() -> None:
    manual = (ROOT / "docs/operate.md").read_text()
    headings = set(re.findall(r"^### (\w+)$", manual, re.MULTILINE))
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())
    for rule in [rule for group in rules["groups"] for rule in group["rules"]]:
        assert rule["alert"] in headings
        assert rule["annotations"]["what_to_do"] == f"docs/operate.md#{rule['alert'].lower()}"
        assert rule["annotations"]["summary"]


ALERT_TESTS = Path(__file__).with_name("alerts_test.yml")
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (Debian: apt-get install prometheus)"
)


def test_every_alert_is_tried_when_all_is_well_and_when_nothing_is() -> None:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    tried = [
        (test["alertname"], bool(test.get("exp_alerts")))
        for case in yaml.safe_load(ALERT_TESTS.read_text())["tests"]
        for test in case["alert_rule_test"]
    ]

    assert set(tried) == {(alert, fires) for alert in alerts for fires in (True, False)}


@needs_promtool
def test_an_alert_fires_when_something_is_wrong_and_only_then() -> None:
    done = subprocess.run(["promtool", "test", "rules", str(ALERT_TESTS)], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_an_alert_with_a_mistake_is_caught(tmp_path: Path) -> None:
    """The same with the threshold of one rule changed."""
    rules = (FOLDER / "alerts.yml").read_text().replace("lesionlens_dead_letters) > 0", "lesionlens_dead_letters) > 5")
    (tmp_path / "alerts.yml").write_text(rules)
    tests = ALERT_TESTS.read_text().replace("../../observability/alerts.yml", "alerts.yml")
    (tmp_path / "tests.yml").write_text(tests)
    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "tests.yml")], text=True, capture_output=True, check=False
    )
    assert done.returncode != 0
    assert "DeadLetters" in done.stdout + done.stderr


@needs_promtool
def test_prometheus_takes_its_files() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", str(FOLDER / "prometheus.yml")], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _promql(expressions: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """What Prometheus says of these expressions, handed to it as rules."""
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(expressions)
    ]
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    words = ["promtool", "check", "rules", str(folder / "rules.yml")]
    return subprocess.run(words, text=True, capture_output=True, check=False)


@needs_promtool
def test_prometheus_understands_every_panel(tmp_path: Path) -> None:
    done = _promql([expression for _, expression in asked()], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_a_panel_with_a_mistake_is_caught(tmp_path: Path) -> None:
    assert _promql(["sum by (status) (rate(lesionlens_http_requests_total))"], tmp_path).returncode != 0


def test_grafana_is_told_where_its_sources_and_dashboards_are() -> None:
    sources = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/sources.yaml").read_text())["datasources"]
    files = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/files.yaml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert f"./observability/grafana/dashboards:{files[0]['options']['path']}:ro" in compose["grafana"]["volumes"]
    for source in sources:
        assert re.fullmatch(r"http://(\w+):\d+", source["url"])[1] in compose
    known = {source["uid"] for source in sources}
    for file in DASHBOARDS:
        dashboard = json.loads(file.read_text())
        assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} <= known
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.parametrize("files", [("docker-compose.yml",), ("docker-compose.yml", "compose.embedded.yml")])
def test_prometheus_asks_services_that_exist_where_they_answer(files: tuple[str, ...]) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services, mounts = _together(files)
    jobs = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    targets = [target for job in jobs for entry in job.get("static_configs", []) for target in entry["targets"]]
    targets += [f"{name}:{e['port']}" for job in jobs for e in job.get("dns_sd_configs", []) for name in e["names"]]
    listed = [name for job in jobs for entry in job.get("file_sd_configs", []) for name in entry["files"]]
    for file in (mounts[f"/etc/prometheus/{name}"] for name in listed):
        targets += [target for group in yaml.safe_load((ROOT / file).read_text()) for target in group["targets"]]
    settings = compose["x-settings"]
    ports = {"gateway": settings["PORT"], "preprocessor": settings["METRICS_PORT"], "stacker": settings["METRICS_PORT"]}
    for target in targets:
        name, _, port = target.partition(":")
        service = services[name]
        assert set(service["networks"]) & set(services["prometheus"]["networks"]), target
        dockerfile = (ROOT / service["build"]["dockerfile"]).read_text() if "build" in service else ""
        asked = f"--rest_api_port={port}" in service.get("command", []) or f'"--metrics-port", "{port}"' in dockerfile
        assert port == ports.get(name) or asked, target
    # Every server of networks is asked, and none that is not there, which would be an alert for ever.
    assert {target.partition(":")[0] for target in targets} == {"gateway", "preprocessor", "stacker"} | {
        name for name in services if name.startswith("serving")
    }


def _together(files: tuple[str, ...]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Services of compose files on top of one another, and what Prometheus has mounted where."""

    class Loader(yaml.SafeLoader):
        """Knows Compose's `!override` and `!reset`."""

    Loader.add_constructor("!override", lambda loader, node: loader.construct_mapping(node, deep=True))
    Loader.add_constructor("!reset", lambda loader, node: None)
    services: dict[str, dict[str, Any]] = {}
    mounts: dict[str, str] = {}
    for file in files:
        for name, service in yaml.load((ROOT / file).read_text(), Loader)["services"].items():
            if service is None:
                del services[name]
            else:
                services[name] = {**services.get(name, {}), **service}
        volumes = services["prometheus"]["volumes"]
        mounts |= {to: source for source, to in (volume.split(":")[:2] for volume in volumes)}
    return services, mounts
