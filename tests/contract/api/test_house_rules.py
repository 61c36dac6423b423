"""Rules for every route, read from the source so that none is forgotten."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import services.gateway
from services.gateway.policy import POLLS, UNLIMITED, UPLOADS, policy_of
from services.gateway.rate_limits import limit_in_force

GATEWAY = Path(services.gateway.__file__).parent
SOURCES = sorted(GATEWAY.rglob("*.py"))
NAMED_LIMITS = {UPLOADS, POLLS, UNLIMITED}


def decorators(function):
    for decorator in function.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        yield target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", ""), decorator


def route_functions(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            names = dict(decorators(node))
            if names.keys() & {"route", "get", "post", "put", "patch", "delete"}:
                yield node, names


ROUTES = [
    pytest.param(node, names, id=f"{path.relative_to(GATEWAY)}:{node.name}")
    for path in SOURCES
    for node, names in route_functions(path)
]


def test_there_are_routes_to_check():
    assert len(ROUTES) >= 20


@pytest.mark.parametrize(("node", "names"), ROUTES)
def test_every_route_states_who_may_call_it_and_how_often(node, names):
    assert "route_policy" in names, f"{node.name} states no policy"
    assert {keyword.arg for keyword in names["route_policy"].keywords} == {"auth", "limit"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(GATEWAY)))
def test_no_source_prints_or_swallows(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None


def test_every_view_of_the_application_has_a_limit_that_can_be_enforced(app):
    settings = app.extensions["lesionlens"].settings
    for endpoint, view in app.view_functions.items():
        policy = policy_of(view)
        assert policy is not None, endpoint
        assert policy.auth in {"public", "capability", "operator", "key"}
        limit = limit_in_force(policy.limit, settings)
        assert (limit is None) == (policy.limit == UNLIMITED)


def test_routes_with_an_id_in_them_ask_for_the_capability(app):
    for rule in app.url_map.iter_rules():
        if "id" in " ".join(rule.arguments):
            # The id of a webhook is no secret: it is there for the API key that made it, and for nobody else.
            asked = "key" if rule.endpoint.startswith("webhooks.") else "capability"
            assert policy_of(app.view_functions[rule.endpoint]).auth == asked, rule


def test_probes_are_never_limited(app):
    for endpoint in ("operations.healthz", "operations.readyz", "operations.metrics"):
        assert policy_of(app.view_functions[endpoint]).limit == UNLIMITED
