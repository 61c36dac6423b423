"""The OpenAPI document says all that the gateway does, and nothing else."""

from __future__ import annotations

import re

import pytest

from services.gateway.problems import PROBLEM_JSON, problem_types


@pytest.fixture
def document(client):
    return client.get("/openapi.json").json


def api_rules(app):
    blueprints = app.extensions["flask-smorest"]["blp_name_to_api"]
    return [rule for rule in app.url_map.iter_rules() if rule.endpoint.split(".")[0] in blueprints]


def routes(app):
    return {
        (method.lower(), re.sub(r"<(?:[^:>]*:)?([^>]*)>", r"{\1}", rule.rule))
        for rule in api_rules(app)
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }


def operations(document):
    return {
        (method, path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in {"get", "post", "put", "patch", "delete"}
    }


def test_it_is_openapi_3_1(document):
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "LesionLens"


def test_every_route_is_described_and_every_description_has_a_route(app, document):
    assert set(operations(document)) == routes(app)


def test_nothing_under_v1_is_outside_the_api(app):
    described = {rule.endpoint for rule in api_rules(app)}
    for rule in app.url_map.iter_rules():
        assert rule.endpoint in described or not rule.rule.startswith("/v1"), rule


def test_every_operation_explains_itself(document):
    for name, operation in operations(document).items():
        assert operation["summary"], name
        assert operation["tags"], name
        for status, response in operation["responses"].items():
            assert response["description"], (name, status)


def test_every_error_is_described_as_a_problem(document):
    for (method, path), operation in operations(document).items():
        for status, response in operation["responses"].items():
            if int(status) >= 400 and (path, status) != ("/readyz", "503"):
                assert list(response["content"]) == [PROBLEM_JSON], (method, path, status)
        assert {"429", "500"} <= set(operation["responses"])


def test_every_path_parameter_is_described(document):
    for path, item in document["paths"].items():
        named = set(re.findall(r"{(\w+)}", path))
        described = {parameter["name"] for parameter in item.get("parameters", ()) if parameter["in"] == "path"}
        assert described == named


def test_every_operation_has_a_name_of_its_own_and_every_link_leads_to_one(document):
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(names)) == len(names)
    links = [
        link
        for operation in operations(document).values()
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    ]
    assert links
    assert {link["operationId"] for link in links} <= set(names)


def test_every_reference_leads_somewhere(document):
    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    def leads_somewhere(reference):
        node = document
        for part in reference.removeprefix("#/").split("/"):
            if not isinstance(node, dict) or part not in node:
                return False
            node = node[part]
        return bool(node)

    found = set(references(document))
    assert "#/components/schemas/Problem" in found
    assert [reference for reference in sorted(found) if not leads_somewhere(reference)] == []
    assert not leads_somewhere("#/components/schemas/NotThere")


def test_every_problem_type_is_listed_and_has_its_page(client, document):
    listed = {entry["type"] for entry in document["x-problem-types"]}
    assert listed == {f"/problems/{kind.slug}" for kind in problem_types().values() if kind.status != 500}
    for kind in problem_types().values():
        page = client.get(f"/problems/{kind.slug}")
        assert page.status_code == 200
        assert kind.title.replace("’", "&#39;") in page.text


def test_the_reference_names_every_route(app, client):
    page = client.get("/docs")
    assert page.content_type.startswith("text/html")
    for method, path in routes(app):
        assert f"{method.upper()} {path}" in page.text
    assert "is <code>application/problem+json</code> (RFC 9457)" in page.text
    assert "<script" not in page.text
    assert "<style" not in page.text
    assert "http://" not in page.text
