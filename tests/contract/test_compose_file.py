"""What holds for every container of the compose files, those of the profiles too, which no test starts."""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
Service = dict[str, Any]
Services = dict[str, Service]

#: Images that hold nothing that could ask the process how it is.
UNASKABLE = {"otel-collector"}
#: It shares out all cores that it finds among the four networks.
UNLIMITED_CORES = {"serving"}
#: Reached from outside, on an address of the host.
PUBLISHED = {"gateway", "grafana", "jaeger", "flower"}
#: Calls out, and so has a way there, without being reached.
CALLS_OUT = {"webhooks"}
DATA = {"postgres", "redis", "minio", "bucket"}


class _Loader(yaml.SafeLoader):
    """Reads Compose's own tags as what they hold."""


_Loader.add_constructor("!override", lambda loader, node: loader.construct_mapping(node, deep=True))
_Loader.add_constructor("!reset", lambda loader, node: None)


def _read(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.load((ROOT / name).read_text(), _Loader)
    return read


@pytest.fixture
def services() -> Services:
    """All services of docker-compose.yml, and the embedded model server."""
    own: Services = _read("docker-compose.yml")["services"]
    return own | {"serving": _read("compose.embedded.yml")["services"]["serving"]}


def findings(services: Mapping[str, Service]) -> list[str]:
    """Everything that is not as it should be."""
    return [f"{name}: {what}" for name, service in services.items() for what in _of(name, service, services)]


def _of(name: str, service: Service, services: Mapping[str, Service]) -> Iterator[str]:
    yield from _hardened(service)
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    wanted = {"memory"} if name in UNLIMITED_CORES else {"memory", "cpus"}
    if missing := sorted(wanted - set(limits)):
        yield f"no limit of {', '.join(missing)}"
    # Whoever deploys gives our own images their tag (TAG).
    if not service["image"].startswith("lesionlens/") and not re.search(r":[^:/]*\d[^:/]*$", service["image"]):
        yield f"{service['image']} is not pinned by a version"
    yield from _checked(name, service)
    yield from _waits(service, services)
    yield from _networks(name, service)
    for variable, value in service.get("environment", {}).items():
        if variable.endswith("_FILE"):
            if str(value).removeprefix("/run/secrets/") not in service.get("secrets", []):
                yield f"{variable} names a secret that the container does not get"
        elif re.search(r"PASSWORD|SECRET|_KEYS?(_ID)?$|(DATABASE|REDIS|BROKER)_URL", variable):
            yield f"{variable} stands in the environment of the container"


def _hardened(service: Service) -> Iterator[str]:
    said = {
        "init": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
    }
    for key, value in said.items():
        if service.get(key) != value:
            yield f"{key} is not {value}"
    if service.get("restart") not in {"unless-stopped", "no"}:
        yield "nobody starts it again"


def _checked(name: str, service: Service) -> Iterator[str]:
    """One that runs on has a check of its own, or its image's; one that ends has none."""
    check = service.get("healthcheck")
    if service["restart"] == "no":
        if check != {"disable": True}:
            yield "it ends, and its image's health check is not switched off"
    elif check is not None:
        if not {"test", "interval", "timeout", "retries"} <= set(check):
            yield "its health check leaves something to chance"
    elif "build" in service:
        if "HEALTHCHECK" not in (ROOT / service["build"]["dockerfile"]).read_text():
            yield "neither it nor its image has a health check"
    elif name not in UNASKABLE:
        yield "it has no health check"


def _waits(service: Service, services: Mapping[str, Service]) -> Iterator[str]:
    for other, how in service.get("depends_on", {}).items():
        ends = services[other]["restart"] == "no"
        condition = how["condition"]
        if ends != (condition == "service_completed_successfully"):
            yield f"it waits for {other} to be {condition}"


def _networks(name: str, service: Service) -> Iterator[str]:
    networks = set(service["networks"])
    if bool(service.get("ports")) != (name in PUBLISHED):
        yield "it is published, or is not"
    if ("front" in networks) != (name in PUBLISHED | CALLS_OUT):
        yield "the network front is not for it, or is"
    if name in DATA and networks != {"data"}:
        yield "data is in more than the network data"
    if name.startswith("serving") and networks != {"back"}:
        yield "a network's server is in more than the network back"
    for port in service.get("ports", []):
        if not port.startswith(("127.0.0.1:", "${LISTEN:-127.0.0.1}:")):
            yield f"{port} is published on every address"


def test_every_container_is_as_it_should_be(services: Services) -> None:
    assert findings(services) == []


def test_every_secret_is_a_file_that_make_secrets_makes(tmp_path: Path) -> None:
    subprocess.run(["sh", str(ROOT / "secrets.sh"), str(tmp_path / "secrets")], check=True, capture_output=True)
    compose = _read("docker-compose.yml")

    made = {file.name for file in (tmp_path / "secrets").iterdir()}
    assert {name: secret["file"] for name, secret in compose["secrets"].items()} == {
        name: f"./secrets/{name}" for name in made
    }
    used = {name for service in compose["services"].values() for name in service.get("secrets", [])}
    assert used == made
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_no_secret_ends_with_a_newline(tmp_path: Path) -> None:
    """KEDA hands `database_url` on as it stands in the Secret, and its driver refuses an address with a newline."""
    subprocess.run(["sh", str(ROOT / "secrets.sh"), str(tmp_path)], check=True, capture_output=True)

    assert [file.name for file in tmp_path.iterdir() if "\n" in file.read_text()] == []


def test_what_is_there_already_stays(tmp_path: Path) -> None:
    script = ["sh", str(ROOT / "secrets.sh"), str(tmp_path)]
    subprocess.run(script, check=True, capture_output=True)
    (tmp_path / "blob_keys").write_text("2026-11:key\n")
    before = {file.name: file.read_text() for file in tmp_path.iterdir()}

    assert subprocess.run(script, check=True, capture_output=True).stdout == b""

    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == before


STARTS_CELERY = [
    "docker-compose.yml",
    "k8s/base/beat.yaml",
    "services/preprocessor/Dockerfile",
    "services/stacker/__main__.py",
]


@pytest.mark.parametrize("file", STARTS_CELERY)
def test_celery_prints_no_banner_between_the_lines_of_the_log(file: str) -> None:
    after = re.findall(r"\bcelery\"?, \"?([\w-]+)", (ROOT / file).read_text())

    assert after
    assert set(after) == {"--quiet"}


def test_the_gateway_has_the_room_that_it_has_in_a_cluster(services: Services) -> None:
    (gateway,) = [
        document
        for document in yaml.safe_load_all((ROOT / "k8s/base/gateway.yaml").read_text())
        if document["kind"] == "Deployment"
    ]
    pod = gateway["spec"]["template"]["spec"]
    (room,) = [volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if volume["name"] == "tmp"]
    memory = pod["containers"][0]["resources"]["limits"]["memory"]

    def here(quantity: str) -> str:
        return quantity.removesuffix("i").lower()

    assert services["gateway"]["tmpfs"] == [f"/tmp:size={here(room)}"]
    assert services["gateway"]["deploy"]["resources"]["limits"]["memory"] == here(memory)


def test_a_new_release_creates_the_server_of_every_network_anew() -> None:
    """TensorFlow Serving keeps a network that it has loaded, and Compose a container that is configured as before."""
    documented = re.search(
        r"^  docker compose up .*--force-recreate (.*)$", (ROOT / "docs/deploy.md").read_text(), re.MULTILINE
    )
    services = _read("docker-compose.yml")["services"]

    assert documented
    assert set(documented[1].split()) == {
        name for name, service in services.items() if service["image"].startswith("tensorflow/serving:")
    }


def test_what_is_to_be_run_in_the_gateway_s_container_is_in_its_image() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    commands = {
        command
        for document in documents
        for command in re.findall(r"\bgateway (?:-- )?python -m lesionlens ([a-z-]+)", document.read_text())
    }
    dockerfile = (ROOT / "services/gateway/Dockerfile").read_text()

    assert commands >= {"backup", "dead-letters", "keys"}
    for command in commands:
        assert f"lesionlens/{command.replace('-', '_')}.py" in dockerfile


def test_what_asks_the_database_is_run_where_it_is_reached() -> None:
    """In a container or, beside `make run`, from the folder of the checkout; `lesionlens` alone reaches none."""
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]

    bare = [
        f"{document.name}: {line}"
        for document in documents
        for line in document.read_text().splitlines()
        if re.search(r"(?<!-m )(?<!bin/)\blesionlens (keys|dead-letters) [a-z]", line)
    ]

    assert bare == []


def test_a_network_s_server_has_its_callers_dial_anew() -> None:
    """Else a replica that is added is never asked: a channel looks names up when a connection ends."""
    compose = _read("docker-compose.yml")["services"]
    flags = {name: " ".join(service["command"]) for name, service in compose.items() if name.startswith("serving-")}
    flags["serving/Dockerfile"] = (ROOT / "serving/Dockerfile").read_text()

    assert len(flags) == 5
    for where, said in flags.items():
        ages = re.findall(r"--grpc_channel_arguments=\S*\bgrpc\.max_connection_age_ms=(\d+)", said)
        assert ages == ["60000"], where


def test_the_embedded_server_is_known_to_all_that_ask_a_network() -> None:
    compose, embedded = _read("docker-compose.yml"), _read("compose.embedded.yml")
    ours = {name for name, s in compose["services"].items() if "MOBILENET_SERVING_URL" in s.get("environment", {})}
    told = {
        name for name, s in embedded["services"].items() if s and "MOBILENET_SERVING_URL" in s.get("environment", {})
    }
    taken_out = {name for name, service in embedded["services"].items() if service is None}

    assert told == ours
    assert taken_out == {name for name in compose["services"] if name.startswith("serving-")}
    for name, service in compose["services"].items():
        waits = (embedded["services"].get(name) or {}).get("depends_on", service.get("depends_on", {}))
        assert name in taken_out or not set(waits) & taken_out


def test_the_embedded_server_gets_the_folder_that_the_setting_names() -> None:
    """In the container it lies elsewhere: what `.env` says is mounted there, and without it what was published."""
    serving = _read("compose.embedded.yml")["services"]["serving"]
    folder = serving["environment"]["CALIBRATED_DIR"]

    assert f"${{CALIBRATED_DIR:-./serving/models}}:{folder}:ro" in serving["volumes"]


def _no_health(services: Services) -> None:
    del services["redis"]["healthcheck"]


def _checked_one_shot(services: Services) -> None:
    del services["migrate"]["healthcheck"]


def _wrong_condition(services: Services) -> None:
    services["gateway"]["depends_on"]["migrate"]["condition"] = "service_started"


def _no_limit(services: Services) -> None:
    del services["jaeger"]["deploy"]


def _writable(services: Services) -> None:
    services["grafana"]["read_only"] = False


def _latest(services: Services) -> None:
    services["prometheus"]["image"] = "prom/prometheus:latest"


def _password(services: Services) -> None:
    services["postgres"]["environment"]["POSTGRES_PASSWORD"] = "x"


def _no_secret(services: Services) -> None:
    services["postgres"]["secrets"] = []


def _exposed(services: Services) -> None:
    services["flower"]["ports"] = ["5555:5555"]


def _published_store(services: Services) -> None:
    services["redis"]["ports"] = ["127.0.0.1:6379:6379"]


def _data_in_front(services: Services) -> None:
    services["postgres"]["networks"] = ["data", "front"]


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (_no_health, "redis: it has no health check"),
        (_checked_one_shot, "migrate: it ends, and its image's health check is not switched off"),
        (_wrong_condition, "gateway: it waits for migrate to be service_started"),
        (_no_limit, "jaeger: no limit of cpus, memory"),
        (_writable, "grafana: read_only is not True"),
        (_latest, "prometheus: prom/prometheus:latest is not pinned by a version"),
        (_password, "postgres: POSTGRES_PASSWORD stands in the environment of the container"),
        (_no_secret, "postgres: POSTGRES_PASSWORD_FILE names a secret that the container does not get"),
        (_exposed, "flower: 5555:5555 is published on every address"),
        (_published_store, "redis: it is published, or is not"),
        (_data_in_front, "postgres: data is in more than the network data"),
    ],
)
def test_a_planted_mistake_is_caught(services: Services, plant: Callable[[Services], None], sentence: str) -> None:
    changed = copy.deepcopy(services)

    plant(changed)

    assert sentence in findings(changed)
