"""The Kubernetes manifests: rendered, valid, and fitting one another, the compose file and the application."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from sqlalchemy import text

from services.analysis.results import NETWORKS
from services.analysis.settings import load_settings
from services.gateway.app import create_app
from services.gateway.policy import policy_of
from services.preprocessor.cell.cell import MEMORY_BYTES

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ("minimal", "production", "production-keda")
#: The oldest and the newest release that docs/deploy.md names.
VERSIONS = ("1.32", "1.37")
#: What the files of the metrics may take of the gateway's /tmp.
METRICS_BYTES = 64 << 20

_spec = spec_from_file_location("cross_checks", Path(__file__).with_name("cross_checks.py"))
assert _spec is not None
assert _spec.loader is not None
checks = module_from_spec(_spec)
sys.modules[_spec.name] = checks  # its dataclass asks for the module by name
_spec.loader.exec_module(checks)


def _render(overlay: str) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        pytest.fail("kubectl is missing (Debian 13: apt-get install kubernetes-client)")
    folder = ROOT / "k8s" / "overlays" / overlay
    done = subprocess.run(["kubectl", "kustomize", str(folder)], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"kustomize warns: {done.stderr}"
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module", params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return _render(request.param)


@pytest.fixture(scope="module")
def minimal() -> list[dict[str, Any]]:
    return _render("minimal")


@pytest.fixture(scope="module")
def production() -> list[dict[str, Any]]:
    return _render("production")


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Any:
    secrets = tmp_path_factory.mktemp("deploy") / "secrets"
    subprocess.run(["sh", "secrets.sh", str(secrets)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    documented = {
        name: frozenset(re.findall(r"--from-file=(\w+)=", rest))
        for name, rest in re.findall(
            r"kubectl -n lesionlens create secret \S+ (\S+)(.*)", (ROOT / "docs/deploy.md").read_text()
        )
    }
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    images = {service["image"].partition(":$")[0] for service in compose["services"].values()}
    base = re.search(r"^FROM (\S+)$", (ROOT / "serving/Dockerfile").read_text(), re.MULTILINE)
    assert base is not None
    assert base[1] in images, "serving/Dockerfile and docker-compose.yml use different releases of TensorFlow Serving"
    settings = load_settings(
        {"DATABASE_URL": "postgresql://nowhere", "REDIS_URL": "redis://nowhere", "BLOB_STORE_URL": secrets.as_uri()}
    )
    app = create_app(settings)
    routes: dict[bool, set[str]] = {True: set(), False: set()}
    for rule in app.url_map.iter_rules():
        policy = policy_of(app.view_functions[rule.endpoint])
        routes[policy is not None and policy.auth == "operator"].add(rule.rule)
    return checks.Surroundings(
        secret_keys={
            **documented,
            "lesionlens": frozenset(file.name for file in secrets.iterdir() if file.is_file()),
        },
        images=frozenset({*images, "lesionlens/serving"}),
        public_routes=frozenset(routes[False]),
        operator_routes=frozenset(routes[True]),
        scripts=frozenset(
            {
                *(f"/etc/tensorflow-serving/{file.name}" for file in (ROOT / "serving/tensorflow-serving").iterdir()),
                "services.webhooks",
                *(
                    ".".join(file.relative_to(ROOT).with_suffix("").parts)
                    for file in (ROOT / "services/analysis").glob("*.py")
                ),
            }
        ),
        modules=frozenset(
            ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
            for package in ("services", "lesionlens")
            for file in (ROOT / package).rglob("*.py")
        ),
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_manifest_is_valid(rendered, version: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for document in rendered:
            if document["apiVersion"].startswith("keda.sh/"):
                continue  # not Kubernetes' own: cross_checks looks at these
            kubernetes_validate.validate(document, version, strict=True)


def test_the_parts_fit(rendered, around) -> None:
    assert checks.findings(rendered, around) == []


def test_postgres_and_redis_are_where_the_secrets_say(minimal) -> None:
    script = (ROOT / "secrets.sh").read_text()
    asked = set(re.findall(r"@(\w+):(\d+)", script))
    services = checks.of_kind(minimal, "Service")

    assert asked == {("postgres", "5432"), ("redis", "6379")}
    assert asked <= {(service["metadata"]["name"], str(service["spec"]["ports"][0]["port"])) for service in services}


SERVINGS = [f"serving-{network}" for network in NETWORKS]
TALKS = [
    *(
        (source, "postgres", 5432)
        for source in ("gateway", "preprocessor", "stacker", "webhooks", "migrate", "backup", "retention")
    ),
    *((source, "redis", 6379) for source in ("gateway", "preprocessor", "stacker", "beat")),
    *((source, serving, 8500) for source in ("gateway", "stacker") for serving in SERVINGS),
]


@pytest.mark.parametrize(("source", "target", "port"), TALKS)
def test_who_has_to_talk_may(minimal, source: str, target: str, port: int) -> None:
    assert checks.may_talk(minimal, source, target, port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        ("preprocessor", "serving-mobilenet", 8500),
        ("serving-mobilenet", "postgres", 5432),
        ("serving-mobilenet", "redis", 6379),
        ("serving-mobilenet", "serving-densenet121", 8500),
        ("beat", "postgres", 5432),
        ("webhooks", "redis", 6379),
        ("webhooks", "serving-mobilenet", 8500),
        ("preprocessor", "gateway", 8000),
        ("gateway", "postgres", 22),
    ],
)
def test_who_has_not_to_talk_may_not(minimal, source: str, target: str, port: int) -> None:
    assert not checks.may_talk(minimal, source, target, port)


STORES_RECORD = ("gateway", "preprocessor", "stacker", "webhooks", "migrate", "retention", "backup")
S3 = "lesionlens-s3"
STORES_IMAGES = ("gateway", "preprocessor", "stacker", "retention", "backup")


@pytest.mark.parametrize(
    ("source", "port"), [*((name, 5432) for name in STORES_RECORD), *((name, 443) for name in STORES_IMAGES)]
)
def test_who_has_to_leave_the_cluster_may(production, source: str, port: int) -> None:
    assert checks.may_leave(production, source, port)


@pytest.mark.parametrize(
    ("source", "port"),
    [("beat", 443), ("beat", 5432), ("migrate", 443), ("migrate", 6379), ("webhooks", 6379), ("backup", 6379)],
)
def test_who_has_nothing_to_do_with_a_store_does_not_reach_it(production, source: str, port: int) -> None:
    assert not checks.may_leave(production, source, port)


def test_webhooks_reach_the_internet_and_no_private_network(rendered) -> None:
    assert checks.may_leave(rendered, "webhooks", 443)
    assert checks.may_leave(rendered, "webhooks", 443, "2001:db8::9")
    for private in ("10.0.0.9", "169.254.169.254", "172.16.0.9", "192.168.0.9", "fd00::9"):
        assert not checks.may_leave(rendered, "webhooks", 443, private), private


@pytest.mark.parametrize("source", SERVINGS)
def test_a_network_never_leaves_the_cluster(production, source: str) -> None:
    assert not any(checks.may_leave(production, source, port) for port in (80, 443, 5432, 6379))


@pytest.mark.parametrize("name", STORES_IMAGES)
def test_who_has_to_do_with_images_has_the_key_of_their_store(production, name: str) -> None:
    (pod,) = [pod for owner, pod in checks.pods(production) if owner == name]

    (mounted,) = [v["secret"]["items"] for v in pod["spec"]["volumes"] if v.get("secret", {}).get("secretName") == S3]
    named = {entry["name"] for entry in pod["spec"]["containers"][0]["env"]}
    assert {item["key"] for item in mounted} == {"access_key_id", "secret_access_key"}
    assert named == {"S3_ACCESS_KEY_ID_FILE", "S3_SECRET_ACCESS_KEY_FILE"}


def test_a_backup_is_made_every_night_and_kept_on_a_volume(rendered) -> None:
    job = _named(rendered, "CronJob", "backup")
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (folder,) = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "backups"]
    script = pod["containers"][0]["command"][-1]

    assert job["spec"]["schedule"].split()[2:] == ["*", "*", "*"]
    assert f"{folder}/lesionlens-" in script
    assert "-mtime +7 -delete" in script, "a backup holds photographs of people, and is not kept for ever"
    assert subprocess.run(["sh", "-n", "-c", script], check=False).returncode == 0


def test_a_worker_is_given_longer_than_its_longest_task(rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://nowhere")
    from services.preprocessor import worker as preprocessor
    from services.stacker import worker as stacker

    grace = {name: pod["spec"].get("terminationGracePeriodSeconds", 30) for name, pod in checks.pods(rendered)}

    assert grace["preprocessor"] > preprocessor.TIME_LIMIT_S + preprocessor.KILL_AFTER_S
    assert grace["stacker"] > stacker.TIME_LIMIT_S + stacker.KILL_AFTER_S


SCALED = ("gateway", "preprocessor", "stacker", *SERVINGS)


def test_a_process_is_asked_whether_it_started_lives_and_is_ready(rendered) -> None:
    timing = {"periodSeconds", "timeoutSeconds", "failureThreshold"}
    for document in checks.of_kind(rendered, "Deployment", "StatefulSet"):
        (container,) = document["spec"]["template"]["spec"]["containers"]
        start, live, ready = (container[kind] for kind in ("startupProbe", "livenessProbe", "readinessProbe"))
        assert start != live != ready != start, container["name"]
        if container["name"] in SCALED:
            # Ready asks for what stands behind it, too.
            asked = [{key: probe[key] for key in probe.keys() - timing} for probe in (live, ready)]
            assert asked[0] != asked[1], container["name"]


def test_calls_under_way_are_finished_before_a_pod_ends(rendered) -> None:
    for document in checks.of_kind(rendered, "Deployment"):
        spec = document["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        if document["metadata"]["name"] == "gateway" or document["metadata"]["name"].startswith("serving-"):
            # Those who call it hear a moment later than it does that it ends.
            _, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
            assert 0 < int(seconds) < spec["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("overlay", ["production", "production-keda"])
@pytest.mark.parametrize("name", SCALED)
def test_what_several_nodes_run_is_scaled_spread_and_taken_away_one_by_one(overlay: str, name: str) -> None:
    documents = _render(overlay)
    deployment = _named(documents, "Deployment", name)
    template = deployment["spec"]["template"]
    (spread,) = template["spec"]["topologySpreadConstraints"]
    (budget,) = [
        budget["spec"]
        for budget in checks.of_kind(documents, "PodDisruptionBudget")
        if checks.selects(budget["spec"]["selector"], template["metadata"]["labels"])
    ]
    (scaler,) = [
        scaler["spec"]
        for scaler in checks.of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject")
        if scaler["spec"]["scaleTargetRef"]["name"] == name
    ]

    assert "replicas" not in deployment["spec"], "`kubectl apply` would take the autoscaler's word back"
    assert scaler.get("minReplicas", scaler.get("minReplicaCount")) >= 2
    assert budget["maxUnavailable"] == 1
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert checks.selects(spread["labelSelector"], template["metadata"]["labels"])
    assert template["spec"]["priorityClassName"] == "lesionlens"


def test_the_ingress_speaks_tls_and_lets_the_largest_batch_through(production) -> None:
    ingress = _named(production, "Ingress", "gateway")
    (config,) = checks.of_kind(production, "ConfigMap")
    largest = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]

    assert {host for entry in ingress["spec"]["tls"] for host in entry["hosts"]} == {
        rule["host"] for rule in ingress["spec"]["rules"]
    }
    assert int(largest.removesuffix("m")) * 2**20 > int(config["data"]["MAX_BATCH_BYTES"])


def test_the_gateway_has_room_for_what_all_its_threads_take_in(rendered) -> None:
    (config,) = checks.of_kind(rendered, "ConfigMap")
    batch, photograph, threads = (
        int(config["data"][name]) for name in ("MAX_BATCH_BYTES", "MAX_UPLOAD_BYTES", "GATEWAY_THREADS")
    )
    pod = _gateway(rendered)
    (room,) = [volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if volume["name"] == "tmp"]
    memory = pod["containers"][0]["resources"]["limits"]["memory"]

    taken_in = batch + (threads - 1) * photograph
    assert checks.quantity(room) >= taken_in + METRICS_BYTES
    assert checks.quantity(memory) >= checks.quantity(room) + taken_in + 2 * MEMORY_BYTES, "read once more; two cells"


def test_prometheus_finds_all_that_count_as_the_documentation_says(rendered) -> None:
    (block,) = re.findall(r"```yaml\n(scrape_configs:.*?)```", (ROOT / "docs/operate.md").read_text(), re.DOTALL)
    (job,) = yaml.safe_load(block)["scrape_configs"]
    (keep,) = [entry["regex"] for entry in job["relabel_configs"] if entry.get("action") == "keep"]
    found = {}
    for name, pod in checks.pods(rendered):
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", []):
                if re.fullmatch(keep, port["name"]):
                    found[name] = port["containerPort"]

    assert found == {"gateway": 8000, "preprocessor": 9100, "stacker": 9100, **dict.fromkeys(SERVINGS, 8501)}
    labels = {name: pod["metadata"]["labels"] for name, pod in checks.pods(rendered)}
    for name, port in found.items():
        assert any(
            port in {entry["port"] for entry in rule["ports"]}
            and {"kubernetes.io/metadata.name": "monitoring"}
            in [peer.get("namespaceSelector", {}).get("matchLabels") for peer in rule["from"]]
            for policy in checks.of_kind(rendered, "NetworkPolicy")
            if checks.selects(policy["spec"]["podSelector"], labels[name])
            for rule in policy["spec"].get("ingress", [])
        ), name


# --- mistakes that must be caught ------------------------------------------------------------------------------------


def _named(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


def _gateway(documents: list[dict[str, Any]]) -> dict[str, Any]:
    return _named(documents, "Deployment", "gateway")["spec"]["template"]["spec"]


def _wrong_selector(documents):
    _named(documents, "Service", "serving-mobilenet")["spec"]["selector"] = {"app.kubernetes.io/name": "mobilenet"}


def _wrong_workload_selector(documents):
    _named(documents, "Deployment", "stacker")["spec"]["selector"]["matchLabels"] = {"app.kubernetes.io/name": "x"}


def _greedy_selector(documents):
    labels = {"app.kubernetes.io/part-of": "lesionlens"}
    _named(documents, "Deployment", "stacker")["spec"]["selector"]["matchLabels"] = labels


def _wrong_port(documents):
    _named(documents, "Service", "gateway")["spec"]["ports"][0]["targetPort"] = "web"


def _wrong_probe_port(documents):
    _gateway(documents)["containers"][0]["readinessProbe"]["httpGet"]["port"] = 8080


def _wrong_probe_path(documents):
    _gateway(documents)["containers"][0]["livenessProbe"]["httpGet"]["path"] = "/health"


def _wrong_probe_script(documents):
    pod = _named(documents, "Deployment", "stacker")["spec"]["template"]["spec"]
    pod["containers"][0]["livenessProbe"]["exec"]["command"] = ["python", "-m", "services.analysis.health"]


def _missing_key(documents):
    volume = _gateway(documents)["volumes"][0]
    volume["secret"]["items"][0]["key"] = "database_uri"


def _unmounted_secret(documents):
    del _gateway(documents)["volumes"][0]["secret"]["items"][0]


def _missing_config(documents):
    _gateway(documents)["containers"][0]["envFrom"][0]["configMapRef"]["name"] = "setting"


def _missing_volume(documents):
    del _gateway(documents)["volumes"][1]


def _missing_claim(documents):
    documents[:] = [d for d in documents if d["metadata"]["name"] != "uploads"]


def _bad_quantity(documents):
    _gateway(documents)["containers"][0]["resources"]["limits"]["memory"] = "768MB"


def _more_than_allowed(documents):
    _gateway(documents)["containers"][0]["resources"]["requests"]["cpu"] = "2"


def _no_limit(documents):
    del _gateway(documents)["containers"][0]["resources"]["limits"]["memory"]


def _bad_name(documents):
    _named(documents, "Service", "gateway")["metadata"]["name"] = "Gateway_1"


def _twice(documents):
    documents.append(_named(documents, "Service", "gateway"))


def _root(documents):
    _gateway(documents)["securityContext"]["runAsNonRoot"] = False


def _writable(documents):
    _gateway(documents)["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = False


def _token(documents):
    del _gateway(documents)["automountServiceAccountToken"]


def _unpinned(documents):
    _gateway(documents)["containers"][0]["image"] = "lesionlens/gateway:latest"


def _other_image(documents):
    pod = _named(documents, "StatefulSet", "redis")["spec"]["template"]["spec"]
    pod["containers"][0]["image"] = "redis:6"


def _wrong_address(documents):
    (config,) = [d for d in documents if d["kind"] == "ConfigMap"]
    config["data"]["MOBILENET_SERVING_URL"] = "dns:///serving-mobilenet:9000"


def _blind_policy(documents):
    _named(documents, "NetworkPolicy", "into-redis")["spec"]["podSelector"]["matchLabels"] = {"app": "redis"}


def _wrong_module(documents):
    pod = _named(documents, "Job", "migrate")["spec"]["template"]["spec"]
    pod["containers"][0]["command"] = ["python", "-m", "lesionlens.migration"]


def _missing_key_of_a_secret(documents):
    wanted = {"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "lesionlens", "key": "database"}}}
    _gateway(documents)["containers"][0]["env"] = [wanted]


def _missing_key_of_a_config(documents):
    (config,) = checks.of_kind(documents, "ConfigMap")
    wanted = {"name": "PORT", "valueFrom": {"configMapKeyRef": {"name": config["metadata"]["name"], "key": "PORTS"}}}
    _gateway(documents)["containers"][0]["env"] = [wanted]


def _missing_key_of_a_config_volume(documents):
    (config,) = checks.of_kind(documents, "ConfigMap")
    items = [{"key": "stack.json", "path": "stack.json"}]
    _gateway(documents)["volumes"].append(
        {"name": "stack", "configMap": {"name": config["metadata"]["name"], "items": items}}
    )


def _one_address(documents):
    del _named(documents, "Service", "serving-mobilenet")["spec"]["clusterIP"]


def _open_house(documents):
    documents[:] = [d for d in documents if d["metadata"]["name"] != "deny-all"]


def _unrestricted(documents):
    _named(documents, "Namespace", "lesionlens")["metadata"]["labels"] = {}


def _restarted_for_others(documents):
    pod = _named(documents, "Deployment", "stacker")["spec"]["template"]["spec"]
    pod["containers"][0]["livenessProbe"]["exec"]["command"].append("--database")


def _wrong_account(documents):
    _gateway(documents)["serviceAccountName"] = "default2"


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (_wrong_selector, "Service serving-mobilenet: its selector matches nothing"),
        (_wrong_workload_selector, "Deployment stacker: its selector does not match its pods"),
        (_greedy_selector, "Deployment stacker: its selector matches pods of others"),
        (_wrong_port, "Service gateway: no container has the port web"),
        (_wrong_probe_port, "gateway: readinessProbe: the container has no port 8080"),
        (_wrong_probe_path, "gateway: livenessProbe: the application has no /health"),
        (_wrong_probe_script, "stacker: livenessProbe: there is no {'services.analysis.health'}"),
        (_missing_key, "gateway: the secret lesionlens has no key database_uri"),
        (_unmounted_secret, "which is not mounted"),
        (_missing_config, "gateway: no config map setting"),
        (_missing_volume, "gateway: mounts volumes that it does not have: ['tmp']"),
        (_missing_claim, "no claim uploads"),
        (_bad_quantity, "gateway: memory: not a quantity"),
        (_more_than_allowed, "gateway: cpu: asks for more than it may use"),
        (_no_limit, "gateway: memory: not a quantity, or missing"),
        (_bad_name, "Service Gateway_1: not a valid name"),
        (_twice, "Service gateway: defined twice"),
        (_root, "gateway: is not restricted"),
        (_writable, "gateway: a container is not restricted"),
        (_token, "gateway: gets a token"),
        (_unpinned, "gateway: the image lesionlens/gateway:latest is not pinned"),
        (_other_image, "redis: the image redis:6 is none that compose"),
        (_wrong_address, "MOBILENET_SERVING_URL: no service serving-mobilenet with the port 9000"),
        (_blind_policy, "NetworkPolicy into-redis: its selector matches nothing"),
        (_wrong_module, "migrate: the application has no lesionlens.migration to run"),
        (_wrong_account, "gateway: no service account default2"),
        (_missing_key_of_a_secret, "gateway: the secret lesionlens has no key database"),
        (_missing_key_of_a_config, "has no key PORTS"),
        (_missing_key_of_a_config_volume, "has no key stack.json"),
        (_one_address, "MOBILENET_SERVING_URL: its callers see one address, not every replica"),
        (_open_house, "NetworkPolicy: none denies what no other one allows"),
        (_unrestricted, "Namespace lesionlens: pods are not held to `restricted`"),
        (_restarted_for_others, "stacker: livenessProbe: asks for more than this process"),
    ],
)
def test_a_planted_mistake_is_caught(minimal, around, plant: Callable[[Any], None], sentence: str) -> None:
    documents = copy.deepcopy(minimal)

    plant(documents)

    found = checks.findings(documents, around)
    assert any(sentence in line for line in found), found


def test_a_planted_mistake_in_the_ingress_is_caught(production, around) -> None:
    documents = copy.deepcopy(production)
    paths = _named(documents, "Ingress", "gateway")["spec"]["rules"][0]["http"]["paths"]
    paths[:] = [paths[0] | {"pathType": "Prefix"}]
    assert "Ingress: /metrics is for operators, and can be reached" in checks.findings(documents, around)

    paths[:] = [paths[0] | {"path": "/v1"}]
    assert "Ingress: /docs cannot be reached" in checks.findings(documents, around)


def test_a_planted_mistake_in_the_scaling_is_caught(production, around) -> None:
    documents = copy.deepcopy(production)
    _named(documents, "HorizontalPodAutoscaler", "stacker")["spec"]["scaleTargetRef"]["name"] = "stack"
    _named(documents, "PodDisruptionBudget", "stacker")["spec"]["selector"]["matchLabels"] = {"app": "stacker"}

    found = checks.findings(documents, around)

    assert "HorizontalPodAutoscaler stacker: it scales what does not exist" in found
    assert "PodDisruptionBudget stacker: its selector matches nothing" in found


def test_a_planted_mistake_in_the_backup_is_caught(production, around) -> None:
    documents = copy.deepcopy(production)
    pod = _named(documents, "CronJob", "backup")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    pod["containers"][0]["command"][-1] = "python -m lesionlens.dump /backups/x"
    pod["volumes"][0]["persistentVolumeClaim"]["claimName"] = "backup"
    _named(documents, "NetworkPolicy", "to-postgres")["spec"]["podSelector"]["matchExpressions"][0]["values"] = [
        "gateway"
    ]

    assert {line for line in checks.findings(documents, around) if line.startswith("backup")} == {
        "backup: the application has no lesionlens.dump to run",
        "backup: no claim backup",
    }
    assert not checks.may_leave(documents, "backup", 5432)


@pytest.fixture(scope="module")
def by_backlog() -> list[dict[str, Any]]:
    return _render("production-keda")


def test_workers_are_scaled_by_the_backlog_or_the_processor_and_not_by_both(by_backlog, production) -> None:
    def scaled(documents: list[dict[str, Any]], kind: str) -> set[str]:
        return {d["metadata"]["name"] for d in checks.of_kind(documents, kind)}

    workers = {"preprocessor", "stacker"}
    assert scaled(by_backlog, "ScaledObject") == workers
    assert not scaled(by_backlog, "HorizontalPodAutoscaler") & workers
    assert scaled(production, "HorizontalPodAutoscaler") >= workers
    assert not scaled(production, "ScaledObject")


def test_the_record_answers_what_the_scaling_asks(by_backlog, engine) -> None:
    with engine.connect() as connection:
        for scaler in checks.of_kind(by_backlog, "ScaledObject"):
            for trigger in scaler["spec"]["triggers"]:
                assert float(connection.execute(text(trigger["metadata"]["query"])).scalar_one()) == 0


def test_a_planted_mistake_in_the_scaling_by_backlog_is_caught(by_backlog, around) -> None:
    documents = copy.deepcopy(by_backlog)
    _named(documents, "TriggerAuthentication", "record")["spec"]["secretTargetRef"][0]["key"] = "database"
    spec = _named(documents, "ScaledObject", "stacker")["spec"]
    spec["scaleTargetRef"]["name"], spec["minReplicaCount"], spec["maxReplicas"] = "gateway", 9, 5
    spec["triggers"][0]["authenticationRef"]["name"] = "nobody"

    assert {line for line in checks.findings(documents, around) if line.startswith(("Scaled", "Trigger"))} == {
        "TriggerAuthentication: the secret lesionlens has no key database",
        "ScaledObject stacker: KEDA has no ['maxReplicas']",
        "ScaledObject stacker: an autoscaler scales gateway too",
        "ScaledObject stacker: it cannot have between 9 and 4 replicas",
        "ScaledObject stacker: no login nobody",
    }


@pytest.mark.parametrize(
    ("kind", "removed"),
    [
        ("Deployment", "extensions/v1beta1"),
        ("PodDisruptionBudget", "policy/v1beta1"),
        ("HorizontalPodAutoscaler", "autoscaling/v2beta2"),
        ("CronJob", "batch/v1beta1"),
        ("Ingress", "networking.k8s.io/v1beta1"),
    ],
)
def test_a_removed_api_version_is_caught_in_the_manifests_themselves(production, kind: str, removed: str) -> None:
    document = checks.of_kind(production, kind)[0]

    for version in VERSIONS:
        with pytest.raises((kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError)):
            kubernetes_validate.validate({**document, "apiVersion": removed}, version, strict=True)


@pytest.mark.parametrize(
    "document",
    [
        {"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": {"name": "x"}, "spec": {}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"port": []}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replicas": "two"}},
    ],
    ids=["removed API version", "unknown field", "wrong type"],
)
def test_a_planted_mistake_is_caught_by_the_schema(document) -> None:
    with pytest.raises((kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError)):
        kubernetes_validate.validate(document, VERSIONS[0], strict=True)
