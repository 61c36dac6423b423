"""What no schema can say about manifests: that their parts fit one another, the compose file and the application.

Every function takes rendered documents and returns sentences, one for each thing that does not fit.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Document = dict[str, Any]

_WORKLOADS = ("Deployment", "StatefulSet", "Job", "CronJob")
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
_FACTORS = {
    None: Decimal(1),
    "m": Decimal("0.001"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGT", 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGT", 1)},
}
#: https://keda.sh/docs/2.16/reference/scaledobject-spec/, as far as it is used here.
_SCALED_OBJECT_FIELDS = frozenset(
    {
        "scaleTargetRef",
        "minReplicaCount",
        "maxReplicaCount",
        "pollingInterval",
        "cooldownPeriod",
        "fallback",
        "triggers",
    }
)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the manifests have to fit: the keys of Secrets made by hand, images by name, routes of the application."""

    secret_keys: Mapping[str, frozenset[str]]
    images: frozenset[str]
    public_routes: frozenset[str]
    operator_routes: frozenset[str]
    scripts: frozenset[str]
    modules: frozenset[str]


def findings(documents: Sequence[Document], around: Surroundings) -> list[str]:
    """Everything that does not fit."""
    found = [*_names(documents), *_selectors(documents), *_services(documents), *_references(documents, around)]
    found += _namespace(documents)
    for owner, pod in pods(documents):
        found += [f"{owner}: {sentence}" for sentence in _pod(pod, documents, around)]
    return found + list(_scaled_by_backlog(documents, around)) + list(_routes(documents, around))


def of_kind(documents: Sequence[Document], *kinds: str) -> list[Document]:
    """The documents of these kinds."""
    return [document for document in documents if document["kind"] in kinds]


def pods(documents: Sequence[Document]) -> Iterator[tuple[str, Document]]:
    """Name of the workload and its pod template."""
    for document in of_kind(documents, *_WORKLOADS):
        spec = document["spec"]["jobTemplate"]["spec"] if document["kind"] == "CronJob" else document["spec"]
        yield document["metadata"]["name"], spec["template"]


def quantity(text: object) -> Decimal | None:
    """A quantity as a number; None when it is none."""
    found = _QUANTITY.fullmatch(str(text))
    return Decimal(found[1]) * _FACTORS[found[2]] if found else None


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector means a pod with these labels."""
    exact = selector.get("matchLabels", {})
    return all(labels.get(key) == value for key, value in exact.items()) and all(
        expression["operator"] == "In" and labels.get(expression["key"]) in expression["values"]
        for expression in selector.get("matchExpressions", [])
    )


def may_talk(documents: Sequence[Document], source: str, target: str, port: int) -> bool:
    """Whether the network policies let a pod of workload `source` reach `port` of a pod of workload `target`."""
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(documents)}
    policies = of_kind(documents, "NetworkPolicy")
    return all(
        _lets(policies, direction, labels[here], labels[there], port)
        for direction, here, there in (("egress", source, target), ("ingress", target, source))
    )


def may_leave(documents: Sequence[Document], source: str, port: int, address: str = "203.0.113.9") -> bool:
    """Whether the network policies let a pod of workload `source` reach `port` of `address`, outside the cluster."""
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(documents)}
    return any(
        port in {entry["port"] for entry in rule.get("ports", [])} and any(_means(peer, address) for peer in rule["to"])
        for policy in of_kind(documents, "NetworkPolicy")
        if selects(policy["spec"]["podSelector"], labels[source])
        for rule in policy["spec"].get("egress", [])
    )


def _means(peer: Document, address: str) -> bool:
    """Whether a peer of a policy is a block of addresses with this one in it."""
    block = peer.get("ipBlock")
    return (
        block is not None
        and _within(address, block["cidr"])
        and not any(_within(address, left_out) for left_out in block.get("except", []))
    )


def _within(address: str, network: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


def _lets(
    policies: Sequence[Document], direction: str, here: Mapping[str, str], there: Mapping[str, str], port: int
) -> bool:
    field = {"egress": "to", "ingress": "from"}[direction]
    binding = [
        policy["spec"]
        for policy in policies
        if direction.capitalize() in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], here)
    ]
    if not binding:
        return True
    return any(
        port in {entry["port"] for entry in rule.get("ports", [{"port": port}])}
        and any("podSelector" in peer and selects(peer["podSelector"], there) for peer in rule.get(field, []))
        for spec in binding
        for rule in spec.get(direction, [])
    )


def _names(documents: Sequence[Document]) -> Iterator[str]:
    seen = set()
    for document in documents:
        name = document["metadata"]["name"]
        if not _NAME.fullmatch(name):
            yield f"{document['kind']} {name}: not a valid name"
        if (document["kind"], name) in seen:
            yield f"{document['kind']} {name}: defined twice"
        seen.add((document["kind"], name))


def _selectors(documents: Sequence[Document]) -> Iterator[str]:
    labels = [pod["metadata"].get("labels", {}) for _, pod in pods(documents)]
    for document in of_kind(documents, "Deployment", "StatefulSet"):
        name = document["metadata"]["name"]
        template = document["spec"]["template"]["metadata"]["labels"]
        if not selects(document["spec"]["selector"], template):
            yield f"{document['kind']} {name}: its selector does not match its pods"
        if sum(selects(document["spec"]["selector"], other) for other in labels) > 1:
            yield f"{document['kind']} {name}: its selector matches pods of others"
    for document in of_kind(documents, "PodDisruptionBudget", "NetworkPolicy"):
        key = "selector" if document["kind"] == "PodDisruptionBudget" else "podSelector"
        if not any(selects(document["spec"][key], other) for other in labels):
            yield f"{document['kind']} {document['metadata']['name']}: its selector matches nothing"
    workloads = {(document["kind"], document["metadata"]["name"]) for document in of_kind(documents, *_WORKLOADS)}
    for scaler in of_kind(documents, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) not in workloads:
            yield f"HorizontalPodAutoscaler {scaler['metadata']['name']}: it scales what does not exist"


def _scaled_by_backlog(documents: Sequence[Document], around: Surroundings) -> Iterator[str]:
    """KEDA's resources, for which no schema is at hand: the fields used here, and what they refer to."""
    workloads = {(document["kind"], document["metadata"]["name"]) for document in of_kind(documents, *_WORKLOADS)}
    scaled = [h["spec"]["scaleTargetRef"]["name"] for h in of_kind(documents, "HorizontalPodAutoscaler")]
    logins = of_kind(documents, "TriggerAuthentication")
    for login in logins:
        for source in login["spec"]["secretTargetRef"]:
            if source["key"] not in around.secret_keys.get(source["name"], frozenset()):
                yield f"TriggerAuthentication: the secret {source['name']} has no key {source['key']}"
    for scaler in of_kind(documents, "ScaledObject"):
        name, spec = f"ScaledObject {scaler['metadata']['name']}", scaler["spec"]
        target = spec["scaleTargetRef"]
        if unknown := set(spec) - _SCALED_OBJECT_FIELDS:
            yield f"{name}: KEDA has no {sorted(unknown)}"
        if (target["kind"], target["name"]) not in workloads:
            yield f"{name}: it scales what does not exist"
        if target["name"] in scaled:
            yield f"{name}: an autoscaler scales {target['name']} too"
        if not 0 < spec["minReplicaCount"] <= spec["maxReplicaCount"]:
            yield f"{name}: it cannot have between {spec['minReplicaCount']} and {spec['maxReplicaCount']} replicas"
        for trigger in spec["triggers"]:
            if trigger["authenticationRef"]["name"] not in {login["metadata"]["name"] for login in logins}:
                yield f"{name}: no login {trigger['authenticationRef']['name']}"
            values = trigger["metadata"]
            if trigger["type"] != "postgresql" or not all(isinstance(value, str) for value in values.values()):
                yield f"{name}: a trigger is not as KEDA wants it"


def _namespace(documents: Sequence[Document]) -> Iterator[str]:
    """What stands around all pods: what a pod may do at all, and that nobody talks to anybody who is not named."""
    for namespace in of_kind(documents, "Namespace"):
        if namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"Namespace {namespace['metadata']['name']}: pods are not held to `restricted`"
    everybody = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if not any(policy["spec"] == everybody for policy in of_kind(documents, "NetworkPolicy")):
        yield "NetworkPolicy: none denies what no other one allows"


def _services(documents: Sequence[Document]) -> Iterator[str]:
    services = {service["metadata"]["name"]: service["spec"] for service in of_kind(documents, "Service")}
    for name, spec in services.items():
        matched = [
            pod
            for _, pod in pods(documents)
            if selects({"matchLabels": spec["selector"]}, pod["metadata"].get("labels", {}))
        ]
        if not matched:
            yield f"Service {name}: its selector matches nothing"
        for port in spec["ports"]:
            if not all(port["targetPort"] in _ports(pod) for pod in matched):
                yield f"Service {name}: no container has the port {port['targetPort']}"
    for ingress in of_kind(documents, "Ingress"):
        for path in _paths(ingress):
            backend = path["backend"]["service"]
            ports = {port["name"] for port in services.get(backend["name"], {"ports": []})["ports"]}
            if backend["port"]["name"] not in ports:
                yield f"Ingress {ingress['metadata']['name']}: no service {backend['name']} with such a port"
    yield from _addresses(documents, services)


def _addresses(documents: Sequence[Document], services: Mapping[str, Document]) -> Iterator[str]:
    """Where the networks are looked up."""
    for config in of_kind(documents, "ConfigMap"):
        for key, value in config["data"].items():
            if key.endswith("_SERVING_URL"):
                name, _, port = value.removeprefix("dns:///").partition(":")
                if int(port) not in {entry["port"] for entry in services.get(name, {"ports": []})["ports"]}:
                    yield f"{key}: no service {name} with the port {port}"
                elif not value.startswith("dns:///") or services[name].get("clusterIP") != "None":
                    # One connection is kept open, so one address would keep it at one replica.
                    yield f"{key}: its callers see one address, not every replica"


def _references(documents: Sequence[Document], around: Surroundings) -> Iterator[str]:
    configs = {config["metadata"]["name"]: set(config["data"]) for config in of_kind(documents, "ConfigMap")}
    claims = {claim["metadata"]["name"] for claim in of_kind(documents, "PersistentVolumeClaim")}
    accounts = {account["metadata"]["name"] for account in of_kind(documents, "ServiceAccount")}
    priorities = {priority["metadata"]["name"] for priority in of_kind(documents, "PriorityClass")}
    for owner, pod in pods(documents):
        spec = pod["spec"]
        if spec.get("serviceAccountName") not in accounts:
            yield f"{owner}: no service account {spec.get('serviceAccountName')}"
        if spec.get("priorityClassName", None) not in {None, *priorities}:
            yield f"{owner}: no priority class {spec['priorityClassName']}"
        for volume in spec.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and claim not in claims:
                yield f"{owner}: no claim {claim}"
            yield from _mounted(owner, volume, configs, around)
        for container in spec["containers"]:
            for source in container.get("envFrom", []):
                yield from _source(owner, source, configs, around)
            for entry in container.get("env", []):
                yield from _value(owner, entry.get("valueFrom", {}), configs, around)


def _mounted(owner: str, volume: Document, configs: Mapping[str, set[str]], around: Surroundings) -> Iterator[str]:
    secret = volume.get("secret", {"secretName": "", "items": []})
    for item in secret["items"]:
        if item["key"] not in around.secret_keys.get(secret["secretName"], frozenset()):
            yield f"{owner}: the secret {secret['secretName']} has no key {item['key']}"
    config = volume.get("configMap", {"name": "", "items": []})
    for item in config.get("items", []):
        if item["key"] not in configs.get(config["name"], set()):
            yield f"{owner}: the config map {config['name']} has no key {item['key']}"


def _value(owner: str, source: Document, configs: Mapping[str, set[str]], around: Surroundings) -> Iterator[str]:
    for kind, known in (("configMapKeyRef", configs), ("secretKeyRef", around.secret_keys)):
        if kind in source and source[kind]["key"] not in known.get(source[kind]["name"], set()):
            what = {"configMapKeyRef": "config map", "secretKeyRef": "secret"}[kind]
            yield f"{owner}: the {what} {source[kind]['name']} has no key {source[kind]['key']}"


def _source(owner: str, source: Document, configs: Mapping[str, set[str]], around: Surroundings) -> Iterator[str]:
    if "configMapRef" in source and source["configMapRef"]["name"] not in configs:
        yield f"{owner}: no config map {source['configMapRef']['name']}"
    if "secretRef" in source and source["secretRef"]["name"] not in around.secret_keys:
        yield f"{owner}: no secret {source['secretRef']['name']}"


def _pod(pod: Document, documents: Sequence[Document], around: Surroundings) -> Iterator[str]:
    spec = pod["spec"]
    if spec.get("automountServiceAccountToken") is not False:
        yield "gets a token of the cluster"
    security = spec.get("securityContext", {})
    if not (security.get("runAsNonRoot") and security.get("seccompProfile") == {"type": "RuntimeDefault"}):
        yield "is not restricted (runAsNonRoot, seccompProfile)"
    mounts = {mount["name"]: mount["mountPath"] for c in spec["containers"] for mount in c.get("volumeMounts", [])}
    claimed = {
        template["metadata"]["name"]
        for state in of_kind(documents, "StatefulSet")
        if state["spec"]["template"] is pod
        for template in state["spec"]["volumeClaimTemplates"]
    }
    if missing := set(mounts) - {volume["name"] for volume in spec.get("volumes", [])} - claimed:
        yield f"mounts volumes that it does not have: {sorted(missing)}"
    files = {
        f"{mounts[volume['name']]}/{item['path']}"
        for volume in spec.get("volumes", [])
        if "secret" in volume and volume["name"] in mounts
        for item in volume["secret"]["items"]
    }
    for container in spec["containers"]:
        yield from _container(container, around)
        for name, value in _environment(container, documents).items():
            if name.endswith("_FILE") and value not in files:
                yield f"{name} names {value}, which is not mounted"


def _container(container: Document, around: Surroundings) -> Iterator[str]:
    security = container.get("securityContext", {})
    if (
        security.get("allowPrivilegeEscalation") is not False
        or security.get("capabilities") != {"drop": ["ALL"]}
        or security.get("readOnlyRootFilesystem") is not True
    ):
        yield "a container is not restricted (privileges, capabilities, root file system)"
    name, _, tag = container["image"].partition(":")
    if not tag or tag == "latest":
        yield f"the image {container['image']} is not pinned"
    if (name if name.startswith("lesionlens/") else container["image"]) not in around.images:
        yield f"the image {container['image']} is none that compose or the Dockerfiles know"
    said = " ".join(container.get("command", []))
    for module in re.findall(r"\bpython -m (\S+)", said):
        if module not in around.modules:
            yield f"the application has no {module} to run"
    yield from _resources(container.get("resources", {}))
    yield from _probes(container, around)


def _probes(container: Document, around: Surroundings) -> Iterator[str]:
    ports = {key for port in container.get("ports", []) for key in (port["name"], port["containerPort"])}
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container.get(kind, {})
        for how in ("httpGet", "tcpSocket", "grpc"):
            if how in probe and probe[how]["port"] not in ports:
                yield f"{kind}: the container has no port {probe[how]['port']}"
        if "httpGet" in probe and probe["httpGet"]["path"] not in around.operator_routes:
            yield f"{kind}: the application has no {probe['httpGet']['path']}"
        command = probe.get("exec", {}).get("command", [])
        scripts = {word for word in command if word.startswith(("services.", "/etc/"))}
        if missing := scripts - around.scripts:
            yield f"{kind}: there is no {missing}"
    # A restart brings back neither a database nor a network: only readiness may ask what stands behind a process.
    for kind in ("startupProbe", "livenessProbe"):
        asked = {container.get(kind, {}).get("httpGet", {}).get("path"), *_command(container, kind)}
        if asked & {"/readyz", "--database"}:
            yield f"{kind}: asks for more than this process"


def _command(container: Document, probe: str) -> list[str]:
    command: list[str] = container.get(probe, {}).get("exec", {}).get("command", [])
    return command


def _resources(resources: Document) -> Iterator[str]:
    for resource in ("cpu", "memory"):
        least, most = (quantity(resources.get(kind, {}).get(resource)) for kind in ("requests", "limits"))
        if least is None or most is None:
            yield f"{resource}: not a quantity, or missing, in requests or limits"
        elif least > most:
            yield f"{resource}: asks for more than it may use"


def _environment(container: Document, documents: Sequence[Document]) -> dict[str, str]:
    configs = {config["metadata"]["name"]: config["data"] for config in of_kind(documents, "ConfigMap")}
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            variables |= configs.get(source["configMapRef"]["name"], {})
    return variables | {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}


def _routes(documents: Sequence[Document], around: Surroundings) -> Iterator[str]:
    for ingress in of_kind(documents, "Ingress"):
        paths = [(path["path"], path["pathType"]) for path in _paths(ingress)]
        for route in sorted(around.public_routes):
            if not _reached(route, paths):
                yield f"Ingress: {route} cannot be reached"
        for route in sorted(around.operator_routes):
            if _reached(route, paths):
                yield f"Ingress: {route} is for operators, and can be reached"


def _reached(route: str, paths: Sequence[tuple[str, str]]) -> bool:
    return any(route == path or (kind == "Prefix" and route.startswith(f"{path.rstrip('/')}/")) for path, kind in paths)


def _paths(ingress: Document) -> Iterator[Document]:
    for rule in ingress["spec"]["rules"]:
        yield from rule["http"]["paths"]


def _ports(pod: Document) -> set[object]:
    return {
        key
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
        for key in (port["name"], port["containerPort"])
    }
